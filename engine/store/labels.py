"""What a person keeps with an experiment beside its results: notes and tags, and whether it is out of sight."""

import json
import re
import shlex
import sqlite3
from collections.abc import Collection

from engine.errors import InputError
from engine.store.claims import WANTED
from engine.store.database import transaction

_TAG = re.compile(r"\w[\w./-]*")


def annotate(
    connection: sqlite3.Connection,
    experiment: int,
    *,
    notes: str | None = None,
    tags: Collection[str] = (),
    untag: Collection[str] = (),
) -> None:
    """Replace the notes of an experiment (empty text removes them), give it tags, and take some away.

    Raises InputError for a tag that is not one word.
    """
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise InputError(f"tag {tag!r} is not one word: give letters, digits, and any of _ . / - after the first")
    with transaction(connection):
        before = connection.execute("SELECT notes, tags FROM experiments WHERE id = ?", (experiment,)).fetchone()
        kept = sorted({*json.loads(before["tags"] or "[]"), *tags} - set(untag))
        connection.execute(
            "UPDATE experiments SET notes = ?, tags = ? WHERE id = ?",
            (before["notes"] if notes is None else notes.strip() or None, json.dumps(kept), experiment),
        )


def archive(connection: sqlite3.Connection, experiment: int, archived: bool) -> None:
    """Put an experiment out of sight, or back. Raises InputError if it has something left to train.

    Whatever gives it work again (resuming, retrying, extending it) brings it back, so that nothing is trained unseen.
    """
    with transaction(connection):
        name, state, left = connection.execute(
            f"""
            SELECT name, state, (SELECT count(*) FROM runs WHERE status IN ('waiting', 'running') AND id IN ({WANTED}))
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
