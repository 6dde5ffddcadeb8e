"""`cockpit queue add`, `extend` and `estimate`: queue experiments, and estimate their time."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cockpit.cli.parameters import takes_experiments, takes_more
from cockpit.requests import completing
from cockpit.requests.outlook import (
    HEADINGS,
    absent,
    basis,
    cells,
    describe,
    emulated,
    estimate_json,
    preview,
    preview_wider,
    widen,
)
from cockpit.requests.request import Request, add_all
from cockpit.requests.shared import Database, Json, Names, command_line, to_read, to_write
from cockpit.requests.trusting import asking
from cockpit.text import hints, words
from cockpit.views import tables
from engine.errors import InputError
from engine.machine import devices
from engine.plan.definitions import Definition
from engine.plan.options import given
from engine.store import adding, database, located, queue, rows, workers
from engine.store.row_types import Experiment

if TYPE_CHECKING:
    from engine.analysis.estimates import Estimate, Place
    from engine.analysis.previews import Preview

app = typer.Typer()

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the new runs and their estimated time here.")]


@app.command("add", epilog="Example: cockpit queue add study.toml --dry-run")
@takes_experiments
def add(
    asked: list[Request],
    dry_run: DryRun = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Queue experiments, all or none. Runs that the database already has are not trained again.

    --json prints one object a line.
    """
    _warn_of([one.definition for one in asked])
    if dry_run:
        _preview(asked, as_json, to_read(db))
        return
    with closing(database.writer(to_write(db, make=True))) as connection:
        found = add_all(connection, asked)
        states = [rows.experiment(connection, added.experiment) for added in found]
        at_work = bool(workers.present(connection))
    for added, state in zip(found, states, strict=True):
        print(json.dumps(_counts(added.name, added)) if as_json else describe(added.name, added))
        _say_what_halts(state)
    if not as_json and (step := _next_step(states, at_work)):
        hints.warn(step)


def _preview(asked: Sequence[Request], as_json: bool, path: Path) -> None:
    """Print what adding experiments, in this order, would do."""
    each, together, where = preview(asked, path)
    for request, one in zip(asked, each, strict=True):
        counts = {**_counts(request.name, one), "estimate": estimate_json(one.estimate)}
        print(json.dumps(counts) if as_json else describe(request.name, one))
    if as_json:
        return
    if len(asked) > 1:
        print(describe("all", together))
    found = {request.name: one.estimate for request, one in zip(asked, each, strict=True)}
    _show(found, together.estimate, where)


def _counts(name: str, addition: "adding.Added | Preview") -> dict[str, object]:
    counts = {"curves": addition.curves, "runs": addition.runs, "new": addition.new, "existing": addition.existing}
    return {"experiment": name, **counts}


def _next_step(states: Sequence[Experiment], at_work: bool) -> str:
    """The command that follows on queueing experiments; none where `_say_what_halts` names one."""
    if any(one.waiting or one.running for one in states):
        return "workers are running: `cockpit status` shows progress" if at_work else "train with `cockpit work`"
    if all(one.status == "done" for one in states):
        return f"nothing left to train: `cockpit plot {shlex.quote(states[0].name)}`"
    return ""


def _warn_of(definitions: Sequence[Definition]) -> None:
    """Warn on stderr of published data sets that are not on this machine yet, and of arithmetic that it emulates."""
    for absence in absent(definitions):
        hints.warn(absence)
    for slow in emulated({one.profile for one in definitions}):
        hints.warn(slow)


def _say_what_halts(state: Experiment) -> None:
    """Warn on stderr of an added experiment that will not finish, with the reason and the fix."""
    name = state.name
    if state.state != "active":
        why = f" ({state.reason})" if state.reason else ""
        hints.warn(f"{name} is {state.state}{why}: `cockpit queue resume {shlex.quote(name)}`")
    if state.failed:
        hints.warn(f"{words.problems(state)}: `cockpit queue retry {shlex.quote(name)}`")


@app.command("extend", epilog="Example: cockpit queue extend digits --replicates 6 --target digits")
@takes_more
def extend(
    names: Names,
    more: Mapping[str, Any],
    trust_models: bool = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Add levels, replicates, data sets or tickets to experiments, finished ones too. Only new runs are trained."""
    if not given(more):
        raise InputError("Nothing to extend: give --levels, --replicates, --target, ...")
    if dry_run:
        _, one, where = preview_wider(names, more, to_read(db))
        name = ", ".join(names)
        if as_json:
            print(json.dumps({**_counts(name, one), "estimate": estimate_json(one.estimate)}))
        else:
            print(describe(name, one))
            _show({name: one.estimate}, one.estimate, where)
        return
    with closing(database.writer(to_write(db))) as connection:
        found = asking(trust_models, lambda: widen(connection, names, more, command_line()))
        ids = [added.experiment for added in found]
        states = [rows.experiment(connection, one) for one in ids]
        wider = [queue.definition_of(connection, one) for one in ids]
        lost = dict.fromkeys(str(problem) for one in ids for problem in located.lost(connection, one))
    if as_json:
        print(json.dumps([_counts(added.name, added) for added in found]))
    _warn_of(wider)
    for problem in lost:
        print(problem, file=sys.stderr)
    for added, state in zip(found, states, strict=True):
        if not as_json:
            print(describe(added.name, added))
        _say_what_halts(state)


@app.command("estimate", epilog="Example: cockpit queue estimate --workers 2")
def estimate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of experiments.",
            show_default="all active ones",
            autocompletion=completing.experiments,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Estimate for N workers on this machine.", show_default="the running ones, else one per device"
        ),
    ] = None,
    split: Annotated[
        int, typer.Option(help="Devices per worker on this machine; it takes only runs queued with the same --split.")
    ] = 1,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Estimate the time and disk that experiments need, from runs that ended on cards of the same model.

    Time includes the runs that workers claim first. A named experiment counts as active.
    """
    from engine.analysis import estimates

    where = None if workers is None and split == 1 else estimates.here(devices.chosen(workers, split=split))
    with closing(database.reader(to_read(db))) as connection:
        for name in names or ():
            queue.experiment_id(connection, name)
        where = where or estimates.places(connection)
        found, total = estimates.estimate(connection, names or (), where)
    if as_json:
        each = [{"experiment": name, **estimate_json(one)} for name, one in found.items()]
        about = {"workers": len(where), "machines": len({place.host for place in where})}
        print(json.dumps({**about, "experiments": each, "total": estimate_json(total)}))
    elif total.runs:
        _show(found, total, where)
    else:
        print("nothing left" if names else "no runs left in the active experiments")


def _show(by_experiment: "Mapping[str, Estimate]", total: "Estimate", where: "Sequence[Place]") -> None:
    """Print estimates as a table, with their basis and what is still unknown."""
    lines = [[words.name(name), *cells(one)] for name, one in by_experiment.items()]
    tables.show(HEADINGS, lines + ([["all", *cells(total)]] if len(lines) > 1 else []), left=1)
    for line in basis(total, where):
        print(line)
