"""Add to the queue, and estimate the time: for the command line and the dashboard."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cockpit.requests.request import Request
from cockpit.requests.shared import use_data
from cockpit.text import words
from engine.datasets import places
from engine.errors import InputError
from engine.machine import devices, processes
from engine.plan import experiments
from engine.plan.defining import extended
from engine.plan.definitions import Definition
from engine.store import adding, database, queue

if TYPE_CHECKING:  # what only adds experiments estimates nothing
    from engine.analysis.estimates import Estimate, Place
    from engine.analysis.previews import Preview

HEADINGS = ("experiment", "runs left", "device time", "done in", "ticket files")


def preview(asked: Sequence[Request], path: Path) -> "tuple[list[Preview], Preview, list[Place]]":
    """What adding experiments would do, one by one and together, and the workers assumed.

    Writes nothing, not even a new database. Raises InputError if another experiment has one of the names.
    """
    from engine.analysis import estimates, previews

    if not path.exists():
        where = estimates.places(None)
        return *previews.preview(None, [one.definition for one in asked], where), where
    with closing(database.reader(path)) as connection:
        where = estimates.places(connection)
        definitions = [one.resolved(connection) for one in asked]
        for one, definition in zip(asked, definitions, strict=True):
            adding.same_experiment(connection, one.name, definition, experiments.curves(definition))
        return *previews.preview(connection, definitions, where), where


def describe(name: str, addition: "adding.Added | Preview") -> str:
    """What adding an experiment did, or would do, in one line."""
    return (
        f"{words.name(name)}: {addition.curves} curves, {addition.runs} runs:"
        f" {addition.new} new, {addition.existing} {'exists' if addition.existing == 1 else 'exist'} already"
    )


def absent(definitions: Iterable[Definition]) -> list[InputError]:
    """An error for each published data set of experiments that is not on this machine."""
    use_data()
    return places.missing(data.identity for one in definitions for data in one.sources + one.targets)


def emulated(profiles: Iterable[str]) -> list[str]:
    """A warning of runs that take much longer here than elsewhere, or none."""
    slow = devices.emulated(profiles)
    return [f"{slow}: choose the profile exact, or train where `cockpit doctor` calls bfloat16 native"] if slow else []


def widen(
    connection: sqlite3.Connection, names: Sequence[str], more: Mapping[str, Any], command: str
) -> list[adding.Added]:
    """Extend experiments by the options of `extend`: all of them or none."""
    wider = _wider(connection, names, more)
    return [adding.extend(connection, one, definition, command) for one, definition in wider.items()]


def preview_wider(
    names: Sequence[str], more: Mapping[str, Any], path: Path
) -> "tuple[list[Definition], Preview, list[Place]]":
    """What `widen` would make of experiments, the outlook of that, and the workers assumed."""
    from engine.analysis import estimates, previews

    with closing(database.reader(path)) as connection:
        wider, where = list(_wider(connection, names, more).values()), estimates.places(connection)
        _, together = previews.preview(connection, wider, where)
    return wider, together, where


def _wider(connection: sqlite3.Connection, names: Sequence[str], more: Mapping[str, Any]) -> dict[int, Definition]:
    """The extended definitions by experiment id. Raises InputError if one cannot be extended."""
    found = {}
    for name in names:
        experiment = queue.experiment_id(connection, name)
        try:
            found[experiment] = extended(queue.definition_of(connection, experiment), **more)
        except InputError as error:
            raise InputError(f"experiment {name!r}: ", error) from None
    return found


def basis(total: "Estimate", where: "Sequence[Place]") -> list[str]:
    """The basis of an estimate, and what is still unknown."""
    if not total.runs:
        return []
    lines = [f"with {assumed(where)}"]
    if not total.timed and not total.untaken:
        return [*lines, "time unknown until the first run ends"]
    for unknown in total.untimed:
        runs = words.count(unknown.runs, "run")
        lines.append(f"unknown until the first run of {unknown.model} on {unknown.data_set} ends: {runs}")
    for untaken in total.untaken:
        runs, split = words.count(untaken.runs, "run"), untaken.split
        lines.append(f"no worker takes {runs} {words.split(split)}: `cockpit work --split {split}`")
    return lines


def assumed(where: "Sequence[Place]") -> str:
    """The workers that an estimate assumes, their machines and, unless all are of this machine and alike, the cards."""
    hosts, places = {place.host for place in where}, Counter((place.split, place.card) for place in where)
    here = hosts == {processes.place().host}
    if any(place.split is None for place in where):
        said = f"{words.count(len(where), 'device')} of this machine"
    else:
        on = "this machine" if here else hosts.copy().pop() if len(hosts) == 1 else words.count(len(hosts), "machine")
        said = f"{words.count(len(where), 'worker')} on {on}"
    if here and len(places) == 1:
        return said
    each = (
        f"{number} x {f'{split} ' if split and split > 1 else ''}{card.model or card.kind}"
        for (split, card), number in places.items()
    )
    return f"{said}: {', '.join(each)}"


def cells(one: "Estimate") -> list[str]:
    """The cells of an estimate under `HEADINGS`, except the first."""
    if not one.runs:
        return ["0", "", "nothing left", ""]

    def known(text: str, any_known: bool, any_unknown: bool) -> str:
        return ("at least " if any_unknown else "") + text if any_known else "unknown"

    partly = one.timed < one.runs
    return [
        str(one.runs),
        known(words.duration(one.device_seconds), one.timed > 0, partly),
        known(words.duration(one.seconds), one.timed > 0, partly),
        known(words.size(one.bytes), one.bytes > 0 or not one.unsized, one.unsized > 0),
    ]


def estimate_json(one: "Estimate") -> dict[str, object]:
    """An estimate for a script: unmeasured values are null, not 0."""
    found: dict[str, object] = asdict(one)
    if one.runs and not one.timed:
        found |= {"device_seconds": None, "seconds": None}
    if one.unsized and not one.bytes:
        found["bytes"] = None
    return found
