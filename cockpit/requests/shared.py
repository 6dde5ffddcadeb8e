"""Options that most commands share. Every command imports this module, so it imports little."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from typer import Argument, CallbackParam, Context, Option
from typer.models import OptionInfo

from cockpit.requests import completing
from cockpit.text import hints
from engine.errors import InputError, Range
from engine.machine.paths import given
from engine.store import database, paths

LARGEST = 10**9  # whole number that a person gives, and some can be added to in the database
COUNT, PRIORITY, SECONDS = Range(0, LARGEST), Range(-LARGEST, LARGEST), Range(0, LARGEST)


def output_option(help: str, default: str = "") -> OptionInfo:
    """`--output`, with what a command writes there, and its default in words."""
    option: OptionInfo = Option(
        "--output", "-o", parser=given, metavar="PATH", help=help, show_default=default or False
    )
    return option


def within(allowed: Range) -> Callable[[Context, CallbackParam, float | None], float | None]:
    """A Typer callback that rejects a number outside a range."""

    def check(context: Context, option: CallbackParam, value: float | None) -> float | None:
        if value is not None and not context.resilient_parsing:
            allowed.check(option.opts[0], value)
        return value

    return check


Database = Annotated[
    str | None,
    Option(
        "--db",
        metavar="PATH",
        help="The database.",
        show_default="COCKPIT_DB, else experiments.local.db, else experiments.db",
    ),
]
PauseAfter = Annotated[
    int | None,
    Option(
        help="Pause an experiment after N failures in a row; 0: never.",
        show_default="3 for a new experiment",
        callback=within(COUNT),
    ),
]
DataDir = Annotated[
    Path | None,
    Option(
        "--data-dir",
        parser=given,
        metavar="PATH",
        help="Folder that published data sets are downloaded to, and searched for first.",
        show_default="COCKPIT_DATA, else the configuration file's, else the user's cache",
    ),
]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
Experiment = Annotated[str, Argument(help="The experiment's name.", autocompletion=completing.experiments)]
Names = Annotated[list[str], Argument(help="Names of experiments.", autocompletion=completing.experiments)]


def to_read(db: str | None) -> Path:
    """The database to read."""
    if db is None:
        return database.default_path()
    path = paths.named(db)
    hints.use(path)
    return path


def to_write(db: str | None, *, make: bool = False) -> Path:
    """The database to write, which must exist unless the command may `make` it.

    Copies a sample first, and names the copy on stderr.
    """
    path = to_read(db)
    if not make:
        database.ensure_exists(path)
    writable = database.writable_path(path)
    if writable != path:
        print(f"{path} is a read-only sample: writing to {writable}", file=sys.stderr)
    return writable


def use_data(data_dir: Path | None = None) -> None:
    """Let this process and its children search `--data-dir`, `COCKPIT_DATA` and the configured folder for data."""
    from cockpit import config
    from engine.datasets import places

    if os.pathsep in str(data_dir or ""):
        raise InputError(
            f"--data-dir {data_dir} has a {os.pathsep!r} in it, which separates folders in COCKPIT_DATA: rename it"
        )
    named = os.environ.get(places.VARIABLE, "").split(os.pathsep)
    wanted = ["" if data_dir is None else str(data_dir.absolute()), *named, config.data().folder or ""]
    os.environ[places.VARIABLE] = os.pathsep.join(dict.fromkeys(filter(None, wanted)))


def command_line() -> str:
    """This command as it was typed, for the record."""
    return shlex.join(["cockpit", *sys.argv[1:]])
