"""Completions for the shell, except names of commands and options. An error offers nothing.

The user waits for each completion: they query the database once, and import little.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import typer

from engine.errors import InputError
from engine.machine.paths import given
from engine.store import database, paths

Callback = Callable[[typer.Context, str], list[str]]

BUSY_SECONDS = 0.2  # that a locked database is waited for
RUNS_OFFERED = 50
SHORTEST = 3  # digits of a run's digest, from which on it is completed


def among(words: Iterable[str]) -> Callback:
    """Complete with those words that begin with the typed text."""

    def offer(context: typer.Context, incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return offer


def experiments(context: typer.Context, incomplete: str) -> list[str]:
    """The names of experiments that the command does not name yet."""
    found = _read(context, "SELECT name FROM experiments ORDER BY archived, id DESC")
    given = context.params.get("names") or ()
    return [name for name in found if name.startswith(incomplete) and name not in given]


def tickets(context: typer.Context, incomplete: str) -> list[str]:
    """Arguments of `cockpit diff`: EXPERIMENT:SCOPE, or a run's digest."""
    query = (
        "SELECT DISTINCT e.name || ':' || c.scope FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id"
        " WHERE c.scope IS NOT NULL ORDER BY e.id DESC"
    )
    chains = [name for name in _read(context, query) if name.startswith(incomplete)]
    if len(incomplete) < SHORTEST or not set(incomplete) <= set("0123456789abcdef"):
        return chains
    runs = "SELECT substr(digest, 1, 12) FROM runs WHERE digest BETWEEN ? AND ? || 'g' LIMIT ?"
    return chains + _read(context, runs, (incomplete, incomplete, RUNS_OFFERED))


def targets(context: typer.Context, incomplete: str) -> list[str]:
    """The data sets that tickets of any experiment are trained on.

    Typer does not pass the rest of the command while an option's value is completed.
    """
    found = _read(context, "SELECT DISTINCT target FROM experiment_curves ORDER BY target")
    return [name for name in found if name.startswith(incomplete)]


def data_sets(context: typer.Context, incomplete: str) -> list[str]:
    """The published data sets, and the files that experiments have read."""
    from engine.datasets.catalog import REGISTERED
    from engine.store import rows

    try:
        with closing(database.reader(_path(context), BUSY_SECONDS)) as connection:
            known = rows.data_sets(connection)
    except (InputError, sqlite3.Error, OSError):
        known = []
    return [name for name in (*REGISTERED, *known) if name.startswith(incomplete)]


def presets_and_files(context: typer.Context, incomplete: str) -> list[str]:
    """Presets, and experiment files and folders at the typed path."""
    from engine.plan.presets import PRESETS

    found = [name for name in PRESETS if name.startswith(incomplete)]
    folder, _, start = incomplete.rpartition("/")
    try:
        there = sorted(given(folder or ("/" if incomplete.startswith("/") else ".")).iterdir())
    except (InputError, OSError):
        there = []
    for one in there:
        if one.name.startswith(start) and (one.suffix == ".toml" or (one.is_dir() and not one.name.startswith("."))):
            found.append(f"{incomplete[: len(incomplete) - len(start)]}{one.name}{'/' if one.is_dir() else ''}")
    return found


def _path(context: typer.Context) -> Path:
    """The database of the command that is being typed."""
    named = context.params.get("db")
    return database.default_path() if named is None else paths.named(named)


def _read(context: typer.Context, query: str, values: Sequence[object] = ()) -> list[str]:
    """The first column of a query's result; empty if the database cannot be read at once."""
    try:
        with closing(database.reader(_path(context), BUSY_SECONDS)) as connection:
            return [row[0] for row in connection.execute(query, values)]
    except (InputError, sqlite3.Error, OSError):
        return []
