"""`cockpit queue`: change queued experiments, and wait for them."""

import json
import shlex
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cockpit.requests.shared import (
    PRIORITY,
    SECONDS,
    Database,
    Experiment,
    Json,
    Names,
    PauseAfter,
    to_read,
    to_write,
    within,
)
from cockpit.text import words
from cockpit.views import tables
from engine.errors import InputError
from engine.store import database, labels, located, queue, rows, titles

app = typer.Typer()

WAIT_SECONDS = 0.5


@app.command("pause", epilog="Example: cockpit queue pause digits")
def pause(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Pause experiments until they are resumed. Their current runs stop within seconds."""
    _change(names, as_json, db, lambda connection, experiment: queue.set_state(connection, experiment, "paused"))


@app.command("resume", epilog="Example: cockpit queue resume digits --pause-after 10")
def resume(names: Names, pause_after: PauseAfter = None, as_json: Json = False, db: Database = None) -> None:
    """Resume paused or cancelled experiments. --pause-after counts failures anew."""

    def change(connection: sqlite3.Connection, experiment: int) -> queue.Outcome:
        if pause_after is not None:
            queue.set_pause_after(connection, experiment, pause_after)
        return queue.set_state(connection, experiment, "active")

    _change(names, as_json, db, change)


@app.command("cancel", epilog="Example: cockpit queue cancel digits")
def cancel(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Cancel experiments. Finished runs stay, and runs that other experiments share are still trained."""
    _change(names, as_json, db, lambda connection, experiment: queue.set_state(connection, experiment, "cancelled"))


@app.command("retry", epilog="Example: cockpit queue retry digits")
def retry(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Retry the failed runs of experiments, each as a new attempt, and unblock the runs that need them."""
    _change(names, as_json, db, queue.retry_failed)
    with closing(database.reader(to_read(db))) as connection:
        for name in names:
            for problem in located.lost(connection, queue.experiment_id(connection, name)):
                print(problem, file=sys.stderr)


@app.command("move", epilog="Example: cockpit queue move urgent --priority 10")
def move(
    names: Names,
    priority: Annotated[
        int | None,
        typer.Option(
            help="New priority; workers train the highest first. New experiments have 0.", callback=within(PRIORITY)
        ),
    ] = None,
    by: Annotated[
        int | None, typer.Option(help="Change the priority by N; negative lowers it.", callback=within(PRIORITY))
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Change the priority of experiments."""
    if (priority is None) == (by is None):
        raise InputError("give exactly one of --priority N, --by N")
    to = (priority or 0) + (by or 0)
    _change(names, as_json, db, lambda c, experiment: queue.move(c, experiment, to, by=by is not None))


@app.command("annotate", epilog="Example: cockpit queue annotate digits --tag paper --notes 'the first try'")
def annotate(
    names: Names,
    notes: Annotated[str | None, typer.Option(help="New notes; '' removes them.", show_default=False)] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag to add. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="Tag to remove. Repeatable.")] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Set the notes and tags of experiments, which `queue show` and `queue list` show."""
    if notes is None and not tag and not untag:
        raise InputError("nothing to change: give --notes, --tag or --untag")
    _change(
        names,
        as_json,
        db,
        lambda c, experiment: labels.annotate(c, experiment, notes=notes, tags=tag or (), untag=untag or ()),
    )


@app.command("curve", epilog="Example: cockpit queue curve digits 'digits-b random-global' --name chance")
def curve(
    experiment: Experiment,
    curve: Annotated[str | None, typer.Argument(help="The curve's name.", show_default="list the curves")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name in charts; '' restores the automatic name.", show_default=False)
    ] = None,
    hidden: Annotated[
        bool | None,
        typer.Option("--hide/--show", help="Hide the curve in charts, or show it again.", show_default=False),
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Rename or hide a curve in charts. Results and exports keep its name and rows."""
    if curve is None:
        if name is not None or hidden is not None:
            raise InputError(f"name the curve: `cockpit queue curve {shlex.quote(experiment)}` lists them")
        _list_curves(experiment, as_json, to_read(db))
        return
    if name is None and hidden is None:
        raise InputError("nothing to change: give --name, --hide or --show")
    change = partial(titles.edit_curve, curve=curve, title=name, hidden=hidden)
    _change([experiment], as_json, db, change)


def _list_curves(experiment: str, as_json: bool, path: Path) -> None:
    with closing(database.reader(path)) as connection:
        queue.experiment_id(connection, experiment)
        found = titles.of_curves(connection, experiment)
    listed = [{"curve": name, "name": one.title, "hidden": one.is_hidden} for name, one in found.items()]
    if as_json:
        print(json.dumps(listed))
        return
    cells = [
        [words.name(str(row["curve"])), str(row["name"] or ""), "hidden" if row["hidden"] else ""] for row in listed
    ]
    tables.show(["curve", "called", ""], cells, left=3)


@app.command("archive", epilog="Example: cockpit queue archive digits")
def archive(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Hide experiments without unfinished runs. Their results stay; `queue list --archived` lists them."""
    _change(names, as_json, db, lambda connection, experiment: labels.archive(connection, experiment, True))


@app.command("unarchive", epilog="Example: cockpit queue unarchive digits")
def unarchive(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Restore experiments from the archive."""
    _change(names, as_json, db, lambda connection, experiment: labels.archive(connection, experiment, False))


@app.command("remove", epilog="Example: cockpit queue remove digits")
def remove(names: Names, as_json: Json = False, db: Database = None) -> None:
    """Remove experiments. Their finished runs stay in the database and can be reused."""
    with closing(database.writer(to_write(db))) as connection:
        outcomes = queue.change(connection, names, queue.remove)
    if as_json:
        print(json.dumps({"removed": [*outcomes]}))
        return
    for name, outcome in outcomes.items():
        print(f"removed  {name}: {outcome.said}")


@app.command("wait", epilog="Example: cockpit queue wait digits --timeout 3600")
def wait(
    names: Names,
    timeout: Annotated[
        float | None,
        typer.Option(help="Maximum number of seconds to wait.", show_default="no limit", callback=within(SECONDS)),
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Wait until experiments have ended. Exit code 0: all done; 1: one failed, diverged or is blocked; 3: one is
    paused or cancelled; 4: timeout.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with closing(database.reader(to_read(db))) as connection:
        ids = [queue.experiment_id(connection, name) for name in names]
        while True:
            states = [str(rows.experiment(connection, experiment).status) for experiment in ids]
            moving = {"waiting", "running"} & set(states)
            late = deadline is not None and time.monotonic() >= deadline
            if not moving or late:
                break
            time.sleep(WAIT_SECONDS)
    _print_states(dict(zip(names, states, strict=True)), as_json)
    lost, halted = {"failed", "diverged", "blocked"} & set(states), {"paused", "cancelled"} & set(states)
    raise typer.Exit(4 if moving else 1 if lost else 3 if halted else 0)


def _change(names: list[str], as_json: bool, db: str | None, change: queue.Change) -> None:
    """Apply a change to all named experiments or none, and print what changed and their new states."""
    with closing(database.writer(to_write(db))) as connection, database.transaction(connection):
        outcomes = queue.change(connection, names, change)
        ids = {name: queue.experiment_id(connection, name) for name in outcomes}
        states = {name: str(rows.experiments(connection, one)[0].status) for name, one in ids.items()}
    _print_states(states, as_json, {name: f": {outcome.said}" for name, outcome in outcomes.items()})


def _print_states(states: dict[str, str], as_json: bool, remarks: Mapping[str, str] | None = None) -> None:
    if as_json:
        print(json.dumps(states))
    else:
        for name, state in states.items():
            print(f"{words.state(state)}  {words.name(name)}{(remarks or {}).get(name, '')}")
