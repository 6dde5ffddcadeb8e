"""The engine: trains networks under masks, finds tickets, and records every step in SQLite.

`import engine` imports only the version. `docs/architecture.md` lists the packages: `plan` defines experiments, `store`
records them, `workers` train them with `training`, `pruning` and `tickets`, and `analysis` evaluates the results.
From Python, `engine.open("experiments.db")` reads the results (see `docs/python.md`).
"""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.results.api import Results

__all__ = ["open"]

__version__ = "0.1.0"  # the only place of the version


def open(path: str | PathLike[str]) -> "Results":
    """The results in the database at `path`. Raises `engine.errors.InputError` if the file does not exist."""
    from engine.results.api import Results
    from engine.store import paths

    return Results(paths.named(path, "the path"))
