"""`cockpit queue add`, `extend` and `estimate`: what joins the queue, and how long it will take."""

import json
import shlex
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cockpit.requests import choices, completing
from cockpit.requests.asking import takes_experiments
from cockpit.requests.options import Wanted, add_all
from cockpit.requests.shared import Database, Json, Names, command_line, to_read, to_write, use_data
from cockpit.requests.trusting import TrustModels, asking
from cockpit.text import hints, words
from cockpit.views import tables
from engine.analysis import estimates
from engine.analysis.estimates import Estimate, Preview
from engine.datasets import places
from engine.errors import InputError
from engine.machine import devices
from engine.plan import experiments
from engine.plan.definitions import Definition, extended
from engine.store import adding, database, located, queue, rows

app = typer.Typer()

HEADINGS = ("experiment", "runs left", "device time", "done in", "ticket files")

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Queue nothing: only say what is new, and how long it would take here.")
]


@app.command("add", epilog="Example: cockpit queue add study.toml --dry-run")
@takes_experiments
def add(
    asked: list[Wanted],
    dry_run: DryRun = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Queue experiments: all that are asked for, or none. Runs that another has, or had, are not trained again.

    With --json, each is a line.
    """
    _say_what_is_absent(one.definition for one in asked)
    if dry_run:
        _preview(asked, as_json, to_read(db))
        return
    with closing(database.writer(to_write(db, make=True))) as connection:
        found = add_all(connection, asked)
        states = [rows.experiment(connection, added.experiment) for added in found]
    for added, state in zip(found, states, strict=True):
        print(json.dumps(_counts(added.name, added)) if as_json else describe(added.name, added))
        _say_what_halts(state)


def preview(asked: Sequence[Wanted], path: Path) -> tuple[list[Preview], Preview, int]:
    """What adding experiments would do, to each and to all, and with how many workers they would be trained.

    Nothing is written, not even a new database. Raises InputError where another experiment has one of the names.
    """
    places = devices.found()
    if not path.exists():
        return *estimates.preview(None, [one.definition for one in asked], places), len(places)
    with closing(database.reader(path)) as connection:
        definitions = [one.resolved(connection) for one in asked]
        for one, definition in zip(asked, definitions, strict=True):
            adding.same_experiment(connection, one.name, definition, experiments.curves(definition))
        return *estimates.preview(connection, definitions, places), len(places)


def _preview(asked: Sequence[Wanted], as_json: bool, path: Path) -> None:
    """Say what adding experiments, one after the other, would do."""
    each, together, workers = preview(asked, path)
    for wanted, one in zip(asked, each, strict=True):
        counts = {**_counts(wanted.name, one), "estimate": estimate_json(one.estimate)}
        print(json.dumps(counts) if as_json else describe(wanted.name, one))
    if as_json:
        return
    if len(asked) > 1:
        print(describe("all", together))
    found = {wanted.name: one.estimate for wanted, one in zip(asked, each, strict=True)}
    _show(found, together.estimate, workers)


def _counts(name: str, found: adding.Added | Preview) -> dict[str, object]:
    counts = {"curves": found.curves, "runs": found.runs, "new": found.new, "existing": found.existing}
    return {"experiment": name, **counts}


def describe(name: str, found: adding.Added | Preview) -> str:
    """What adding an experiment did, or would do, in a line."""
    return (
        f"{name}: {found.curves} curves, {found.runs} runs:"
        f" {found.new} new, {found.existing} {'exists' if found.existing == 1 else 'exist'} already"
    )


def _say_what_is_absent(definitions: Iterable[Definition]) -> None:
    """Say on stderr which published data sets are not on this machine yet."""
    for absence in absent(definitions):
        print(absence, file=sys.stderr)


def absent(definitions: Iterable[Definition]) -> list[InputError]:
    """The error for each published data set of experiments that is not on this machine."""
    use_data()
    return places.missing(data.identity for one in definitions for data in one.sources + one.targets)


def _say_what_halts(state: Mapping[str, object]) -> None:
    """Say on stderr why an experiment that was added will not be trained to its end, and what helps."""
    name = str(state["name"])
    if state["state"] != "active":
        why = f" ({state['reason']})" if state["reason"] else ""
        hints.warn(f"{name} is {state['state']}{why}: `cockpit queue resume {shlex.quote(name)}`")
    if state["failed"]:
        hints.warn(f"{words.problems(state)}: `cockpit queue retry {shlex.quote(name)}`")


@app.command("extend", epilog="Example: cockpit queue extend digits --replicates 6 --target digits")
def extend(
    names: Names,
    replicates: Annotated[int | None, typer.Option(help="How many there are then.")] = None,
    levels: Annotated[int | None, typer.Option(help="How many pruning iterations there are then.")] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            help="All levels trained on a target then: paper, all, or a list. Default: paper or all where it was that,"
            " else as it is.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="One more data set to find tickets on. Repeatable.", autocompletion=choices.OF_OPTIONS["source"]
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="One more data set to train on. Repeatable.", autocompletion=choices.OF_OPTIONS["target"]),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="One more: global or layerwise. Repeatable.", autocompletion=choices.OF_OPTIONS["scope"]),
    ] = None,
    random: Annotated[
        list[str] | None,
        typer.Option(
            help="One more random ticket: global, local, preserved. Repeatable.",
            autocompletion=choices.OF_OPTIONS["random"],
        ),
    ] = None,
    optimizer: Annotated[
        list[str] | None,
        typer.Option(help="One more of the source. Repeatable.", autocompletion=choices.OF_OPTIONS["optimizer"]),
    ] = None,
    target_optimizer: Annotated[
        list[str] | None,
        typer.Option(help="One more of the target. Repeatable.", autocompletion=choices.OF_OPTIONS["target_optimizer"]),
    ] = None,
    trust_models: TrustModels = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Give experiments more levels, replicates, data sets or tickets, finished ones too; only the new is trained."""
    options = {
        "replicates": replicates,
        "levels": levels,
        "evaluate": evaluate,
        "source": source,
        "target": target,
        "scope": scope,
        "random": random,
        "optimizer": optimizer,
        "target_optimizer": target_optimizer,
    }
    given = {key: value for key, value in options.items() if value is not None and value != []}
    if not given:
        raise InputError("nothing to add: say what there is to be more of, as in --replicates 6 or --target digits")
    with closing(database.writer(to_write(db))) as connection:
        found = asking(trust_models, lambda: widen(connection, names, given, command_line()))
        ids = [added.experiment for added in found]
        states = [rows.experiment(connection, one) for one in ids]
        wider = [queue.definition_of(connection, one) for one in ids]
        lost = dict.fromkeys(str(problem) for one in ids for problem in located.lost(connection, one))
    if as_json:
        print(json.dumps([_counts(added.name, added) for added in found]))
    _say_what_is_absent(wider)
    for problem in lost:
        print(problem, file=sys.stderr)
    for added, state in zip(found, states, strict=True):
        if not as_json:
            print(describe(added.name, added))
        _say_what_halts(state)


def widen(
    connection: sqlite3.Connection, names: Sequence[str], more: Mapping[str, Any], command: str
) -> list[adding.Added]:
    """Give experiments more, with the options of `extend`: all of them, if all of them can have it."""
    wider = _wider(connection, names, more)
    return [adding.extend(connection, one, definition, command) for one, definition in wider.items()]


def preview_wider(names: Sequence[str], more: Mapping[str, Any], path: Path) -> tuple[list[Definition], Preview, int]:
    """What `widen` would make of experiments, how much that is, and with how many workers it would be trained."""
    places = devices.found()
    with closing(database.reader(path)) as connection:
        wider = list(_wider(connection, names, more).values())
        _, together = estimates.preview(connection, wider, places)
    return wider, together, len(places)


def _wider(connection: sqlite3.Connection, names: Sequence[str], more: Mapping[str, Any]) -> dict[int, Definition]:
    """The definitions of experiments with more, by their ids. Raises InputError where one cannot have it."""
    found = {}
    for name in names:
        experiment = queue.experiment_id(connection, name)
        try:
            found[experiment] = extended(queue.definition_of(connection, experiment), **more)
        except InputError as error:
            raise InputError(f"experiment {name!r}: {error}") from None
    return found


@app.command("estimate", epilog="Example: cockpit queue estimate --workers 2")
def estimate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of experiments. Default: all that are active.",
            show_default=False,
            autocompletion=completing.experiments,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="As if with so many. Default: one a CUDA device, else one a core.", show_default=False),
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Estimate how long experiments will take on this machine, and how much disk, from what was measured.

    What is claimed before theirs counts in. An experiment that is named counts as active.
    """
    places = devices.chosen(workers)
    with closing(database.reader(to_read(db))) as connection:
        for name in names or ():
            queue.experiment_id(connection, name)
        found, total = estimates.estimate(connection, names or (), places)
    if as_json:
        each = [{"experiment": name, **estimate_json(one)} for name, one in found.items()]
        print(json.dumps({"workers": len(places), "experiments": each, "total": estimate_json(total)}))
    elif total.runs:
        _show(found, total, len(places))
    else:
        print("nothing left" if names else "nothing left in the active experiments")


def _show(found: Mapping[str, Estimate], total: Estimate, workers: int) -> None:
    """Print estimates as a table, what they rest on, and what is not known yet."""
    lines = [[name, *cells(one)] for name, one in found.items()]
    tables.show(HEADINGS, lines + ([["all", *cells(total)]] if len(lines) > 1 else []), left=1)
    for line in basis(total, workers):
        print(line)


def basis(total: Estimate, workers: int) -> list[str]:
    """What an estimate rests on, and what is not known yet."""
    if not total.runs:
        return []
    lines = [f"with {workers} {'worker' if workers == 1 else 'workers'} on this machine"]
    if not total.timed:
        return [*lines, "unknown until the first run ends"]
    for unknown in total.untimed:
        runs = "1 run" if unknown.runs == 1 else f"{unknown.runs} runs"
        lines.append(f"unknown until the first run of {unknown.model} on {unknown.data_set} ends: {runs}")
    return lines


def cells(one: Estimate) -> list[str]:
    """The cells of an estimate under `HEADINGS`, without the first."""
    if not one.runs:
        return ["0", "", "nothing left", ""]

    def known(text: str, any_known: bool, any_unknown: bool) -> str:
        return ("at least " if any_unknown else "") + text if any_known else "unknown"

    partly = bool(one.untimed)
    return [
        str(one.runs),
        known(words.duration(one.device_seconds), one.timed > 0, partly),
        known(words.duration(one.seconds), one.timed > 0, partly),
        known(words.size(one.bytes), one.bytes > 0 or not one.unsized, one.unsized > 0),
    ]


def estimate_json(one: Estimate) -> dict[str, object]:
    """An estimate for a script: what nothing was measured of is null, not 0."""
    found: dict[str, object] = asdict(one)
    if one.runs and not one.timed:
        found |= {"device_seconds": None, "seconds": None}
    if one.unsized and not one.bytes:
        found["bytes"] = None
    return found
