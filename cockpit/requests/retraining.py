"""The command that trains a run again, from nothing, in a database of its own."""

import shlex
import sqlite3
from collections.abc import Iterator
from typing import Any

from msgspec import structs

from cockpit.text import hints
from engine.plan import experiments
from engine.plan.defining import options_of
from engine.plan.definitions import Definition
from engine.plan.options import OPTIONS
from engine.store import queue

NAME = "again"
LISTS = ("sources", "tickets", "targets", "optimizers", "target_optimizers", "scopes")


def command(connection: sqlite3.Connection, experiment: int, digest: str) -> str:
    """`cockpit run` with the options of the experiment, narrowed down to this run and those that it needs."""
    options = options_of(narrowed(queue.definition_of(connection, experiment), digest))
    said = ["cockpit", "run", *_words(options), "--name", NAME, "--db", f"{NAME}.db"]
    return shlex.join(said)


def narrowed(definition: Definition, digest: str) -> Definition:
    """The smallest part of an experiment that has the run of this digest."""
    for smaller in _parts(definition, digest):
        if _has(smaller, digest):
            return narrowed(smaller, digest)
    return definition


def _has(definition: Definition, digest: str) -> bool:
    return digest in experiments.runs(experiments.curves(definition))


def _parts(d: Definition, digest: str) -> Iterator[Definition]:
    """Definitions with one alternative of what this one has several of, or with fewer levels or replicates."""
    if d.replicates > 1:
        yield from (structs.replace(d, replicates=1, seed=d.seed + place) for place in range(d.replicates))
    for name in LISTS:
        values: tuple[object, ...] = getattr(d, name)
        changes: list[dict[str, Any]] = [{name: (value,)} for value in values] if len(values) > 1 else []
        yield from (structs.replace(d, **change) for change in changes)
    if d.random:
        yield from (
            structs.replace(d, random=kinds) for kinds in ((), *((kind,) for kind in d.random)) if kinds != d.random
        )
    if d.levels:
        fewer = tuple(level for level in d.evaluate if level < d.levels)
        yield structs.replace(d, levels=d.levels - 1, evaluate=fewer or (0,))
    if len(d.evaluate) > 1:
        yield from (structs.replace(d, evaluate=(level,)) for level in d.evaluate)


def _words(options: dict[str, Any]) -> Iterator[str]:
    """The options on the command line, but for those that are as they would be without."""
    for name, value in options.items():
        if value == (
            list(OPTIONS[name].default) if isinstance(OPTIONS[name].default, tuple) else OPTIONS[name].default
        ):
            continue
        if OPTIONS[name].kind is bool:
            yield hints.flag(name if value else f"no_{name}")
        else:
            for one in value if OPTIONS[name].several else [value]:
                yield from (hints.flag(name), f"{one:g}" if isinstance(one, float) else str(one))
