"""`cockpit queue`: what is to be trained."""

import json
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from textwrap import fill, indent
from typing import Annotated, Any

import typer

from cockpit.cli.logs import logs
from cockpit.requests import adding, completing, files
from cockpit.requests.options import PRIORITY, SECONDS, Database, Json, Names, PauseAfter, to_read, to_write, within
from cockpit.text import hints, terminal, words
from cockpit.views import tables
from engine.errors import InputError, chosen
from engine.store import database, imports, labels, located, queue, rows

app = typer.Typer(
    help="Experiments in the queue: add, extend, list, pause, cancel, retry, move, wait for them.", no_args_is_help=True
)

WAIT_SECONDS = 0.5
HEADINGS = ("experiment", "status", "done", "waiting", "running", "problems", "waits for", "tags")
# Where a definition says nothing.
OWN = {"learning_rate": "the optimizer's own", "rewind": "each source's own", "test_images": "all"}
RUN_HEADINGS = ("run", "what", "status", "waits for", "attempt", "accuracy")


app.command("add", epilog="Example: cockpit queue add study.toml --dry-run")(adding.add)
app.command("extend", epilog="Example: cockpit queue extend digits --replicates 6 --target digits")(adding.extend)
app.command("estimate", epilog="Example: cockpit queue estimate --workers 2")(adding.estimate)
app.command("logs", epilog="Example: cockpit queue logs digits --follow")(logs)


