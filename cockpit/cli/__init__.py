"""The command line: one module for each group of verbs. stdout carries data, stderr diagnostics."""

import errno
import gc
import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from cockpit.cli import bash, commands
from cockpit.requests.shared import Database
from cockpit.text import hints, terminal
from engine import __version__
from engine.errors import InputError, quoted
from engine.store import database

app = typer.Typer(
    name="cockpit",
    cls=commands.Root,
    help="A cockpit for lottery-ticket research: find winning tickets, transfer them, and see how well they train.",
    epilog="Start with: cockpit run digits. Without a command, on a terminal, it opens the dashboard.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

hints.know(commands.taking_database)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cockpit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Open the dashboard without anything that changes the database.")
    ] = False,
    db: Database = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is not None:
        if db is not None or read_only:
            named = "--db" if db is not None else "--read-only"
            raise InputError(f"{named} before a command is for the dashboard: put options behind their command")
        return
    from cockpit.cli import screen

    gc.enable()  # see `lottery_cockpit`

    if screen.possible():
        screen.dashboard(db, read_only)
    else:
        print(context.get_help())


def main() -> None:
    """The program: runs a command; what a person got wrong becomes one line on stderr and exit code 2."""
    with terminal.guarded(), bash.whole_words():
        database.on_wait = hints.warn
        database.opened.clear()
        try:
            _check_text()
            code = typer.main.get_command(app).main(prog_name="cockpit", standalone_mode=False)
            sys.stdout.flush()
        except TyperException as error:
            _fail(_helpful(error), error.exit_code)
        except (KeyboardInterrupt, Abort):
            sys.exit(130)
        except terminal.ReaderGoneError:
            raise
        except OSError as error:
            _fail(_file_error(error), 2)
        except Exception as error:
            if said := _said_of(error):
                _fail(said, 2)
            raise
        sys.exit(code or 0)


def _said_of(error: Exception) -> str:
    """What a person can do about an error, in a line; empty for a fault of this program."""
    from engine.store import damage  # reads definitions: only what fails takes the time for it

    if damaged := damage.cause(error):
        return damaged.worded(hints.flag) if isinstance(damaged, InputError) else str(damaged)
    if isinstance(error, sqlite3.Error):
        return f"the database cannot be used ({error}): {_database_fix(str(error))}"
    return error.worded(hints.flag) if isinstance(error, InputError) else ""


def _check_text() -> None:
    """Raises InputError for what came with the command and is no text: neither the database nor JSON could hold it."""
    given = [(f"environment variable {name}", one) for name, one in os.environ.items() if name.startswith("COCKPIT_")]
    given += [("argument", one) for one in sys.argv[1:]]
    with suppress(FileNotFoundError):
        given.append(("the current folder", str(Path.cwd())))
    for what, text in given:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{what} {quoted(text)} is not UTF-8: rename it, or write it in UTF-8") from None


def _helpful(error: TyperException) -> str:
    """What was wrong with a command, and where its help is, unless the nearest names are said already."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message or context is None or "Did you mean" in message or "Possible options" in message:
        return message
    return f"{message} (see `{context.command_path} --help`)"


def _database_fix(said: str) -> str:
    """What to do about an error of SQLite that no command expects. Its transactions leave nothing half-done."""
    if "full" in said:
        return "nothing was changed; make room on its disk, `cockpit store gc` may find some"
    if "readonly" in said:
        return "nothing was changed; the file or its folder has become read-only"
    if "locked" in said:
        return "nothing was changed; wait for the program that holds it, and try again"
    return "is another program holding it, or is the disk full?"


def _file_error(error: OSError) -> str:
    """What is wrong with a file or its disk, and what helps. Files are written beside their place, then renamed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" of {Path(error.filename).absolute().parent}" if error.filename else ""
        return f"the disk{where} is full: make room, and try again; nothing half-written is left"
    file = error.filename or "a file"
    if error.errno == errno.EROFS:
        return f"the folder {Path(file).absolute().parent} cannot be written ({error.strerror}): name another place"
    return f"{file} cannot be used: {error.strerror or error}"


def _fail(message: str, code: int) -> None:
    if message:  # else help was printed instead
        line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
        hints.warn(f"cockpit: error: {line}")
    sys.exit(code)
