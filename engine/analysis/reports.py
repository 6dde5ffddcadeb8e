"""What statistics say of each curve: accuracy by level, differences from its counterparts, where it matches dense.

docs/statistics.md defines each figure. A curve is compared within its experiment, whose trainings differ only in what
the names of curves say. No torch here.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from engine.analysis.statistics import Difference, Mean, matching, mean_of, paired
from engine.store import rows, titles
from engine.store.replicates import Curve, read

WHAT = ("source", "target", "model", "source_optimizer", "optimizer", "scope", "ticket")
COUNTERPARTS = ("random", "own")
FIGURES = ("std", "low", "high", "p", "agreeing", "n")  # of a difference
COMPARED = tuple(
    f"minus_{counterpart}{what}" for counterpart in COUNTERPARTS for what in ("", *(f"_{figure}" for figure in FIGURES))
)
HEADING = [
    "experiment", "curve", *WHAT, "level", "fraction_pruned", "n", "replicates", "collapsed", "diverged", "mean",
    "std", "dense_mean", "dense_std", "dense_n", "matching_level", *COMPARED, "source_title", "target_title",
]  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A level of a curve that has results. Differences are the curve less its counterpart, None where there is none."""

    level: int
    fraction_pruned: float
    accuracy: Mean
    replicates: int  # planned
    collapsed: int  # of the n: no better than a constant answer
    diverged: int  # not of the n
    minus_random: Difference | None
    minus_own: Difference | None


@dataclass(frozen=True)
class Report:
    """A curve, and what it was compared with: the dense network, and curves by name."""

    curve: Curve
    levels: tuple[Level, ...]
    dense: Mean | None
    matching: int | None  # the sparsest level that matches dense
    random: str | None
    own: str | None


def of(connection: sqlite3.Connection, experiment: str | None = None) -> list[Report]:
    """The reports on the curves of an experiment, or of all."""
    found = read(connection, experiment)
    beside: dict[str, list[Curve]] = {}
    for curve in found:
        beside.setdefault(curve.experiment, []).append(curve)
    return [report(curve, beside[curve.experiment]) for curve in found]


def report(curve: Curve, curves: Sequence[Curve]) -> Report:
    """The report on one of the curves of an experiment."""
    random, own = random_of(curve, curves), own_of(curve, curves)
    dense = dense_of(curve, curves)
    levels = tuple(_level(curve, level, random, own) for level, values in curve.accuracies.items() if values)
    means = {one.level: one.accuracy.mean for one in levels}
    return Report(
        curve=curve,
        levels=levels,
        dense=dense,
        matching=None if curve.ticket == "dense" else matching(means, dense),
        random=random.name if random else None,
        own=own.name if own else None,
    )


def random_of(curve: Curve, curves: Iterable[Curve]) -> Curve | None:
    """The random tickets of globally permuted masks that were trained as a curve was; None for themselves and dense.

    Where output layers are pruned they know a chain, which must be that of the curve.
    """
    if curve.ticket in ("random-global", "dense"):
        return None
    for one in curves:
        same_chain = one.source is None or _ends(one) == _ends(curve)
        if one.ticket == "random-global" and _target(one) == _target(curve) and same_chain:
            return one
    return None


def own_of(curve: Curve, curves: Iterable[Curve]) -> Curve | None:
    """The target's own winning tickets: found on it, with its optimizer and the same scope. None if these are they."""
    if curve.ticket != "winning" or curve.is_chain:
        return None
    wanted = (*_target(curve), curve.scope)
    return next((one for one in curves if one.is_chain and (*_target(one), one.scope) == wanted), None)


def dense_of(curve: Curve, curves: Iterable[Curve]) -> Mean | None:
    """The accuracy of the dense network that was trained as a curve was, which is also level 0 of a chain."""
    for one in curves:
        if _target(one) == _target(curve) and (one.ticket == "dense" or one.is_chain):
            return mean_of(one.accuracies.get(0, {}).values())
    return None


def _target(curve: Curve) -> tuple[str, str]:
    return curve.target, curve.optimizer


def _ends(curve: Curve) -> tuple[str | None, ...]:
    return curve.source, curve.source_optimizer, curve.scope


def _level(curve: Curve, level: int, random: Curve | None, own: Curve | None) -> Level:
    reached = curve.accuracies[level]
    accuracy = mean_of(reached.values())
    assert accuracy is not None

    def less(other: Curve | None) -> Difference | None:
        if other is None:
            return None
        theirs = other.accuracies.get(level, {})
        collapsed = curve.collapsed[level] | other.collapsed.get(level, frozenset())
        return paired(reached, theirs, permuted=bool(collapsed & reached.keys() & theirs.keys()))

    return Level(
        level=level,
        fraction_pruned=curve.pruned[level],
        accuracy=accuracy,
        replicates=len(curve.runs[level]),
        collapsed=len(curve.collapsed[level]),
        diverged=len(curve.diverged.get(level, ())),
        minus_random=less(random),
        minus_own=less(own),
    )


def records(
    reports: Iterable[Report], said: Mapping[tuple[str, str], str] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """A flat record for each level of each curve, as `HEADING` names its fields; what cannot be said is None.

    `said` are the display names of data sets, by experiment and name.
    """
    for found in reports:
        curve = found.curve
        for one in found.levels:
            yield {
                "experiment": curve.experiment,
                "curve": curve.name,
                **{key: getattr(curve, key) for key in WHAT},
                "level": one.level,
                "fraction_pruned": one.fraction_pruned,
                **{key: getattr(one.accuracy, key) for key in ("n", "mean", "std")},
                **{key: getattr(one, key) for key in ("replicates", "collapsed", "diverged")},
                **{f"dense_{key}": getattr(found.dense, key, None) for key in ("mean", "std", "n")},
                "matching_level": found.matching,
                **_difference("minus_random", one.minus_random),
                **_difference("minus_own", one.minus_own),
                **{
                    f"{key}_title": said.get((curve.experiment, getattr(curve, key) or ""))
                    for key in ("source", "target")
                },
            }


def _difference(name: str, found: Difference | None) -> dict[str, float | None]:
    figures = {f"{name}_{key}": getattr(found, key, None) for key in FIGURES}
    return {name: getattr(found, "mean", None), **figures, f"{name}_n": found.n if found else 0}


def table(
    connection: sqlite3.Connection, name: str, experiment: str | None = None, *, all_attempts: bool = False
) -> tuple[list[str], Iterator[tuple[object, ...]]]:
    """The column names and the rows of one of `rows.TABLES`, for an experiment or all. Raises InputError for others.

    `all_attempts` is for epochs: those of abandoned attempts, too.
    """
    name = rows.asked(connection, name, experiment, all_attempts)
    if name in rows.EXPORTS:
        return rows.export(connection, name, experiment, all_attempts=all_attempts)
    found = records(of(connection, experiment), titles.of_all_data(connection))
    return HEADING, (tuple(record[key] for key in HEADING) for record in found)
