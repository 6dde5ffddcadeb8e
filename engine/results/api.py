"""The results of a database, which `engine.open` returns. Only masks and tickets import torch."""

import sqlite3
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from engine.analysis import reports
from engine.errors import InputError
from engine.store import damage, database, exports
from engine.store.files import Folder

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from engine.results.ticket_export import Ticket


class Results:
    """A database, opened for reading, also while workers write to it. Threads may share it.

    Close it, or use it in a `with` statement. A damaged row raises `engine.store.damage.Damaged`, an InputError that
    names the row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = Folder(database.files_folder(path))
        self._own = threading.local()  # a connection for each thread, as threads cannot share one
        self._opened: WeakSet[database.Connection] = WeakSet()
        self._closed = False
        _ = self.connection  # raises InputError if the database cannot be read

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads."""
        self._closed = True
        for connection in list(self._opened):
            connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection to the database. Raises InputError after `close`."""
        if self._closed:
            raise InputError(f"{self.path} was closed: open it again with engine.open")
        connection: database.Connection | None = getattr(self._own, "connection", None)
        if connection is None or not connection.is_current():
            connection = self._own.connection = database.reader(self.path)
            self._opened.add(connection)
        return connection

    def experiments(self) -> list[str]:
        """The names of the experiments, oldest first."""
        with damage.explained(self.path):
            return [row[0] for row in self.connection.execute("SELECT name FROM experiments ORDER BY id")]

    def curves(self, experiment: str | None = None) -> list[dict[str, Any]]:
        """A record for each level of each curve: mean, sample standard deviation (`std`), n; accuracies in [0, 1]."""
        return self.records("curves", experiment)

    def runs(self, experiment: str | None = None) -> list[dict[str, Any]]:
        """A record for each point of each curve: its level, replicate, status, test accuracy, and the run's digest."""
        return self.records("runs", experiment)

    def records(self, table: str, experiment: str | None = None, *, all_attempts: bool = False) -> list[dict[str, Any]]:
        """The rows of a table of `cockpit export` as dicts: curves, runs, epochs, layers, lines or statistics.

        Epochs are of each run's last attempt, or with `all_attempts` of all.
        Raises InputError for another table or an unknown experiment.
        """
        with damage.explained(self.path):
            names, rows = reports.table(self.connection, table, experiment, all_attempts=all_attempts)
            return [dict(zip(names, row, strict=True)) for row in rows]

    def frame(
        self, table: str = "curves", experiment: str | None = None, *, all_attempts: bool = False
    ) -> "pandas.DataFrame":
        """The rows of `records` as a DataFrame. Needs pandas."""
        import pandas

        with damage.explained(self.path):
            names, rows = reports.table(self.connection, table, experiment, all_attempts=all_attempts)
            return pandas.DataFrame.from_records(list(rows), columns=names)

    def run(self, name: str, level: int | None = None, replicate: int = 0) -> str:
        """The digest of a run: of EXPERIMENT:SCOPE or EXPERIMENT:CURVE at a level (None: the sparsest), or by its
        first digits.

        Raises InputError, with the nearest names, if no run has this name.
        """
        with damage.explained(self.path):
            return exports.run_of(self.connection, name, level, replicate)

    def ticket(self, name: str, level: int | None = None, replicate: int = 0) -> "Ticket":
        """The ticket of a run: `state` (unmasked) and `masks` as tensors, `about` with its recipe.

        The run is named as in `run`. Chains of different rules share their dense run; named by its digest, its ticket
        of level 0 has the masks of the narrowest rule. A winning ticket is returned as for its source.
        Raises InputError if one of the ticket's files is missing.
        """
        from engine.results import ticket_export

        with damage.explained(self.path):
            digest, sparser = exports.runs_of(self.connection, name, level, replicate)
            return ticket_export.ticket(self.connection, self._folder, digest, sparser)

    def masks(self, name: str, level: int | None = None, replicate: int = 0) -> "dict[str, Tensor]":
        """The masks of that ticket: a bool tensor for each weight's name, of its shape, True where a weight remains."""
        return self.ticket(name, level, replicate).masks