@app.command("list", epilog="Example: cockpit queue list --status failed")
def list_(
    as_json: Json = False,
    status: Annotated[
        str | None,
        typer.Option(help="Only experiments of this status.", autocompletion=completing.among(words.OF_EXPERIMENTS)),
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Those in the archive instead.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Those in the archive, too.")] = False,
    db: Database = None,
) -> None:
    """List the experiments, the state of each, and how many of its runs are done."""
    with closing(database.reader(to_read(db))) as connection:
        everything = rows.experiments(connection)
    found = [row for row in everything if all_ or row["archived"] == archived]
    if status is not None:
        status = chosen("--status", status, words.OF_EXPERIMENTS)
        found = [row for row in found if row["status"] == status]
    if as_json:
        print(json.dumps(found))
        return
    if not everything:
        hints.say("no experiments: add one with `cockpit queue add`, or try `cockpit run digits`")
        return
    if not found and status is None:
        hints.say("none in the archive" if archived else "all are in the archive: `cockpit queue list --archived`")
        return
    tables.show(HEADINGS, [_cells(row) for row in found], left=2)


def _cells(row: dict[str, Any]) -> list[str]:
    done = f"{row['done']}/{row['runs']}"
    return [
        row["name"],
        words.state(row["status"]),
        done,
        str(row["waiting"]),
        str(row["running"]),
        words.problems(row),
        row["waits_for"],
        " ".join(row["tags"]),
    ]


@app.command("pause", epilog="Example: cockpit queue pause digits")
def pause(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Let workers leave experiments alone until they are resumed. A run under way stops within seconds."""
    _change(names, as_json, db, lambda connection, experiment: queue.set_state(connection, experiment, "paused"))


@app.command("resume", epilog="Example: cockpit queue resume digits --pause-after 10")
def resume(names: Names, pause_after: PauseAfter = None, as_json: Json = False, db: Database = None) -> None:
    """Let workers go on with paused or cancelled experiments. Failures so far are not counted again."""

    def change(connection: sqlite3.Connection, experiment: int) -> queue.Outcome:
        if pause_after is not None:
            queue.set_pause_after(connection, experiment, pause_after)
        return queue.set_state(connection, experiment, "active")

    _change(names, as_json, db, change)


@app.command("cancel", epilog="Example: cockpit queue cancel digits")
def cancel(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Give experiments up; what is done is kept, and what others want is trained all the same."""
    _change(names, as_json, db, lambda connection, experiment: queue.set_state(connection, experiment, "cancelled"))


@app.command("retry", epilog="Example: cockpit queue retry digits")
def retry(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Train the failed runs of experiments again, each as a new attempt, and then what they blocked."""
    _change(names, as_json, db, queue.retry_failed)
    with closing(database.reader(to_read(db))) as connection:
        for name in names:
            for problem in located.lost(connection, queue.experiment_id(connection, name)):
                print(problem, file=sys.stderr)


@app.command("move", epilog="Example: cockpit queue move urgent --priority 10")
def move(
    names: Names,
    priority: Annotated[
        int | None, typer.Option(help="The highest is trained first; 0 at the start.", callback=within(PRIORITY))
    ] = None,
    by: Annotated[
        int | None, typer.Option(help="Change the priority by so much; -1 is later.", callback=within(PRIORITY))
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Give experiments another priority."""
    if (priority is None) == (by is None):
        raise InputError("where to: give --priority, or --by, and not both")
    to = (priority or 0) + (by or 0)
    _change(names, as_json, db, lambda c, experiment: queue.move(c, experiment, to, by=by is not None))


@app.command("annotate", epilog="Example: cockpit queue annotate digits --tag paper --notes 'the first try'")
def annotate(
    names: Names,
    notes: Annotated[str | None, typer.Option(help="Replaces the notes; '' removes them.", show_default=False)] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find experiments by. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="A tag to take away. Repeatable.")] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Give experiments notes and tags. `queue show` and `queue list` show them."""
    if notes is None and not tag and not untag:
        raise InputError("nothing to note: give --notes, --tag or --untag")
    _change(
        names,
        as_json,
        db,
        lambda c, experiment: labels.annotate(c, experiment, notes=notes, tags=tag or (), untag=untag or ()),
    )


@app.command("archive", epilog="Example: cockpit queue archive digits")
def archive(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Put experiments that have nothing left to train out of sight. Their results stay, and `queue list --archived`
    lists them.
    """
    _change(names, as_json, db, lambda connection, experiment: labels.archive(connection, experiment, True))


@app.command("unarchive", epilog="Example: cockpit queue unarchive digits")
def unarchive(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Bring experiments back from the archive."""
    _change(names, as_json, db, lambda connection, experiment: labels.archive(connection, experiment, False))


@app.command("remove", epilog="Example: cockpit queue remove digits")
def remove(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Forget experiments. Their finished runs stay in the database, for the next experiment that wants them."""
    with closing(database.writer(to_write(db))) as connection:
        outcomes = queue.change(connection, names, queue.remove)
    if as_json:
        print(json.dumps({"removed": [*outcomes]}))
        return
    for name, outcome in outcomes.items():
        print(f"removed  {name}: {outcome.said}")


@app.command("show", epilog="Example: cockpit queue show digits --toml")
def show(
    names: Names,
    runs: Annotated[bool, typer.Option("--runs", help="Every run: its status, and what it waits for.")] = False,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Print an experiment file, from which `queue add` makes the same again.")
    ] = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Show how experiments are defined, how far each of their curves is, and what went wrong."""
    if as_toml and (as_json or runs):
        raise InputError("--toml stands alone: leave --json and --runs out")
    with closing(database.reader(to_read(db))) as connection:
        ids = [queue.experiment_id(connection, name) for name in names]
        found = [rows.experiment(connection, experiment) for experiment in ids]
        if as_toml:
            definitions = [queue.definition_of(connection, experiment) for experiment in ids]
            written = [
                files.write(one["name"], replace(d, tickets=imports.located(connection, d.tickets)), one["pause_after"])
                for one, d in zip(found, definitions, strict=True)
            ]
            terminal.data().write("\n\n".join(written) + "\n")
            return
        if runs:
            found = [{**one, "every_run": rows.runs(connection, one["id"])} for one in found]
    if as_json:
        print(json.dumps(found))
        return
    for one in found:
        reason = f" ({one['reason']})" if one["reason"] else ""
        print(f"{one['name']}: {words.state(one['status'])}{reason}, priority {one['priority']}")
        print(f"  {one['command']}")
        if one["tags"]:
            print(f"  tags: {' '.join(one['tags'])}")
        if one["notes"]:
            print(indent(one["notes"], "  "))
        definition = ", ".join(f"{key} {_plain(key, value)}" for key, value in one["definition"].items())
        print(fill(definition, initial_indent="  ", subsequent_indent="  "))
        cells = [[c["name"], f"{c['done']}/{c['runs']}", str(c["running"]), c["waits_for"]] for c in one["curves"]]
        tables.show(["curve", "done", "running", "waits for"], cells, left=1)
        if runs:
            tables.show(RUN_HEADINGS, [_run_cells(run) for run in one["every_run"]], left=4)
        for row in one["errors"]:
            print(f"  {words.error(row)}")


def _run_cells(run: dict[str, Any]) -> list[str]:
    accuracy = f"{run['test_accuracy']:.2%}" if run["test_accuracy"] is not None else ""
    waits_for = run["waits_for"] if run["status"] != "running" else f"(on {run['device']})"
    return [run["digest"][:12], words.run(run), words.state(run["status"]), waits_for, str(run["attempt"]), accuracy]


def _plain(key: str, value: object) -> str:
    if value is None:
        return OWN[key]
    if value == []:
        return "none"
    if isinstance(value, list):
        return " ".join(item["name"] if isinstance(item, dict) else str(item) for item in value)
    return str(value)


@app.command("wait", epilog="Example: cockpit queue wait digits --timeout 3600")
def wait(
    names: Names,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds to wait at most.", show_default="no limit", callback=within(SECONDS)),
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Wait until experiments have ended. Exit code 0: all done; 1: one failed, diverged or is blocked; 3: one is
    paused or cancelled; 4: the time was up.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with closing(database.reader(to_read(db))) as connection:
        ids = [queue.experiment_id(connection, name) for name in names]
        while True:
            states = [str(rows.experiment(connection, experiment)["status"]) for experiment in ids]
            moving = {"waiting", "running"} & set(states)
            late = deadline is not None and time.monotonic() >= deadline
            if not moving or late:
                break
            time.sleep(WAIT_SECONDS)
    _print_states(dict(zip(names, states, strict=True)), as_json)
    lost, halted = {"failed", "diverged", "blocked"} & set(states), {"paused", "cancelled"} & set(states)
    raise typer.Exit(4 if moving else 1 if lost else 3 if halted else 0)


def _change(names: list[str], as_json: bool, db: str | None, change: queue.Change) -> None:
    """Do the same to several experiments, to all or to none, and say what changed and how they stand then."""
    with closing(database.writer(to_write(db))) as connection, database.transaction(connection):
        outcomes = queue.change(connection, names, change)
        ids = {name: queue.experiment_id(connection, name) for name in outcomes}
        states = {name: str(rows.experiments(connection, one)[0]["status"]) for name, one in ids.items()}
    _print_states(states, as_json, {name: f": {outcome.said}" for name, outcome in outcomes.items()})


def _print_states(states: dict[str, str], as_json: bool, remarks: Mapping[str, str] | None = None) -> None:
    if as_json:
        print(json.dumps(states))
    else:
        for name, state in states.items():
            print(f"{words.state(state)}  {name}{(remarks or {}).get(name, '')}")
