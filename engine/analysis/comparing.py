"""The weights that pruning leaves in each layer, and two tickets compared layer by layer (figure 1b of the paper)."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from typing import Any, Literal, NamedTuple

from engine.analysis.statistics import Mean, mean_of
from engine.errors import InputError
from engine.recipes import Line, Prunable, Random, Run, Winning
from engine.store.files import Folder, LostFile
from engine.store.records import file_of
from engine.store.sides import Side
from engine.tickets import masks

TOTAL = "total"
Fraction = Literal["remaining", "pruned"]
FRACTIONS: tuple[Fraction, Fraction] = ("remaining", "pruned")

Counts = dict[str, tuple[int, int]]  # layer -> weights remaining, all weights


class Figures(NamedTuple):
    """Figures of one layer of one pair of tickets, A and B, or of one ticket, A; `Layer` has their means."""

    kept_a: float
    remaining_a: float
    pruned_a: float
    kept_b: float | None = None
    remaining_b: float | None = None
    pruned_b: float | None = None
    remaining_ratio: float | None = None
    pruned_ratio: float | None = None
    difference: float | None = None
    overlap: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Layer:
    """A layer of two tickets, A and B: means over pairs of tickets. Undefined figures, such as x / 0, are None.

    `kept` is a number of weights; `remaining` and `pruned` are fractions of the layer's. The ratios are A / B.
    `difference` is the fraction remaining in A less that in B. `overlap` is the Jaccard index of the masks: the weights
    that both keep over the weights that either keeps. `chance` is the index if both keep as many weights in common as
    random masks of their sizes do on average.
    """

    name: str
    weights: int
    kept_a: Mean
    remaining_a: Mean
    pruned_a: Mean
    kept_b: Mean | None = None
    remaining_b: Mean | None = None
    pruned_b: Mean | None = None
    remaining_ratio: Mean | None = None
    pruned_ratio: Mean | None = None
    difference: Mean | None = None
    overlap: Mean | None = None
    chance: Mean | None = None

    @property
    def unchanged(self) -> bool:
        """Whether A and B keep the same number of its weights in every replicate."""
        return self.difference is not None and not self.difference.mean and not self.difference.std


@dataclass(frozen=True)
class Comparison:
    """Two sides layer by layer, or one alone (`b` is None)."""

    a: Side
    b: Side | None
    level: int  # of the sides that are curves
    levels: tuple[int, ...]  # to choose from; empty if both sides are runs
    replicates: tuple[int, ...]  # to choose from, at this level
    n: int  # number of pairs compared
    layers: tuple[Layer, ...]
    total: Layer
    notes: tuple[str, ...]  # missing figures, and why


@dataclass(frozen=True)
class Ratios:
    """A / B of the fraction of each layer that remains, or is pruned, at each level above 0 (figure 1b)."""

    a: Side
    b: Side
    fraction: Fraction
    layers: tuple[str, ...]
    levels: Mapping[int, tuple[Mean | None, ...]]  # level -> ratio of each layer; None for x / 0
    pruned: Mapping[int, float]  # level -> fraction of all weights pruned in A


@dataclass(frozen=True)
class HeatMap:
    """The mean fraction of each layer, and of all, that remains at each level of a side."""

    side: Side
    levels: tuple[int, ...]
    layers: Mapping[str, tuple[float, ...]]  # layer, or `TOTAL` -> fraction at each level


def levels(a: Side, b: Side | None) -> tuple[int, ...]:
    """The levels at which two sides can be compared: those of the curves among them, as a run goes with any level."""
    curve = next((side for side in (a, b) if side is not None and not side.is_run), None)
    return tuple(level for level in curve.runs if _pairs(a, b, level)) if curve else ()


def compare(
    connection: sqlite3.Connection,
    folder: Folder,
    a: Side,
    b: Side | None,
    level: int | None = None,
    replicate: int | None = None,
) -> Comparison:
    """Compare two sides at a level and replicate, by default at the sparsest shared level and all replicates.

    A run is compared with a curve at the run's level by default. Raises InputError for a level or replicate that the
    sides do not share, and for tickets of different networks.
    """
    offered = levels(a, b)
    level = _level(a, b, level, offered)
    pairs = _pairs(a, b, level)
    if replicate is not None and (not offered or replicate not in pairs):
        have = f"choose from {_listed(pairs)}" if offered else "runs are compared"
        raise InputError(f"replicate {replicate} cannot be compared at level {level}: {have}")
    chosen = [pair for number, pair in pairs.items() if replicate in (None, number)]
    weights: dict[str, int] = {}
    figures: dict[str, list[Figures]] = {}
    notes: dict[str, None] = {}  # a set that keeps its order
    for pair in chosen:
        for name, total, of_pair in _compared(connection, folder, pair, _rules(a, b), notes):
            weights[name] = total
            figures.setdefault(name, []).append(of_pair)
    layers = [Layer(name, weights[name], **_means(of_pairs)) for name, of_pairs in figures.items()]
    return Comparison(
        a=a,
        b=b,
        level=level,
        levels=offered,
        replicates=tuple(pairs) if offered else (),
        n=len(chosen),
        layers=tuple(layers[:-1]),
        total=layers[-1],
        notes=tuple(notes),
    )


def heat_map(connection: sqlite3.Connection, side: Side, replicate: int | None = None) -> HeatMap:
    """The fraction of each layer that remains at each level of a side: the mean over replicates, or of one."""
    by_level = {
        level: [_with_total(_counts(connection, runs[n], side.prunable)) for n in runs if replicate in (None, n)]
        for level, runs in side.runs.items()
        if replicate is None or replicate in runs
    }
    names = dict.fromkeys(name for of_runs in by_level.values() for name in of_runs[0] if name != TOTAL)
    return HeatMap(
        side,
        tuple(by_level),
        {name: tuple(_fraction(name, of_runs) for of_runs in by_level.values()) for name in [*names, TOTAL]},
    )


def ratios(connection: sqlite3.Connection, a: Side, b: Side, fraction: Fraction) -> Ratios:
    """The ratios of two chains at all shared levels: ratios of replicates, then their mean."""
    by_level: dict[int, tuple[Mean | None, ...]] = {}
    overall: dict[int, float] = {}
    names: list[str] = []
    for level in levels(a, b):
        pairs = [
            (_counts(connection, one, a.prunable), _counts(connection, other, b.prunable))
            for one, other in _pairs(a, b, level).values()
        ]
        if level:
            names = names or [name for name in pairs[0][0] if name in pairs[0][1]]
            by_level[level] = tuple(
                mean_of(_ratio_of(one[name], other[name], fraction) for one, other in pairs) for name in names
            )
            overall[level] = 1 - _fraction(TOTAL, [_with_total(one) for one, _ in pairs])
    return Ratios(a, b, fraction, tuple(names), by_level, overall)


def _ratio_of(a: tuple[int, int], b: tuple[int, int], fraction: Fraction) -> float | None:
    """A / B of the remaining or pruned weights of one layer, from its `Counts` in each."""
    if fraction == "remaining":
        return _ratio(a[0], b[0])
    return _ratio(a[1] - a[0], b[1] - b[0])


def _fraction(name: str, of_runs: Sequence[Counts]) -> float:
    """The mean fraction remaining of a layer."""
    return fsum(kept / weights for kept, weights in (one[name] for one in of_runs)) / len(of_runs)


def _level(a: Side, b: Side | None, wanted: int | None, offered: Sequence[int]) -> int:
    of_runs = [next(iter(side.runs)) for side in (a, b) if side is not None and side.is_run]
    if not offered and b is not None and not (a.is_run and b.is_run):
        raise InputError(f"{a.name} and {b.name} have no level in common yet: `cockpit work` trains what is queued")
    if wanted is None:
        return of_runs[0] if of_runs and (not offered or of_runs[0] in offered) else offered[-1]
    if wanted not in offered:
        have = f"choose from {_listed(offered)}" if offered else "a run has one level"
        raise InputError(f"level {wanted} cannot be compared: {have}")
    return wanted


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _pairs(a: Side, b: Side | None, level: int) -> dict[int, tuple[int, ...]]:
    """The ids of the runs to compare at a level, by shared replicate; a side that is a run goes with each."""
    sides = [side for side in (a, b) if side is not None]
    replicates = [list(side.runs.get(level, ())) for side in sides if not side.is_run]
    shared = [number for number in replicates[0] if number in replicates[-1]] if replicates else [0]
    return {number: tuple(side.run(level, number) for side in sides) for number in shared}


def _rules(a: Side, b: Side | None) -> tuple[Prunable, Prunable]:
    """The rules by which two sides count layers. A run that is compared with a curve takes the curve's rule."""
    if b is None or a.is_run == b.is_run:
        return a.prunable, (b or a).prunable
    curve = b if a.is_run else a
    return curve.prunable, curve.prunable


