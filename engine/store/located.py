"""Where a person's own data sets lie: what unfinished runs need and is not there, and recording a new place."""

import sqlite3
from pathlib import Path

from engine.datasets import places
from engine.datasets.catalog import DataSet, split_part
from engine.errors import InputError
from engine.store.leases import WANTED


def lost(connection: sqlite3.Connection, experiment: int | None = None, *, unplaced: bool = False) -> list[InputError]:
    """The error for each file or folder that is not there and that unfinished runs, of an experiment or all, read.

    Only for those `unplaced`, of which no place is known, or also for what is gone from its place.
    """
    of = f"r.id IN ({WANTED})" if experiment is not None else "r.priority IS NOT NULL"
    found = connection.execute(
        f"""
        SELECT DISTINCT d.identity, d.name, d.location FROM runs r JOIN datasets d ON d.identity = r.target_dataset
        WHERE {of} AND r.status <> 'done' AND instr(d.identity, ':') ORDER BY d.name
        """,
        {"experiment": experiment},
    )
    return [
        places.lost(name, identity, location)
        for identity, name, location in found
        if not _is_there(location) and not (unplaced and location)
    ]


def check(connection: sqlite3.Connection, experiment: int) -> None:
    """Raises InputError where unfinished runs of an experiment read a file or folder of which no place is known.

    What is gone from its place may come back (a disk, a network drive), so that is for the caller to say.
    """
    for error in lost(connection, experiment, unplaced=True):
        raise error


def record(connection: sqlite3.Connection, data: DataSet) -> list[str]:
    """Record where a data set lies now, for all parts of it; their names."""
    whole, _ = split_part(data.identity)
    rows = connection.execute(
        "UPDATE datasets SET location = ? WHERE identity = ? OR identity LIKE ? || '-%' RETURNING name",
        (data.location, whole, whole),
    )
    return sorted(row[0] for row in rows)


def _is_there(location: str) -> bool:
    """Whether there is something at a location; a folder's ends with the side that images are resized to."""
    return bool(location) and (Path(location).exists() or Path(location.rpartition("@")[0] or location).exists())
