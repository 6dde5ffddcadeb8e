"""The command line: one module for each group of verbs. stdout carries data, stderr diagnostics."""

import errno
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
    help="A cockpit for lottery-ticket research: find winning tickets, transfer them, and compare how well they train.",
    epilog="Start with: cockpit run digits. Without a command, cockpit opens the dashboard.",
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
        bool, typer.Option("--read-only", help="Open the dashboard read-only: no key changes the database.")
    ] = False,
    db: Database = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is not None:
        if db is not None or read_only:
            named = "--db" if db is not None else "--read-only"
            raise InputError(f"{named} before a command applies to the dashboard: put options after the command")
        return
    from cockpit.cli import screen

    if screen.possible():
        screen.dashboard(db, read_only)
    else:
        print(context.get_help())


def main() -> None:
    """Run a command. A user's error becomes one line on stderr and exit code 2."""
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
    """An expected error and its fix in one line; empty for a bug of this program."""
    from engine.store import damage  # reads definitions: only what fails takes the time for it

    if damaged := damage.cause(error):
        return damaged.worded(hints.flag) if isinstance(damaged, InputError) else str(damaged)
    if isinstance(error, sqlite3.Error):
        return f"the database cannot be used ({error}): {_database_fix(str(error))}"
    return error.worded(hints.flag) if isinstance(error, InputError) else ""


def _check_text() -> None:
    """Raise InputError for an argument or setting that is not text: neither the database nor JSON could hold it."""
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
    """The error of a command line, with a pointer to its help unless the message suggests the nearest names."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message or context is None or "Did you mean" in message or "Possible options" in message:
        return message
    return f"{message} (see `{context.command_path} --help`)"


def _database_fix(said: str) -> str:
    """The fix for an SQLite error that no command expects. Its transactions leave nothing half-done."""
    if "full" in said:
        return "nothing was changed; free space on its disk, for example with `cockpit store gc`"
    if "readonly" in said:
        return "nothing was changed; make the file and its folder writable"
    if "locked" in said:
        return "nothing was changed; wait for the program that holds the lock, and try again"
    return "does another program hold it, or is the disk full?"


def _file_error(error: OSError) -> str:
    """What is wrong with a file or its disk, and the fix. Files are written under another name, then renamed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" of {Path(error.filename).absolute().parent}" if error.filename else ""
        return f"the disk{where} is full: free space and try again; no incomplete file remains"
    file = error.filename or "a file"
    if error.errno == errno.EROFS:
        return f"the folder {Path(file).absolute().parent} cannot be written ({error.strerror}): choose another folder"
    return f"{file} cannot be used: {error.strerror or error}"


def _fail(message: str, code: int) -> None:
    if message:  # else help was printed instead
        line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
        hints.warn(f"cockpit: error: {line}")
    sys.exit(code)
