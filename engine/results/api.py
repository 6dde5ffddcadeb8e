"""What `engine.open` gives: a database of results, read from Python. Only masks and tickets import torch."""

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
    """A database that is only read, while workers write to it or not, from any thread.

    Close it, or use it in a `with`. A damaged row raises `engine.store.damage.Damaged`, an InputError that names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = Folder(database.files_folder(path))
        self._own = threading.local()  # each thread's connection: one could not serve two at once
        self._opened: WeakSet[database.Connection] = WeakSet()
        self._closed = False
        _ = self.connection  # raises where there is no database

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database, in all threads."""
        self._closed = True
        for connection in list(self._opened):
            connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, to the database as it is now. Raises InputError once it is closed."""
        if self._closed:
            raise InputError(f"{self.path} was closed: open it again with engine.open")
        found: database.Connection | None = getattr(self._own, "connection", None)
        if found is None or not found.is_current():
            found = self._own.connection = database.reader(self.path)
            self._opened.add(found)
        return found

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
        """The rows of a table of `cockpit export`: curves, runs, epochs, layers or statistics.

        Epochs are those of each run's last attempt, or of `all_attempts`.
        Raises InputError for another table, or an experiment that there is not.
        """
        with damage.explained(self.path):
            names, found = reports.table(self.connection, table, experiment, all_attempts=all_attempts)
            return [dict(zip(names, row, strict=True)) for row in found]

    def frame(
        self, table: str = "curves", experiment: str | None = None, *, all_attempts: bool = False
    ) -> "pandas.DataFrame":
        """The same as a DataFrame, if pandas is installed."""
        import pandas

        with damage.explained(self.path):
            names, found = reports.table(self.connection, table, experiment, all_attempts=all_attempts)
            return pandas.DataFrame.from_records(list(found), columns=names)

    def run(self, name: str, level: int | None = None, replicate: int = 0) -> str:
        """The digest of a run: of EXPERIMENT:SCOPE or EXPERIMENT:CURVE at a level (None: the sparsest), or by digits.

        Raises InputError, with what there is, if none is called so.
        """
        with damage.explained(self.path):
            return exports.run_of(self.connection, name, level, replicate)

    def ticket(self, name: str, level: int | None = None, replicate: int = 0) -> "Ticket":
        """The ticket of a run: `state` (unmasked) and `masks` as tensors, `about` with its recipe.

        The run is named as in `run`. Chains of different rules share their dense run: by its digest alone, its ticket
        of level 0 has the masks of the narrowest rule. A winning ticket is as it was found on its source.
        Raises InputError if a file that the ticket is made of is absent.
        """
        from engine.results import ticket_export

        with damage.explained(self.path):
            digest, sparser = exports.runs_of(self.connection, name, level, replicate)
            return ticket_export.ticket(self.connection, self._folder, digest, sparser)

    def masks(self, name: str, level: int | None = None, replicate: int = 0) -> "dict[str, Tensor]":
        """The masks of that ticket: by the weight's name a bool tensor of its shape, True where a weight remains."""
        return self.ticket(name, level, replicate).masks
