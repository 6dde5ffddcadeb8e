"""How this program gets at a database that others write to without a gap, and keeps its log short beside them."""

import sqlite3
import time
from pathlib import Path
from typing import Any

ASK_SECONDS = 0.001, 0.004  # between two attempts at a lock, at random
LOG_BYTES = 16 * 2**20  # of the write-ahead log, beyond which it is emptied: four times as long as SQLite lets it grow
LOG_PATIENCE_SECONDS = 2.0  # that writers wait for readers then
LOG_ATTEMPT_MILLISECONDS = 100


class Waiting(sqlite3.Connection):
    """A connection that asks for a lock every few milliseconds, at random, until its `patience` is over.

    SQLite asks ten times a second. Whoever writes without a gap frees the lock for some 20 microseconds a transaction:
    between two such writers SQLite waits for minutes, this for half a second.
    """

    patience: float = 0.0  # seconds

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """What the name says, once nobody else holds the lock that it needs."""
        until = time.monotonic() + self.patience
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if not _may_pass(error) or time.monotonic() >= until:
                    raise
            except UnicodeDecodeError as error:  # what SQLite says of a damaged schema quotes bytes of it
                raise sqlite3.DatabaseError(error.object.decode(errors="backslashreplace")) from None
            time.sleep(_between(*ASK_SECONDS))


def _may_pass(error: sqlite3.OperationalError) -> bool:
    """Whether a lock was in the way, and not that others have changed what a transaction has read."""
    code = error.sqlite_errorcode
    return code & 0xFF == sqlite3.SQLITE_BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT


def jittered(seconds: float) -> float:
    """About so many seconds: those who failed together should not try again together."""
    return seconds * _between(0.5, 1.5)


def _between(least: float, most: float) -> float:
    """A number by chance: not of the stream that trainings draw from, and another one in each process."""
    from random import SystemRandom

    return SystemRandom().uniform(least, most)


def limit_log(connection: sqlite3.Connection) -> None:
    """Let SQLite give the log's disk space back each time that it begins anew."""
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")


def shorten_log(connection: sqlite3.Connection, log: Path) -> None:
    """Empty a write-ahead log that has grown too long.

    SQLite begins it anew only when nobody reads it, which readers that come and go may never allow. This keeps writers
    out until those are gone who read it now: who comes then reads the database itself.
    """
    if not log.exists() or log.stat().st_size <= LOG_BYTES:
        return
    until = time.monotonic() + LOG_PATIENCE_SECONDS
    connection.execute(f"PRAGMA busy_timeout = {LOG_ATTEMPT_MILLISECONDS}")
    try:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] and time.monotonic() < until:
            pass  # readers that came since the attempt began may stand where those did that it waits for
    finally:
        connection.execute("PRAGMA busy_timeout = 0")
