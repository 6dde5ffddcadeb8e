"""Databases that tests fill, change and check."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.store import care, database, leases, records, rows
from engine.store.care import check
from engine.store.files import Folder
from engine.store.row_types import Experiment

VERSION_1 = Path(__file__).parent / "data" / "version-1.db"
EPOCH = records.Epoch(0, 0.5, 0.9, None, 0.8, 0.1, 1000.0)


def worker(connection: sqlite3.Connection) -> int:
    found = connection.execute(
        "INSERT INTO workers (pid, process_started, host) VALUES (1, 0.0, 'elsewhere')"
    ).lastrowid
    assert found is not None
    return found


def finish(connection: sqlite3.Connection, claim: leases.Claim, accuracy: float) -> None:
    records.start(connection, claim, 1, {"device": "cpu"}, [records.Layer("conv1.weight", 30, 40)])
    records.epoch(connection, claim, 1, EPOCH)
    records.done(connection, claim, accuracy, 0, 1.0)


def query(path: Path, text: str) -> list[tuple[Any, ...]]:
    """What a query finds in a database."""
    with closing(database.reader(path)) as connection:
        return [tuple(row) for row in connection.execute(text)]


def by_name(path: Path) -> dict[str, Experiment]:
    """The experiments of a database, by name."""
    with closing(database.reader(path)) as connection:
        return {row.name: row for row in rows.experiments(connection)}


def exported(path: Path, table: str, experiment: str) -> list[dict[str, Any]]:
    """The rows of an experiment's export, as dicts."""
    with closing(database.reader(path)) as connection:
        heading, found = rows.export(connection, table, experiment)
        return [dict(zip(heading, row, strict=True)) for row in found]


def silently(done: int, total: int) -> None:
    """Show no progress."""


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def checked(path: Path) -> care.Report:
    with closing(database.reader(path)) as connection:
        return check(connection, Folder(database.files_folder(path)), silently)


def ticket_files(path: Path) -> set[str]:
    return {file.path.stem for file in Folder(database.files_folder(path)).tickets()}
