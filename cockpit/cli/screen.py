"""`cockpit` without a command, the dashboard, and `cockpit serve`, the same in a browser."""

import codecs
import os
import shlex
import sys
from typing import Annotated

import typer

from cockpit import config
from cockpit.requests.shared import Database, to_read, within
from engine.errors import InputError, Range
from engine.machine import processes

app = typer.Typer()


def possible() -> bool:
    """Whether the dashboard can open: on a terminal, or in a browser through textual-serve."""
    # textual draws on standard error.
    return "TEXTUAL_DRIVER" in os.environ or all(each.isatty() for each in (sys.stdin, sys.stdout, sys.stderr))


def dashboard(db: str | None, read_only: bool) -> None:
    """Open the dashboard, until the user quits."""
    wish = config.screen()
    if "TEXTUAL_DRIVER" not in os.environ:
        _check_terminal()
    from cockpit.tui import keys
    from cockpit.tui.app import Cockpit

    app = Cockpit(to_read(db), read_only=read_only, theme=wish.theme, keys=keys.chosen())
    app.run()
    sys.exit(app.return_code)


def _check_terminal() -> None:
    """Raise InputError for a terminal that cannot show the dashboard."""
    term, encoding = os.environ.get("TERM", ""), sys.stderr.encoding
    if term in ("dumb", "unknown"):
        raise InputError(
            f"the dashboard needs a terminal that can move its cursor, not TERM={term}: open it in another terminal, or"
            " use commands such as `cockpit queue list` (`cockpit --help` lists them)"
        )
    if codecs.lookup(encoding).name != "utf-8":
        raise InputError(
            f"the dashboard needs a terminal and a locale in UTF-8, not {encoding}: set LANG=C.UTF-8 and unset LC_ALL"
            " and PYTHONIOENCODING"
        )
    for name in ("COLUMNS", "LINES"):  # the terminal knows its size, and when that changes
        os.environ.pop(name, None)


@app.command("serve", epilog="Example: cockpit serve --port 8000")
def serve(
    port: Annotated[
        int, typer.Option(help="The port, on this machine's loopback address only.", callback=within(Range(1, 65535)))
    ] = 8000,
    allow_actions: Annotated[
        bool,
        typer.Option(
            "--allow-actions",
            help="Allow changes from the browser: queue, start workers. Adds a token to the address.",
        ),
    ] = False,
    db: Database = None,
) -> None:
    """Serve the dashboard to a browser, on the loopback address only. From elsewhere, use an ssh tunnel."""
    try:
        from cockpit.serve import Server
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] not in ("textual_serve", "aiohttp"):
            raise
        raise InputError("textual-serve is not installed: pip install 'lottery-cockpit[serve]'") from None
    command = [*processes.python("cockpit"), "--db", str(to_read(db).absolute())]
    command += [] if allow_actions else ["--read-only"]
    os.environ.update(processes.environment())
    Server(shlex.join(command), port, secret=allow_actions).serve()
