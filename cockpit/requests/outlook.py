"""Add to the queue, and estimate the time: for the command line and the dashboard."""

import sqlite3
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
from engine.machine import devices
from engine.plan import experiments
from engine.plan.defining import extended
from engine.plan.definitions import Definition
from engine.store import adding, database, queue

if TYPE_CHECKING:  # what only adds experiments estimates nothing
    from engine.analysis.estimates import Estimate
    from engine.analysis.previews import Preview

HEADINGS = ("experiment", "runs left", "device time", "done in", "ticket files")


def preview(asked: Sequence[Request], path: Path) -> "tuple[list[Preview], Preview, int]":
    """What adding experiments would do, one by one and together, and the number of workers assumed.

    Writes nothing, not even a new database. Raises InputError if another experiment has one of the names.
    """
    from engine.analysis import previews

    places = devices.usable()
    if not path.exists():
        return *previews.preview(None, [one.definition for one in asked], places), len(places)
    with closing(database.reader(path)) as connection:
        definitions = [one.resolved(connection) for one in asked]
        for one, definition in zip(asked, definitions, strict=True):
            adding.same_experiment(connection, one.name, definition, experiments.curves(definition))
        return *previews.preview(connection, definitions, places), len(places)


def describe(name: str, found: "adding.Added | Preview") -> str:
    """What adding an experiment did, or would do, in one line."""
    return (
        f"{words.name(name)}: {found.curves} curves, {found.runs} runs:"
        f" {found.new} new, {found.existing} {'exists' if found.existing == 1 else 'exist'} already"
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


def preview_wider(names: Sequence[str], more: Mapping[str, Any], path: Path) -> "tuple[list[Definition], Preview, int]":
    """What `widen` would make of experiments, the outlook of that, and the number of workers assumed."""
    from engine.analysis import previews

    places = devices.usable()
    with closing(database.reader(path)) as connection:
        wider = list(_wider(connection, names, more).values())
        _, together = previews.preview(connection, wider, places)
    return wider, together, len(places)


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


def basis(total: "Estimate", workers: int) -> list[str]:
    """The basis of an estimate, and what is still unknown."""
    if not total.runs:
        return []
    lines = [f"with {workers} {'worker' if workers == 1 else 'workers'} on this machine"]
    if not total.timed:
        return [*lines, "time unknown until the first run ends"]
    for unknown in total.untimed:
        runs = "1 run" if unknown.runs == 1 else f"{unknown.runs} runs"
        lines.append(f"unknown until the first run of {unknown.model} on {unknown.data_set} ends: {runs}")
    return lines


def cells(one: "Estimate") -> list[str]:
    """The cells of an estimate under `HEADINGS`, except the first."""
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


def estimate_json(one: "Estimate") -> dict[str, object]:
    """An estimate for a script: unmeasured values are null, not 0."""
    found: dict[str, object] = asdict(one)
    if one.runs and not one.timed:
        found |= {"device_seconds": None, "seconds": None}
    if one.unsized and not one.bytes:
        found["bytes"] = None
    return found