def _compared(
    connection: sqlite3.Connection,
    folder: Folder,
    runs: Sequence[int],
    rules: tuple[Prunable, Prunable],
    notes: dict[str, None],
) -> Iterator[tuple[str, int, Figures]]:
    """Yield name, weights and figures of each shared layer of one or two runs, then of `TOTAL`; adds to `notes`."""
    a, b = _counts(connection, runs[0], rules[0]), _counts(connection, runs[-1], rules[1])
    names = [name for name in a if name in b and a[name][1] == b[name][1]]
    if not names:
        raise InputError("these are tickets of different networks: they have no layer in common")
    if odd := [name for name in {**a, **b} if name not in names]:
        notes[f"left out, for not both tickets prune it: {', '.join(odd)}"] = None
    if len(runs) == 1:
        for name, (kept, weights) in _with_total(a).items():
            yield name, weights, Figures(kept, kept / weights, (weights - kept) / weights)
        return
    common = _common(connection, folder, runs, {name: (*a[name], b[name][0]) for name in names}, notes)
    expected = {name: a[name][0] * b[name][0] / b[name][1] for name in names}
    for name in names:
        (kept_a, weights), kept_b = a[name], b[name][0]
        yield name, weights, _of_two(kept_a, kept_b, weights, common.get(name), expected[name])
    kept_a, weights, kept_b = (sum(one) for one in zip(*((*a[name], b[name][0]) for name in names), strict=True))
    in_common = sum(common.values()) if len(common) == len(names) else None
    yield TOTAL, weights, _of_two(kept_a, kept_b, weights, in_common, fsum(expected.values()))


