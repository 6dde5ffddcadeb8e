"""`cockpit queue`: what is to be trained."""

import json
from contextlib import closing
from typing import Annotated

import typer

from cockpit import tables
from cockpit.cli.options import Database, Json, command_line, takes_experiment, to_read, to_write
from engine.errors import unknown
from engine.experiments import Definition
from engine.store import database, queue, rows

app = typer.Typer(help="Add experiments to the queue and list them.", no_args_is_help=True)

HEADINGS = ("experiment", "status", "done", "runs", "running", "failed", "diverged", "blocked")
GLYPHS = {"waiting": "·", "running": "▶", "paused": "‖", "done": "✓", "failed": "✗", "diverged": "!", "blocked": "⊘"}


@app.command("add", epilog="Example: cockpit queue add --source digits-a --target digits-b --replicates 2")
@takes_experiment
def add(
    wanted: tuple[str | None, Definition],
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Queue an experiment. Runs that another experiment has, or had, are shared and not trained again."""
    name, definition = wanted
    with closing(database.writer(to_write(db))) as connection:
        added = queue.add(connection, name or queue.default_name(definition), definition, command_line())
    if as_json:
        found = {"experiment": added.name, "curves": added.curves, "runs": added.runs}
        print(json.dumps({**found, "new": added.new, "existing": added.existing}))
    else:
        print(describe(added))


def describe(added: queue.Added) -> str:
    """What adding an experiment did, in a line."""
    return (
        f"{added.name}: {added.curves} curves, {added.runs} runs:"
        f" {added.new} new, {added.existing} {'exists' if added.existing == 1 else 'exist'} already"
    )


@app.command("list")
def list_(
    as_json: Json = False,
    status: Annotated[str | None, typer.Option(help="Only experiments of this status.")] = None,
    db: Database = None,
) -> None:
    """List the experiments, the state of each, and how many of its runs are done."""
    with closing(database.reader(to_read(db))) as connection:
        found = rows.experiments(connection)
    if status is not None:
        if status not in GLYPHS:
            raise unknown("--status", status, GLYPHS)
        found = [row for row in found if row["status"] == status]
    if as_json:
        print(json.dumps(found))
        return
    if not found:
        print("no experiments: add one with `cockpit queue add`, or try `cockpit run digits`")
        return
    tables.show([*HEADINGS, "added"], [_cells(row) for row in found], left=2)


def _cells(row: dict[str, object]) -> list[str]:
    state, day = str(row["status"]), str(row["created_at"])[:10]
    numbers = [str(row[heading]) for heading in HEADINGS[2:]]
    return [str(row["name"]), f"{GLYPHS[state]} {state}", *numbers, day]
