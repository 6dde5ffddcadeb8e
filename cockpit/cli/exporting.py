"""`cockpit export`: all results as rows."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cockpit.requests import completing
from cockpit.requests.shared import Database, output_option, to_read
from engine.errors import InputError
from engine.store import database, rows

app = typer.Typer()


@app.command("export", epilog="Example: cockpit export --csv --table runs -o runs.csv")
def export(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Export only this experiment.",
            show_default="all",
            autocompletion=completing.experiments,
        ),
    ] = None,
    csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated values with a heading, in UTF-8 (the default).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    table: Annotated[
        str, typer.Option(help=f"One of: {', '.join(rows.TABLES)}.", autocompletion=completing.among(rows.TABLES))
    ] = "curves",
    named: Annotated[str | None, typer.Option("--experiment", hidden=True)] = None,
    output: Annotated[Path | None, output_option("File to write.", "standard output")] = None,
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="With --table epochs: epochs of abandoned attempts, too.")
    ] = False,
    db: Database = None,
) -> None:
    """Write results as tidy rows: accuracies and fractions in [0, 1], floats with all their digits."""
    from cockpit.views.export import write

    if csv and as_json:
        raise InputError("--csv and --json exclude each other: give one of them")
    if None not in (experiment, named):
        raise InputError("the experiment is named twice: leave --experiment out")
    experiment = experiment or named
    with closing(database.reader(to_read(db))) as connection:
        name = rows.asked(connection, table, experiment, all_attempts)
        if name in rows.EXPORTS:
            heading, found = rows.export(connection, name, experiment, all_attempts=all_attempts)
        else:
            from engine.analysis import reports

            heading, found = reports.table(connection, name, experiment)
        write(heading, found, output, "json" if as_json else "csv")
