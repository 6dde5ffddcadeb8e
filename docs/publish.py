"""A database as a sample to look at, without what only its machine knows: `python docs/publish.py DB SAMPLE`."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from engine.store import database

MARK = "a record of real results: read in place, copied before it is written"


def publish(source: Path, sample: Path) -> None:
    """Copy a database in which nothing is being trained. Ticket files and checkpoints stay behind."""
    database.snapshot(source, sample)
    with closing(sqlite3.connect(sample)) as connection:
        connection.execute("UPDATE runs SET worker = NULL")
        connection.execute("UPDATE attempts SET worker = NULL")
        for table in ("workers", "pools", "loads"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("UPDATE datasets SET location = ''")
        for table in ("experiments", "runs"):  # what followed --db, at the end of a command
            connection.execute(
                f"UPDATE {table} SET command = substr(command, 1, instr(command, ' --db ') - 1)"
                " WHERE instr(command, ' --db ')"
            )
        connection.execute("REPLACE INTO about VALUES ('sample', ?)", (MARK,))
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")


if __name__ == "__main__":
    publish(*map(Path, sys.argv[1:]))
