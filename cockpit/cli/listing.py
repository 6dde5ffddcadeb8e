"""`cockpit queue list`: the experiments, and the state of each."""

import json
from contextlib import closing
from typing import Annotated

import typer

from cockpit.requests import completing, remaining
from cockpit.requests.remaining import Remaining
from cockpit.requests.shared import Database, Json, to_read
from cockpit.text import hints, words
from cockpit.views import tables
from engine.errors import chosen
from engine.store import database, rows
from engine.store.row_types import Experiment

app = typer.Typer()

HEADINGS = ("experiment", "status", "progress", "done", "time left", "problems", "waits for", "tags")


@app.command("ls", hidden=True)
@app.command("list", epilog="Example: cockpit queue list --status failed")
def list_(
    as_json: Json = False,
    status: Annotated[
        str | None,
        typer.Option(
            help="Show only experiments with this status.", autocompletion=completing.among(words.OF_EXPERIMENTS)
        ),
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="List the archive instead.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Include the archive.")] = False,
    db: Database = None,
) -> None:
    """List experiments with their state and how many of their runs are done."""
    with closing(database.reader(to_read(db))) as connection:
        everything = rows.experiments(connection)
        left = (
            remaining.read(connection)
            if not as_json and any(row.waiting or row.running for row in everything)
            else Remaining()
        )
    found = [row for row in everything if all_ or row.archived == archived]
    if status is not None:
        status = chosen("--status", status, words.OF_EXPERIMENTS)
        found = [row for row in found if row.status == status]
    if as_json:
        print(json.dumps([row.as_json() for row in found]))
        return
    if not everything:
        hints.say("no experiments: add one with `cockpit queue add`, or try `cockpit run digits`")
        return
    if not found and status is None:
        hints.say(
            "the archive is empty" if archived else "all experiments are archived: `cockpit queue list --archived`"
        )
        return
    tables.show(HEADINGS, [_cells(row, left) for row in found], left=2)
    if left.total and not archived:
        print(f"time left in all: {left.total}" + (f", with {left.assumed}" if left.assumed else ""))


def _cells(row: Experiment, left: Remaining) -> list[str]:
    return [
        words.name(row.name),
        words.state(row.status),
        remaining.bar(row.done, row.runs),
        f"{row.done}/{row.runs}",
        left.of.get(row.name, ""),
        words.problems(row),
        row.waits_for,
        " ".join(row.tags),
    ]
