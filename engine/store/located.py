"""The locations of the user's data sets: which of them unfinished runs miss, and recording a new location."""

import sqlite3
from pathlib import Path

from engine.datasets import places
from engine.datasets.catalog import DataSet, split_part
from engine.errors import InputError
from engine.store.leases import WANTED


def lost(connection: sqlite3.Connection, experiment: int | None = None, *, unplaced: bool = False) -> list[InputError]:
    """An error for each missing file or folder that unfinished runs of an experiment, or of all active ones, read.

    With `unplaced`, only for data sets without a recorded location.
    """
    of = f"r.id IN ({WANTED})" if experiment is not None else "r.priority IS NOT NULL"
    needed = connection.execute(
        f"""
        SELECT DISTINCT d.identity, d.name, d.location FROM runs r JOIN datasets d ON d.identity = r.target_dataset
        WHERE {of} AND r.status <> 'done' AND instr(d.identity, ':') ORDER BY d.name
        """,
        {"experiment": experiment},
    )
    return [
        places.lost(name, identity, location)
        for identity, name, location in needed
        if not _exists(location) and not (unplaced and location)
    ]


def check(connection: sqlite3.Connection, experiment: int) -> None:
    """Raise InputError if unfinished runs of an experiment read a data set without a recorded location.

    A file that is missing from its location may come back (a disk, a network drive): callers check that themselves.
    """
    for error in lost(connection, experiment, unplaced=True):
        raise error


def record(connection: sqlite3.Connection, data: DataSet) -> list[str]:
    """Record a data set's location for all its parts; returns their names, sorted."""
    whole, _ = split_part(data.identity)
    rows = connection.execute(
        "UPDATE datasets SET location = ? WHERE identity = ? OR identity LIKE ? || '-%' RETURNING name",
        (data.location, whole, whole),
    )
    return sorted(row[0] for row in rows)


def _exists(location: str) -> bool:
    """Whether the file or folder of a location exists; a folder's location may end in @SIDE, its image size."""
    return bool(location) and (Path(location).exists() or Path(location.rpartition("@")[0] or location).exists())
