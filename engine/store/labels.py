"""What a person keeps with an experiment beside its results: notes and tags, and whether it is out of sight."""

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
RESERVED = frozenset(":{}")  # `cockpit diff` has NAME:SCOPE, and experiment files have keys in braces

_TAG = re.compile(r"\w[\w./-]*")


def is_typeable(name: str) -> bool:
    """Whether an experiment's name can be typed, and told apart, in every command."""
    whole = name.strip() and name.isprintable() and not name.startswith("-")
    return bool(whole) and not RESERVED & set(name) and len(name) <= LONGEST_NAME


def typeable(name: str, ending: str = "") -> str:
    """The name of an experiment from elsewhere as it is called here, with an ending; its own wherever that can be."""
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
    """Replace the notes of an experiment (empty text removes them), give it tags, and take some away.

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
    """Put an experiment out of sight, or back. Raises InputError if it has something left to train.

    Whatever gives it work again (resuming, retrying, extending it) brings it back, so that nothing is trained unseen.
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
