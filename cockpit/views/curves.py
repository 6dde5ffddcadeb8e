"""Curves for display: accuracy by level over replicates, groups of curves, tables, and matching dense."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from msgspec import structs

from engine.analysis.statistics import Mean, matching
from engine.store import live, replicates, rows, titles
from engine.store.live import Live
from engine.store.row_types import Point

DENSE, WINNING = "dense", "winning"
BARRIER = "barrier"  # not of a ticket's accuracy: error barriers (`cockpit.views.barrier_curves`)

Item = TypeVar("Item")
Grouping = Literal["target", "experiment", "ticket"]
GROUPINGS: tuple[Grouping, ...] = ("target", "experiment", "ticket")


@dataclass(frozen=True)
class Series:
    """One curve: fraction remaining, mean, sample standard deviation (None for n = 1) and n of each level."""

    name: str
    experiment: str
    source: str | None
    target: str
    model: str
    optimizer: str
    ticket: str
    levels: tuple[int, ...] = ()
    remaining: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    deviations: tuple[float | None, ...] = ()
    counts: tuple[int, ...] = ()
    planned: tuple[int, ...] = ()
    curve: str = ""  # its name in the experiment
    width: float = 1.0
    scope: str | None = None
    source_optimizer: str | None = None
    plan: tuple[float, ...] = ()  # the fractions remaining at all planned levels
    source_title: str | None = None  # display names of its data sets
    target_title: str | None = None
    title: str | None = None  # its display name
    is_hidden: bool = False  # by the user, permanently
    live: tuple[Live, ...] = ()  # its runs in training
    seeds: tuple[
        tuple[tuple[int, float], ...], ...
    ] = ()  # by index of the level: the accuracies by seed, if they were read
    label: str = ""  # that distinguishes it from the curves shown with it (`names.named`)

    @property
    def called(self) -> str:
        """The name for display."""
        return self.label or self.name

    def value(self, i: int) -> str:
        """Mean and deviation of the level of index `i`, in per cent."""
        spread = self.deviations[i]
        digits = 2 if self.ticket == BARRIER else 1
        return f"{self.means[i] * 100:.{digits}f}" + (f" ± {spread * 100:.{digits}f}" if spread is not None else "")

    def count(self, i: int) -> str:
        """The number of replicates of the level of index `i`, with the planned number if some are missing."""
        return f"n={self.counts[i]}" + (f" of {self.planned[i]}" if self.counts[i] < self.planned[i] else "")

    def all_counts(self) -> str:
        """The number of replicates of the curve: one number, or the least and most, of the planned number."""
        if not self.counts:
            return "in training"
        least, most, planned = min(self.counts), max(self.counts), max(self.planned)
        return f"n={least}" + (f"-{most}" if most > least else "") + (f" of {planned}" if least < planned else "")


def read(connection: sqlite3.Connection, experiment: str) -> list[Series]:
    """The curves of an experiment with results or runs in training: winning tickets first, dense last."""
    by_curve: dict[str, list[Point]] = {}
    for row in rows.curves(connection, experiment):
        by_curve.setdefault(row.curve, []).append(row)
    running = live.of_curves(connection, experiment)
    found = [
        _filled(one, by_curve.get(one.name, []), running.get(one.name, ())) for one in planned(connection, experiment)
    ]
    shown = (one for one in found if one.levels or one.live)
    return sorted(shown, key=lambda one: (one.ticket == DENSE, one.ticket != WINNING))


def planned(connection: sqlite3.Connection, experiment: str) -> list[Series]:
    """All curves of an experiment, without results."""
    said = titles.of_data(connection, experiment)
    return [
        Series(
            name=name,
            curve=name,
            experiment=experiment,
            source_title=said.get(fact.source or ""),
            target_title=said.get(fact.target),
            **structs.asdict(fact),
        )
        for name, fact in titles.of_curves(connection, experiment).items()
    ]


def _filled(one: Series, points: Sequence[Point], running: Sequence[Live]) -> Series:
    """The curve with its results and its runs in training."""
    return replace(
        one,
        levels=tuple(row.level for row in points),
        remaining=tuple(1.0 - row.fraction_pruned for row in points),
        means=tuple(row.mean for row in points),
        deviations=tuple(row.std for row in points),
        counts=tuple(row.n for row in points),
        planned=tuple(row.replicates for row in points),
        live=tuple(running),
    )


def with_seeds(connection: sqlite3.Connection, experiment: str, series: Sequence[Series]) -> list[Series]:
    """The curves of an experiment with the accuracies of each seed."""
    reached = {curve.name: curve.accuracies for curve in replicates.read(connection, experiment)}
    return [
        replace(one, seeds=tuple(tuple(sorted(reached[one.curve][level].items())) for level in one.levels))
        for one in series
    ]


def with_experiments(series: Sequence[Series]) -> list[Series]:
    """The curves of several experiments, named with their experiments; those of a single one unchanged."""
    if len({one.experiment for one in series}) < 2:
        return list(series)
    return [replace(one, name=f"{one.experiment}: {one.name}") for one in series]


def groups(series: Sequence[Series], by: Grouping) -> dict[str, tuple[Series, ...]]:
    """The groups of curves that share a chart, by the chart's title.

    Targets that are only sources otherwise come last. Dense networks are in the groups of all kinds of tickets.
    """
    if by == "experiment" or all(one.ticket == BARRIER for one in series):
        return {"all targets": tuple(series)} if series else {}
    if by == "ticket":
        kinds = dict.fromkeys(one.ticket for one in series if one.ticket != DENSE)
        return {f"{kind} tickets": tuple(one for one in series if one.ticket in (kind, DENSE)) for kind in kinds}
    targets = dict.fromkeys(one.target for one in series)
    own = {target: tuple(one for one in series if one.target == target) for target in targets}
    return dict(sorted(own.items(), key=lambda item: all(one.source == item[0] for one in item[1])))


def matched(one: Series, shown: Iterable[Series]) -> int | None:
    """The sparsest level at which a winning ticket matches dense (`engine.analysis.statistics.matching`), or None."""
    likewise = (one.experiment, one.target, one.model, one.optimizer)
    for dense in shown if one.ticket == WINNING else ():
        if (
            dense.ticket == DENSE
            and dense.means
            and (dense.experiment, dense.target, dense.model, dense.optimizer) == likewise
        ):
            means = dict(zip(one.levels, one.means, strict=True))
            return matching(means, Mean(dense.means[0], dense.deviations[0], dense.counts[0]))
    return None


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def table(shown: Sequence[Series]) -> tuple[list[str], list[list[str]]]:
    """Headings and a row for each level: mean and deviation of each curve in per cent, n if replicates are missing.

    The dense network is left out: it has only one level, whose figures are in the chart's legend.
    """
    shown = [one for one in shown if one.ticket != DENSE]
    fractions = {level: one.remaining[i] for one in reversed(shown) for i, level in enumerate(one.levels)}
    rows = [
        [str(level), f"{fractions[level] * 100:.2f}", *(cell(one, level) for one in shown)]
        for level in sorted(fractions)
    ]
    return ["level", "remaining %", *(one.called for one in shown)], rows


TIDY = (
    "experiment", "curve", "source", "target", "model", "optimizer", "ticket", "level", "fraction_remaining", "n",
    "replicates", "mean", "std",
)  # fmt: skip


def tidy(shown: Iterable[Series]) -> Iterator[tuple[object, ...]]:
    """A row for each level of each curve, with the columns `TIDY`: fractions in [0, 1] with all their digits."""
    for one in shown:
        what = one.experiment, one.name, one.source, one.target, one.model, one.optimizer, one.ticket
        points = zip(one.levels, one.remaining, one.counts, one.planned, one.means, one.deviations, strict=True)
        yield from ((*what, *point) for point in points)


def cell(one: Series, level: int) -> str:
    """The cell of a level: mean and deviation, n if replicates are missing; empty without a result."""
    if level not in one.levels:
        return ""
    i = one.levels.index(level)
    return one.value(i) + (f" ({one.count(i)})" if one.counts[i] < one.planned[i] else "")
