"""The statistics of each curve: accuracy by level, differences from its counterparts, the level that matches dense.

docs/statistics.md defines each figure. A curve is compared only with curves of its experiment, whose trainings differ
only in what the names of curves tell. No torch.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from engine.analysis.statistics import Difference, Mean, matching, mean_of, paired
from engine.store import rows, titles
from engine.store.replicates import Curve, read

WHAT = ("source", "target", "model", "source_optimizer", "optimizer", "scope", "ticket")
COUNTERPARTS = ("random", "own")
FIGURES = ("std", "low", "high", "p", "agreeing", "n")  # columns of a difference after its mean
COMPARED = tuple(
    f"minus_{counterpart}{what}" for counterpart in COUNTERPARTS for what in ("", *(f"_{figure}" for figure in FIGURES))
)
HEADING = [
    "experiment", "curve", *WHAT, "level", "fraction_pruned", "n", "replicates", "collapsed", "diverged", "mean",
    "std", "dense_mean", "dense_std", "dense_n", "matching_level", *COMPARED, "source_title", "target_title",
]  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A level of a curve with results. Differences are the curve less its counterpart, None without a counterpart."""

    level: int
    fraction_pruned: float
    accuracy: Mean
    replicates: int  # planned
    collapsed: int  # number of the n replicates whose accuracy is near chance
    diverged: int  # number of replicates that diverged, which are not among the n
    minus_random: Difference | None
    minus_own: Difference | None


@dataclass(frozen=True)
class Report:
    """The statistics of a curve, and the names of the curves that it is compared with."""

    curve: Curve
    levels: tuple[Level, ...]
    dense: Mean | None  # accuracy of the dense network
    matching: int | None  # the sparsest level that matches dense
    random: str | None  # the curve of random tickets
    own: str | None  # the curve of the target's own winning tickets


def of(connection: sqlite3.Connection, experiment: str | None = None) -> list[Report]:
    """The reports on the curves of an experiment, or of all."""
    curves = read(connection, experiment)
    by_experiment: dict[str, list[Curve]] = {}
    for curve in curves:
        by_experiment.setdefault(curve.experiment, []).append(curve)
    return [report(curve, by_experiment[curve.experiment]) for curve in curves]


def report(curve: Curve, curves: Sequence[Curve]) -> Report:
    """The report on one curve, compared with the `curves` of its experiment."""
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
    """The random tickets of globally permuted masks with a curve's target and optimizer; None for them and dense.

    If output layers are pruned, these tickets belong to a chain, which must be the curve's.
    """
    if curve.ticket in ("random-global", "dense"):
        return None
    for one in curves:
        same_chain = one.source is None or _ends(one) == _ends(curve)
        if one.ticket == "random-global" and _target(one) == _target(curve) and same_chain:
            return one
    return None


def own_of(curve: Curve, curves: Iterable[Curve]) -> Curve | None:
    """The winning tickets found on a curve's target, with its optimizer and scope; None if the curve is these."""
    if curve.ticket != "winning" or curve.is_chain:
        return None
    wanted = (*_target(curve), curve.scope)
    return next((one for one in curves if one.is_chain and (*_target(one), one.scope) == wanted), None)


def dense_of(curve: Curve, curves: Iterable[Curve]) -> Mean | None:
    """The accuracy of the dense network with a curve's target and optimizer, which is also level 0 of a chain."""
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
    reports: Iterable[Report], names: Mapping[tuple[str, str], str] = MappingProxyType({})
) -> Iterator[dict[str, str | float | None]]:
    """A record for each level of each curve, with the keys of `HEADING`; unknown values are None.

    `names` are the display names of data sets, by experiment and the experiment's name for the set.
    """
    for report in reports:
        curve = report.curve
        for one in report.levels:
            yield {
                "experiment": curve.experiment,
                "curve": curve.name,
                **{key: getattr(curve, key) for key in WHAT},
                "level": one.level,
                "fraction_pruned": one.fraction_pruned,
                **{key: getattr(one.accuracy, key) for key in ("n", "mean", "std")},
                **{key: getattr(one, key) for key in ("replicates", "collapsed", "diverged")},
                **{f"dense_{key}": getattr(report.dense, key, None) for key in ("mean", "std", "n")},
                "matching_level": report.matching,
                **_difference("minus_random", one.minus_random),
                **_difference("minus_own", one.minus_own),
                **{
                    f"{key}_title": names.get((curve.experiment, getattr(curve, key) or ""))
                    for key in ("source", "target")
                },
            }


def _difference(name: str, difference: Difference | None) -> dict[str, float | None]:
    figures = {f"{name}_{key}": getattr(difference, key, None) for key in FIGURES}
    return {name: getattr(difference, "mean", None), **figures, f"{name}_n": difference.n if difference else 0}


def table(
    connection: sqlite3.Connection, name: str, experiment: str | None = None, *, all_attempts: bool = False
) -> tuple[list[str], Iterator[tuple[object, ...]]]:
    """The column names and the rows of one of `rows.TABLES`, of one experiment or all. Raises InputError for others.

    `all_attempts` adds the epochs of abandoned attempts, and is for the table epochs only.
    """
    name = rows.asked(connection, name, experiment, all_attempts)
    if name in rows.EXPORTS:
        return rows.export(connection, name, experiment, all_attempts=all_attempts)
    every = records(of(connection, experiment), titles.of_all_data(connection))
    return HEADING, (tuple(record[key] for key in HEADING) for record in every)
