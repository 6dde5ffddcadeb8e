"""`cockpit plot` and `cockpit export`: what has been found."""

import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cockpit.cli.options import Database, to_read
from engine import reports
from engine.errors import InputError, unknown
from engine.store import database, queue, rows

if TYPE_CHECKING:
    from cockpit.curves import Series

TABLES = (*rows.EXPORTS, reports.TABLE)
PlotX = Annotated[
    str,
    typer.Option("--x", help="remaining: weights remaining on a log axis; pruned: fraction pruned, linear."),
]


def plot(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    target: Annotated[str | None, typer.Option(help="Only this data set; the source's own chain too.")] = None,
    x: PlotX = "remaining",
    full: Annotated[bool, typer.Option("--full", help="Accuracy from 0 to 1.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Draw it into this .png, .svg or .pdf instead, with matplotlib.", show_default=False
        ),
    ] = None,
    db: Database = None,
) -> None:
    """Draw an experiment's test accuracy against the weights remaining, and print it as a table.

    Example: cockpit plot digits -o digits.pdf
    """
    with closing(database.reader(to_read(db))) as connection:
        queue.experiment_id(connection, experiment)
        show(connection, experiment, target, x, full, output)


def show(
    connection: sqlite3.Connection,
    experiment: str,
    target: str | None = None,
    x: str = "remaining",
    full: bool = False,
    output: Path | None = None,
) -> None:
    """Print a chart and a table for each target of an experiment, or draw the charts into a file."""
    from cockpit import charts, curves

    if x not in charts.AXES:
        raise unknown("--x", x, charts.AXES)
    found = rows.curves(connection, experiment)
    targets = rows.targets(connection, experiment)
    if target is not None:
        have = sorted({row["target"] for row in found} | set(targets))
        if target not in have:
            raise unknown("target", target, have)
        targets = [target]
    shown = {name: curves.series([row for row in found if row["target"] == name]) for name in targets}
    for name, series in shown.items():
        if not series:
            print(
                f"{experiment} has no results on {name} yet: {_next_command(connection, experiment)}", file=sys.stderr
            )
    titled = {f"{experiment}: test accuracy on {name}, %": series for name, series in shown.items() if series}
    if output is None:
        _print(titled, x, full)
    elif titled:
        from cockpit import figures

        figures.write(output, titled, charts.View(x=x, full=full))
        print(f"wrote {output}", file=sys.stderr)
    else:
        sys.exit(1)


def _print(titled: "dict[str, list[Series]]", x: str, full: bool) -> None:
    from rich.console import Console

    from cockpit import charts, curves, tables

    console = Console()
    for title, series in titled.items():
        print(charts.printed(series, title, x, full, console.width, console.is_terminal and not console.no_color))
        tables.show(*curves.table(series), keys=2)


def _next_command(connection: sqlite3.Connection, experiment: str) -> str:
    """What to do about an experiment that has nothing to show."""
    state = rows.experiment(connection, queue.experiment_id(connection, experiment))["status"]
    if state in ("waiting", "running"):
        return "train it with `cockpit work --drain`"
    if state in ("paused", "cancelled"):
        return f"it is {state}; `cockpit queue resume {shlex.quote(experiment)}`"
    return f"its runs have {state}; `cockpit queue show {shlex.quote(experiment)}` says why"


def export(
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a heading (the default).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    table: Annotated[str, typer.Option(help=f"One of: {', '.join(TABLES)}.")] = "curves",
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. Default: standard output.", show_default=False)
    ] = None,
    db: Database = None,
) -> None:
    """Write results as tidy rows: accuracies and fractions in [0, 1], floats with all their digits.

    Example: cockpit export --csv --table runs -o runs.csv
    """
    from cockpit.export import write

    if csv and as_json:
        raise InputError("--csv and --json exclude each other: give one of them")
    with closing(database.reader(to_read(db))) as connection:
        if experiment is not None:
            queue.experiment_id(connection, experiment)
        if table not in TABLES:
            raise unknown("table", table, TABLES)
        if table == reports.TABLE:
            heading, found = reports.HEADING, reports.rows(reports.of(connection, experiment))
        else:
            heading, found = rows.export(connection, table, experiment)
        write(heading, found, output, "json" if as_json else "csv")
