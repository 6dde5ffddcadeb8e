"""The engine: trains networks under masks, finds tickets, and records every step in SQLite.

Importing this package imports nothing but its version. The rooms (see `docs/architecture.md`): `recipes` and
`experiments` say what is to be trained, `store` holds it, `worker` and `run` do it, `training`, `pruning` and `tickets`
know how.
From Python, `engine.open("experiments.db")` reads the results (see `docs/python.md`).
"""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.results.api import Results

__all__ = ["open"]

__version__ = "0.1.0"  # the one place where it stands


def open(path: str | PathLike[str]) -> "Results":
    """The results in the database at `path`. Raises `engine.errors.InputError` if there is none."""
    from engine.results.api import Results
    from engine.store import paths

    return Results(paths.named(path, "the path"))
