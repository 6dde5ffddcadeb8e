"""Reads the database outside the event loop. Screens get snapshots, only when the database has changed."""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from cockpit.text import hints
from engine.errors import InputError
from engine.store import damage, database

LOOK_SECONDS = 0.2  # between two checks whether the database has changed
SHARE = 4.0  # a query that takes t seconds is repeated after at least SHARE * t, however often the database changes
BUSY_SECONDS = 1.0
POLLED = (
    "workers",
    "starting",
    "pools",
    "cards",
    "users",
    "files",
)  # queries whose answers also depend on processes, the clock and files
POLL_SECONDS = 1.0
REST_SECONDS: Mapping[str, float] = dict.fromkeys(POLLED, POLL_SECONDS) | {"remaining": 20.0}  # of an answer, at least

Query = Callable[[sqlite3.Connection], Any]


class Fresh(Message):
    """The newest answer to a query of its receiver."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__()
        self.name, self.value = name, value

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Fresh) and message.name == self.name


class Trouble(Message):
    """Why the database cannot be read, or None once it can. A database that does not exist yet is no error."""

    def __init__(self, why: str | None, is_error: bool) -> None:
        super().__init__()
        self.why, self.is_error = why, is_error


class Reader(threading.Thread):
    """A thread that answers the queries of the current screen, again whenever the database has changed."""

    def __init__(self, path: Path, app: MessagePump) -> None:
        super().__init__(daemon=True, name="reader")
        self.path, self.app = path, app
        self._wanted: tuple[MessagePump, Mapping[str, Query]] = (app, {})
        self._read: Path | None = None  # the last database read
        self._answers: dict[str, Any] = {}
        self._due: dict[str, float] = {}  # earliest time to repeat each query
        self._stale: set[str] = set()  # queries whose answers may have changed
        self._changed, self._ending = threading.Event(), False

    def want(self, receiver: MessagePump, queries: Mapping[str, Query]) -> None:
        """Answer these queries from now on, to `receiver`."""
        self._wanted = (receiver, queries)
        self._changed.set()

    def end(self) -> None:
        """Stop reading."""
        self._ending = True
        self._changed.set()

    def run(self) -> None:
        """Read until the end. A database that is missing, locked or damaged is tried again every second."""
        while not self._ending:
            try:
                if not self.path.exists():
                    is_gone = self._read == self.path
                    self._tell(f"{self.path} {'is gone' if is_gone else 'does not exist yet'}", is_gone)
                    self._read_nothing()
                    continue
                with closing(database.reader(self.path, BUSY_SECONDS)) as connection:
                    self._tell(None)
                    self._read = self.path
                    self._watch(connection)
            except Exception as error:  # a banner is better than a screen that never changes
                error = damage.cause(error, self.path) or error
                known = isinstance(error, InputError | sqlite3.Error | OSError)
                self._tell(hints.complete(error) if known else f"{type(error).__name__}: {error}")
                self._changed.wait(1.0)
                self._changed.clear()

    def _read_nothing(self) -> None:
        """While no database exists, answer as from an empty one, without creating a file at its path."""
        with TemporaryDirectory(prefix="cockpit-") as folder:
            empty = Path(folder) / "empty.db"
            database.writer(empty).close()
            with closing(database.reader(empty)) as connection:
                self._watch(connection)

    def _tell(self, why: str | None, is_error: bool = True) -> None:
        self.app.post_message(Trouble(why, is_error))

    def _watch(self, connection: database.Connection) -> None:
        """Answer from a database until another one is to be read."""
        asked_for, missing = self.path, connection.path != self.path
        seen, wanted = -1, None
        while not self._ending and connection.is_current() and self.path == asked_for:
            if missing and self.path.exists():
                return
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            if self._wanted is not wanted:
                wanted = self._wanted
                self._answers, self._due, self._stale = {}, {}, set(wanted[1])
            if version != seen:
                seen, self._stale = version, set(wanted[1])
            self._answer(connection, *wanted)
            self._changed.wait(LOOK_SECONDS)
            self._changed.clear()

    def _answer(self, connection: sqlite3.Connection, receiver: MessagePump, queries: Mapping[str, Query]) -> None:
        for name, query in queries.items():
            began = time.monotonic()
            if began < self._due.get(name, 0.0) or (name not in self._stale and name not in POLLED):
                continue
            answer = query(connection)
            self._stale.discard(name)
            ended = time.monotonic()
            self._due[name] = ended + max(SHARE * (ended - began), REST_SECONDS.get(name, 0.0))
            if name not in self._answers or self._answers[name] != answer:
                self._answers[name] = answer
                receiver.post_message(Fresh(name, answer))
            if self._wanted[0] is not receiver or self._wanted[1] is not queries:
                return
