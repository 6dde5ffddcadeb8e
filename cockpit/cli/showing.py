"""`cockpit queue show`: definition and progress of experiments."""

import json
from contextlib import closing
from textwrap import fill, indent
from typing import Annotated

import typer
from msgspec import structs

from cockpit.requests.shared import Database, Json, Names, to_read
from cockpit.text import terminal, words
from cockpit.views import runs as run_names
from cockpit.views import tables
from engine.errors import InputError
from engine.plan.options import OPTIONS
from engine.store import database, queue, rows
from engine.store.row_types import Run

app = typer.Typer()

RUN_HEADINGS = ("run", "what", "status", "waits for", "attempt", "untrained", "accuracy", "FLOPs left")
# Shown for an empty value of a definition.
OWN = {option.field or name: option.otherwise for name, option in OPTIONS.items()}


@app.command("show", epilog="Example: cockpit queue show digits --toml")
def show(
    names: Names,
    runs: Annotated[bool, typer.Option("--runs", help="List every run with its status and what it waits for.")] = False,
    as_toml: Annotated[bool, typer.Option("--toml", help="Print an experiment file that `queue add` reads.")] = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Show the definition of experiments, the progress of each curve, and errors."""
    if as_toml and (as_json or runs):
        raise InputError("--toml excludes --json and --runs: omit them")
    with closing(database.reader(to_read(db))) as connection:
        ids = [queue.experiment_id(connection, name) for name in names]
        found = [rows.experiment(connection, experiment) for experiment in ids]
        if as_toml:
            from cockpit.requests import experiment_files
            from engine.store import imports, titles

            definitions = [queue.definition_of(connection, experiment) for experiment in ids]
            written = [
                experiment_files.write(
                    one.name, structs.replace(d, tickets=imports.located(connection, d.tickets)), one.pause_after
                )
                for one, d in zip(found, definitions, strict=True)
            ]
            said = [titles.of_data(connection, one.name) for one in found]
            named = experiment_files.write_data_names(zip(definitions, said, strict=True))
            terminal.data().write("\n\n".join(filter(None, [*written, named])) + "\n")
            return
        every_run = [rows.runs(connection, one) for one in ids] if runs else []
    if as_json:
        every = [{"every_run": [run.as_json() for run in one]} for one in every_run] if runs else [{}] * len(found)
        print(json.dumps([one.as_json() | more for one, more in zip(found, every, strict=True)]))
        return
    for place, one in enumerate(found):
        reason = f" ({one.reason})" if one.reason else ""
        print(f"{one.name}: {words.state(one.status)}{reason}, priority {one.priority}")
        print(f"  {one.command}")
        if one.tags:
            print(f"  tags: {' '.join(one.tags)}")
        if one.notes:
            print(indent(one.notes, "  "))
        definition = ", ".join(f"{key} {_plain(key, value)}" for key, value in one.definition.items())
        print(fill(definition, initial_indent="  ", subsequent_indent="  "))
        cells = [[words.name(c.name), f"{c.done}/{c.runs}", str(c.running), c.waits_for] for c in one.by_curve]
        tables.show(["curve", "done", "running", "waits for"], cells, left=1)
        if runs:
            tables.show(RUN_HEADINGS, [_run_cells(run) for run in every_run[place]], left=4)
        for row in one.errors:
            print(f"  {words.error(row)}")


def _run_cells(run: Run) -> list[str]:
    shares = (run.untrained_accuracy, run.test_accuracy, run.flops_remaining)
    untrained, accuracy, flops = ("" if share is None else f"{share:.2%}" for share in shares)
    waits_for = run.waits_for if run.status != "running" else f"(on {words.device(run)})"
    return [
        run.digest[:12],
        run_names.called(run),
        words.state(run.status),
        waits_for,
        str(run.attempt),
        untrained,
        accuracy,
        flops,
    ]


def _plain(key: str, value: object) -> str:
    if value is None:
        return OWN[key]
    if value == []:
        return "none"
    if isinstance(value, list):
        return " ".join(item["name"] if isinstance(item, dict) else str(item) for item in value)
    return str(value)
