"""An experiment's notes, tags, and whether it is archived; and which names experiments may have."""

import json
import re
import shlex
import sqlite3
from collections.abc import Collection

from engine.errors import InputError
from engine.store.database import transaction
from engine.store.leases import WANTED
from engine.store.queue import Outcome

LONGEST_NAME = 100  # characters
RESERVED = frozenset(":{}")  # `cockpit diff` reads NAME:SCOPE, and experiment files read keys in braces

_TAG = re.compile(r"\w[\w./-]*")


def is_typeable(name: str) -> bool:
    """Whether every command can read this name of an experiment from its command line."""
    whole = name.strip() and name.isprintable() and not name.startswith("-")
    return bool(whole) and not RESERVED & set(name) and len(name) <= LONGEST_NAME


def typeable(name: str, ending: str = "") -> str:
    """The name with an ending, changed only as much as `is_typeable` demands; for experiments from other databases."""
    plain, end = ("".join(c if c.isprintable() and c not in RESERVED else "_" for c in text) for text in (name, ending))
    end = end[-LONGEST_NAME // 2 :]
    return (plain if plain.strip() and not plain.startswith("-") else f"_{plain}")[: LONGEST_NAME - len(end)] + end


def annotate(
    connection: sqlite3.Connection,
    experiment: int,
    *,
    notes: str | None = None,
    tags: Collection[str] = (),
    untag: Collection[str] = (),
) -> Outcome:
    """Replace an experiment's notes (empty text removes them), add `tags`, and remove those of `untag`.

    Raises InputError for a tag that is not one word.
    """
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise InputError(f"tag {tag!r} is not one word: give letters, digits, and any of _ . / - after the first")
    with transaction(connection):
        before = connection.execute("SELECT notes, tags FROM experiments WHERE id = ?", (experiment,)).fetchone()
        had = json.loads(before["tags"] or "[]")
        kept = sorted({*had, *tags} - set(untag))
        text = before["notes"] if notes is None else notes.strip() or None
        said = [f"tags: {' '.join(kept) or 'none'}"] if kept != had else []
        said += ["notes saved" if text else "notes removed"] if text != before["notes"] else []
        if not said:
            return Outcome(False, "notes and tags are as they were")
        connection.execute(
            "UPDATE experiments SET notes = ?, tags = ? WHERE id = ?", (text, json.dumps(kept), experiment)
        )
    return Outcome(True, ", ".join(said))


def archive(connection: sqlite3.Connection, experiment: int, archived: bool) -> Outcome:
    """Archive or unarchive an experiment. Raises InputError if it has runs left to train and is not cancelled.

    Resuming, retrying or extending an archived experiment unarchives it, so that no hidden experiment trains.
    """
    with transaction(connection):
        name, state, before, left = connection.execute(
            f"""
            SELECT name, state, archived,
                   (SELECT count(*) FROM runs WHERE status IN ('waiting', 'running') AND id IN ({WANTED}))
            FROM experiments WHERE id = :experiment
            """,
            {"experiment": experiment},
        ).fetchone()
        if archived and left and state != "cancelled":
            raise InputError(
                f"{name!r} has {left} {'run' if left == 1 else 'runs'} left to train: wait for it, or give it up first"
                f" with `cockpit queue cancel {shlex.quote(name)}`"
            )
        connection.execute("UPDATE experiments SET archived = ? WHERE id = ?", (archived, experiment))
    where = "archived" if archived else "not archived"
    return Outcome(before != archived, where if before != archived else f"already {where}")