def of_total(
    connection: sqlite3.Connection,
    folder: Folder,
    runs: tuple[int, int],
    rules: tuple[Prunable, Prunable],
    notes: dict[str, None],
) -> Figures:
    """The figures of all layers of two runs together; adds missing figures and why to `notes`."""
    *_, (_, _, total) = _compared(connection, folder, runs, rules, notes)
    return total


def _of_two(kept_a: int, kept_b: int, weights: int, common: int | None, expected: float) -> Figures:
    """The figures of two tickets that keep `common` weights in common; random tickets keep `expected`."""
    return Figures(
        kept_a=kept_a,
        remaining_a=kept_a / weights,
        pruned_a=(weights - kept_a) / weights,
        kept_b=kept_b,
        remaining_b=kept_b / weights,
        pruned_b=(weights - kept_b) / weights,
        remaining_ratio=_ratio(kept_a, kept_b),
        pruned_ratio=_ratio(weights - kept_a, weights - kept_b),
        difference=(kept_a - kept_b) / weights,
        overlap=_jaccard(common, kept_a + kept_b),
        chance=_jaccard(expected, kept_a + kept_b),
    )


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None


def _jaccard(common: float | None, kept: int) -> float | None:
    return None if common is None else _ratio(common, kept - common)


def _common(
    connection: sqlite3.Connection,
    folder: Folder,
    runs: Sequence[int],
    layers: Mapping[str, tuple[int, int, int]],  # kept in A, weights, kept in B
    notes: dict[str, None],
) -> dict[str, int]:
    """The number of weights that both tickets keep of each layer, without layers where a mask is missing.

    No mask is needed for a layer of which one ticket keeps all weights or none.
    """
    known = {
        name: min(kept_a, kept_b)
        for name, (kept_a, weights, kept_b) in layers.items()
        if runs[0] == runs[1] or {kept_a, kept_b} & {0, weights}
    }
    if len(known) == len(layers):
        return known
    try:
        stored = _in_common(folder, *(_mask_file(connection, run) for run in runs))
        return {**{name: stored[name] for name in layers if name in stored}, **known}
    except (LostFile, ValueError) as error:  # a damaged file, or a recipe of another version
        notes[f"no overlap: {error}"] = None
        return known


@lru_cache(maxsize=10_000)
def _in_common(folder: Folder, a: str, b: str) -> dict[str, int]:
    """The number of weights of each layer that both of two mask files keep."""
    return masks.common(folder.get(a), folder.get(b))


def _mask_file(connection: sqlite3.Connection, run: int) -> str:
    """The SHA-256 of the file with the mask of a run's ticket. Raises LostFile, with the reason, if none is stored."""
    row = connection.execute("SELECT recipe FROM runs WHERE id = ?", (run,)).fetchone()
    match Run.from_json(row[0]).ticket:
        case (
            Winning(chain, level)
            | Line(chain, level)
            | Random("preserved" | "shuffled" | "constant-sign", level, chain)
        ) if chain is not None and level > 0:
            producer, kind = chain.mask_of(level)
            if sha256 := file_of(connection, producer.digest, kind):
                return sha256
            # The first versions stored no masks of level 1.
            again = "; trained again, a run of that level leaves it" if level == 1 else ""
            raise LostFile(f"the mask of level {level} is not in the database{again}")
    raise LostFile("masks of random tickets are not stored")


def _counts(connection: sqlite3.Connection, run: int, rule: Prunable) -> Counts:
    rows = connection.execute(
        "SELECT name, weights_remaining, weights_total FROM layers_by_rule WHERE run_id = ? AND rule = ?"
        " ORDER BY layer",
        (run, rule),
    )
    return {name: (kept, weights) for name, kept, weights in rows}


def _with_total(counts: Counts) -> Counts:
    kept, weights = (sum(one[index] for one in counts.values()) for index in (0, 1))
    return {**counts, TOTAL: (kept, weights)}


def _means(of_pairs: Sequence[Figures]) -> dict[str, Any]:
    """The mean of each figure over pairs, by the name that `Figures` and `Layer` have for it."""
    return {name: mean_of(getattr(figures, name) for figures in of_pairs) for name in Figures._fields}
