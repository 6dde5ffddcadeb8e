"""Locks on a database that other processes write to without pause, and keeping its log short meanwhile."""

import sqlite3
import time
from pathlib import Path
from typing import Any

ASK_SECONDS = 0.001, 0.004  # range of the random pause between two attempts at a lock
LOG_BYTES = 16 * 2**20  # largest write-ahead log before it is emptied: four times the length SQLite aims at
LOG_PATIENCE_SECONDS = 2.0  # longest wait for readers while emptying it
LOG_ATTEMPT_MILLISECONDS = 100


class Waiting(sqlite3.Connection):
    """A connection that asks for a lock every few milliseconds, at random, for `patience` seconds.

    SQLite asks ten times a second. A process that writes without pause frees the lock for about 20 microseconds a
    transaction: competing with two such writers, SQLite waits for minutes and this class for half a second.
    """

    patience: float = 0.0  # seconds

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement, waiting for locks. Raises OperationalError if `patience` ends before the lock does."""
        until = time.monotonic() + self.patience
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if not _may_pass(error) or time.monotonic() >= until:
                    raise
            except UnicodeDecodeError as error:  # SQLite's message about a damaged schema quotes its bytes
                raise sqlite3.DatabaseError(error.object.decode(errors="backslashreplace")) from None
            time.sleep(_between(*ASK_SECONDS))


def _may_pass(error: sqlite3.OperationalError) -> bool:
    """Whether another process holds the lock; not if it has changed what this transaction has read."""
    code = error.sqlite_errorcode
    return code & 0xFF == sqlite3.SQLITE_BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT


def jittered(seconds: float) -> float:
    """A random time of 0.5 to 1.5 times `seconds`, so that processes that failed together retry apart."""
    return seconds * _between(0.5, 1.5)


def _between(least: float, most: float) -> float:
    """A random number from the system, which no seed of a training fixes and which differs between processes."""
    from random import SystemRandom

    return SystemRandom().uniform(least, most)


def limit_log(connection: sqlite3.Connection) -> None:
    """Let SQLite shrink the log file to `LOG_BYTES` whenever it starts over."""
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")


def shorten_log(connection: sqlite3.Connection, log: Path) -> None:
    """Empty a write-ahead log longer than `LOG_BYTES`, waiting at most `LOG_PATIENCE_SECONDS`.

    SQLite starts the log over only when no process reads it, which overlapping readers may never allow. This keeps
    writers out until the present readers have left; later readers then read the database file itself.
    """
    if not log.exists() or log.stat().st_size <= LOG_BYTES:
        return
    until = time.monotonic() + LOG_PATIENCE_SECONDS
    connection.execute(f"PRAGMA busy_timeout = {LOG_ATTEMPT_MILLISECONDS}")
    try:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] and time.monotonic() < until:
            pass  # readers that came during an attempt can make it fail, so try again
    finally:
        connection.execute("PRAGMA busy_timeout = 0")
