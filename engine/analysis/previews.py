"""Previews of adding experiments: how many of their runs are new or done, and the time of the others."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

from engine.analysis import estimates
from engine.analysis.estimates import Estimate, Load, Measured, Place, Task, Work
from engine.plan.definitions import Definition
from engine.plan.experiments import Curve, curves, runs
from engine.recipes import Dense, Line, Run

_NEW = "\0"  # begins the names of previewed experiments, which no real experiment can have


@dataclass(frozen=True)
class Preview:
    """The effect of adding one or several experiments: new and finished runs, and an estimate of the rest."""

    curves: int
    runs: int
    new: int
    done: int
    estimate: Estimate

    @property
    def existing(self) -> int:
        """The number of these runs that the database already has."""
        return self.runs - self.new


class Plan(NamedTuple):
    """The work of a run, and the digests of the runs that it needs."""

    work: Work
    needs: list[str]


def preview(
    connection: sqlite3.Connection | None, definitions: Sequence[Definition], where: Sequence[Place]
) -> tuple[list[Preview], Preview]:
    """Preview adding experiments one after the other: the effect of each, and of all with each run counted once.

    Writes nothing. Without a database (None) all runs are new.
    """
    return previews(connection, [definitions], where)[0]


def previews(
    connection: sqlite3.Connection | None, groups: Sequence[Sequence[Definition]], where: Sequence[Place]
) -> list[tuple[list[Preview], Preview]]:
    """The `preview` of each group of experiments, independent of the other groups. Expands each experiment once."""
    expanded = {definition: curves(definition) for group in groups for definition in group}
    each = {definition: runs(planned) for definition, planned in expanded.items()}
    data_sets = {data.identity: data for one in expanded for data in one.sources + one.targets}
    wanted = {digest: run for by_digest in each.values() for digest, run in by_digest.items()}
    plans = _plans(wanted, {data.identity: data.name for data in data_sets.values()})
    load, measured = Load({}, [], {}, {}), Measured({}, {}, {})
    known: dict[str, tuple[int, str]] = {}
    if connection is not None:
        load, measured = estimates.load(connection, ()), estimates.measurements(connection)
        rows = connection.execute(
            "SELECT digest, id, status FROM runs WHERE digest IN (SELECT value FROM json_each(?))",
            (json.dumps(list(wanted)),),
        )
        known = {row["digest"]: (row["id"], row["status"]) for row in rows}
    pixels = {data.identity: data.train_images * data.shape[1] * data.shape[2] for data in data_sets.values()}
    measured = replace(measured, pixels={**measured.pixels, **pixels})

    def of(group: Sequence[Definition]) -> tuple[list[Preview], Preview]:
        expansions, parts = [expanded[one] for one in group], [each[one] for one in group]
        return _preview(load, known, plans, expansions, parts, measured, where)

    return [of(group) for group in groups]


def _preview(
    others: Load,
    known: Mapping[str, tuple[int, str]],
    plans: Mapping[str, Plan],
    expanded: Sequence[Sequence[Curve]],
    each: Sequence[Mapping[str, Run]],
    measured: Measured,
    where: Sequence[Place],
) -> tuple[list[Preview], Preview]:
    load = Load({**others.tasks}, [*others.needs], {**others.wanted}, {**others.priorities})
    wanted = dict.fromkeys(digest for by_digest in each for digest in by_digest)
    known = {digest: known[digest] for digest in wanted if digest in known} if known else {}
    ids = _join(load, {digest: plans[digest] for digest in wanted}, known)
    names = [f"{_NEW}{number}" for number in range(len(each))]
    for name, by_digest in zip(names, each, strict=True):
        load.wanted[name] = {ids[digest] for digest in by_digest if digest in ids}
        load.priorities[name] = 0
    estimated, total = estimates.each(load, names, measured, where)
    done = {digest for digest, (_, status) in known.items() if status == "done"}
    of_each, existing = [], set(known)
    for planned, by_digest, left in zip(expanded, each, estimated.values(), strict=True):
        digests = by_digest.keys()
        of_each.append(Preview(len(planned), len(digests), len(digests - existing), len(digests & done), left))
        existing |= digests
    return of_each, Preview(sum(map(len, expanded)), len(wanted), len(wanted) - len(known), len(done), total)


def _plans(wanted: Mapping[str, Run], names: Mapping[str, str]) -> dict[str, Plan]:
    """The plan of each of these runs by digest; `names` are of the data sets, by identity."""
    works: dict[tuple[int, int, int, str | None], Work] = {}  # few, shared by many runs
    plans: dict[str, Plan] = {}
    for digest, run in wanted.items():
        t = run.training
        leaves = "dense" if isinstance(run.ticket, Dense) else "link" if run.is_link else None
        points = run.ticket.points if isinstance(run.ticket, Line) else 0
        if (work := works.get((id(t), run.epochs, points, leaves))) is None:
            kind = (
                t.model,
                t.width,
                t.batch_size,
                t.profile,
                t.split,
                t.dataset,
                run.epochs,
                t.validation,
                t.test_images,
                points,
            )
            work = works[id(t), run.epochs, points, leaves] = Work(*kind, names[t.dataset], leaves)
        plans[digest] = Plan(work, [needed.digest for needed in run.needs()])
    return plans


def _join(load: Load, wanted: Mapping[str, Plan], known: Mapping[str, tuple[int, str]]) -> dict[str, int]:
    """Add the runs of `wanted` that are left to train to a load; returns the ids of those by digest.

    `known` has the ids and statuses of runs in the database. Runs that depend on a failed run are left out.
    """
    ids = {digest: run for digest, (run, _) in known.items() if run in load.tasks}
    lost = {digest for digest, (run, status) in known.items() if run not in load.tasks and status != "done"}
    numbers = count(1 + max((*load.tasks, *(run for run, _ in known.values())), default=0))
    dependents: Counter[int] = Counter()
    added: dict[int, Work] = {}
    for digest, plan in wanted.items():
        if digest in known:
            continue
        if lost and lost.intersection(plan.needs):
            lost.add(digest)
            continue
        ids[digest] = number = next(numbers)
        added[number] = plan.work
        for needed in plan.needs:
            if needed in ids:
                load.needs.append((number, ids[needed]))
                dependents[ids[needed]] += 1
    load.tasks.update(
        (number, Task(number, None, 0, dependents.pop(number, 0), work)) for number, work in added.items()
    )
    for run, more in dependents.items():
        load.tasks[run] = load.tasks[run]._replace(dependents=load.tasks[run].dependents + more)
    return ids
