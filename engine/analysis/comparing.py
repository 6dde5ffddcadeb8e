"""What pruning leaves of each layer, and two tickets compared layer by layer (the paper's figure 1b)."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from typing import Any, Literal

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

Counts = dict[str, tuple[int, int]]  # layer -> weights remaining, weights
Figures = dict[str, float | None]  # what `Layer` has, of one pair of tickets


@dataclass(frozen=True)
class Layer:
    """A layer of two tickets, A and B. What cannot be said, as the ratio to a layer with nothing left, is None.

    `difference` is the fraction remaining in A less that in B. `overlap` is the Jaccard index of the masks: weights
    that both keep, by weights that either keeps. `chance` is what it would be if they had as many in common as random
    masks that keep as many weights have on average.
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
        """Whether A and B keep as many of its weights, in every replicate."""
        return self.difference is not None and not self.difference.mean and not self.difference.std


@dataclass(frozen=True)
class Comparison:
    """Two sides layer by layer, or one alone (`b` is None)."""

    a: Side
    b: Side | None
    level: int  # of the sides that are curves
    levels: tuple[int, ...]  # that can be asked for; none where runs are compared
    replicates: tuple[int, ...]  # likewise, at this level
    n: int  # pairs of tickets compared
    layers: tuple[Layer, ...]
    total: Layer
    notes: tuple[str, ...]  # what is missing, and why


@dataclass(frozen=True)
class Ratios:
    """A / B of the fraction of each layer that remains, or is pruned, at each level that prunes (figure 1b)."""

    a: Side
    b: Side
    fraction: Fraction
    layers: tuple[str, ...]
    levels: Mapping[int, tuple[Mean | None, ...]]  # level -> for each layer; None where B has nothing of it
    pruned: Mapping[int, float]  # level -> fraction of all weights pruned in A


@dataclass(frozen=True)
class HeatMap:
    """The mean fraction that remains of each layer, and in total, at each level of a side."""

    side: Side
    levels: tuple[int, ...]
    layers: Mapping[str, tuple[float, ...]]


def levels(a: Side, b: Side | None) -> tuple[int, ...]:
    """The levels at which two sides can be compared. A run has but its own, so it limits nothing."""
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
    """Compare two sides at a level: by default the run's own beside a curve, else the sparsest that both have.

    Raises InputError for a level or a replicate that they do not share, and for tickets of different networks.
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
    notes: dict[str, None] = {}  # each once
    for pair in chosen:
        for name, total, found in _compared(connection, folder, pair, _rules(a, b), notes):
            weights[name] = total
            figures.setdefault(name, []).append(found)
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
    """What remains of each layer of a side at each of its levels: the mean over replicates, or of one of them."""
    found = {
        level: [_with_total(_counts(connection, runs[n], side.prunable)) for n in runs if replicate in (None, n)]
        for level, runs in side.runs.items()
        if replicate is None or replicate in runs
    }
    names = [name for name in dict.fromkeys(name for of_runs in found.values() for name in of_runs[0]) if name != TOTAL]
    return HeatMap(
        side,
        tuple(found),
        {name: tuple(_fraction(name, of_runs) for of_runs in found.values()) for name in [*names, TOTAL]},
    )


def ratios(connection: sqlite3.Connection, a: Side, b: Side, fraction: Fraction) -> Ratios:
    """The ratios of two chains over all levels that both have, averaged replicate by replicate."""
    found: dict[int, tuple[Mean | None, ...]] = {}
    overall: dict[int, float] = {}
    names: list[str] = []
    for level in levels(a, b):
        pairs = [
            (_counts(connection, one, a.prunable), _counts(connection, other, b.prunable))
            for one, other in _pairs(a, b, level).values()
        ]
        if level:
            names = names or [name for name in pairs[0][0] if name in pairs[0][1]]
            found[level] = tuple(
                mean_of(_ratio_of(one[name], other[name], fraction) for one, other in pairs) for name in names
            )
            overall[level] = 1 - _fraction(TOTAL, [_with_total(one) for one, _ in pairs])
    return Ratios(a, b, fraction, tuple(names), found, overall)


def _ratio_of(a: tuple[int, int], b: tuple[int, int], fraction: Fraction) -> float | None:
    """A / B of what remains or is pruned of one layer, from its counts in each."""
    if fraction == "remaining":
        return _ratio(a[0], b[0])
    return _ratio(a[1] - a[0], b[1] - b[0])


def _fraction(name: str, of_runs: Sequence[Counts]) -> float:
    """The mean fraction remaining of a layer."""
    return fsum(kept / weights for kept, weights in (one[name] for one in of_runs)) / len(of_runs)


def _level(a: Side, b: Side | None, wanted: int | None, offered: Sequence[int]) -> int:
    own = [next(iter(side.runs)) for side in (a, b) if side is not None and side.is_run]
    if not offered and b is not None and not (a.is_run and b.is_run):
        raise InputError(f"{a.name} and {b.name} have no level in common yet: `cockpit work` trains what is queued")
    if wanted is None:
        return own[0] if own and (not offered or own[0] in offered) else offered[-1]
    if wanted not in offered:
        have = f"choose from {_listed(offered)}" if offered else "a run has one level"
        raise InputError(f"level {wanted} cannot be compared: {have}")
    return wanted


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _pairs(a: Side, b: Side | None, level: int) -> dict[int, tuple[int, ...]]:
    """By replicate the runs that are compared at a level: replicates that both have; a run goes with each of them."""
    sides = [side for side in (a, b) if side is not None]
    replicates = [list(side.runs.get(level, ())) for side in sides if not side.is_run]
    shared = [number for number in replicates[0] if number in replicates[-1]] if replicates else [0]
    return {number: tuple(side.run(level, number) for side in sides) for number in shared}


def _rules(a: Side, b: Side | None) -> tuple[Prunable, Prunable]:
    """The rules by which two sides count: a curve's is that of its experiment, and a run beside it follows."""
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
    """The figures of each layer that these one or two runs have, and then of all of them; to `notes`, what lacks."""
    a, b = _counts(connection, runs[0], rules[0]), _counts(connection, runs[-1], rules[1])
    names = [name for name in a if name in b and a[name][1] == b[name][1]]
    if not names:
        raise InputError("these are tickets of different networks: they have no layer in common")
    if odd := [name for name in {**a, **b} if name not in names]:
        notes[f"left out, for not both tickets prune it: {', '.join(odd)}"] = None
    if len(runs) == 1:
        for name, (kept, weights) in _with_total(a).items():
            yield name, weights, _of_one("a", kept, weights)
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
    """The figures of all layers of two runs together; adds to `notes` what lacks, and why."""
    *_, (_, _, found) = _compared(connection, folder, runs, rules, notes)
    return found


def _of_one(side: str, kept: int, weights: int) -> Figures:
    pruned = (weights - kept) / weights
    return {f"kept_{side}": kept, f"remaining_{side}": kept / weights, f"pruned_{side}": pruned}


def _of_two(kept_a: int, kept_b: int, weights: int, common: int | None, expected: float) -> Figures:
    """What `Layer` holds of two tickets that have `common` weights in common, and random ones `expected`."""
    return {
        **_of_one("a", kept_a, weights),
        **_of_one("b", kept_b, weights),
        "remaining_ratio": _ratio(kept_a, kept_b),
        "pruned_ratio": _ratio(weights - kept_a, weights - kept_b),
        "difference": (kept_a - kept_b) / weights,
        "overlap": _jaccard(common, kept_a + kept_b),
        "chance": _jaccard(expected, kept_a + kept_b),
    }


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
    """How many weights both tickets keep of each layer, as far as that is known.

    Where one ticket keeps all weights or none no mask is needed.
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
    """How many weights of each layer remain under both of two mask files."""
    return masks.common(folder.get(a), folder.get(b))


def _mask_file(connection: sqlite3.Connection, run: int) -> str:
    """The SHA-256 of the file that holds the mask of a run's ticket. Raises LostFile, which says why, without one."""
    row = connection.execute("SELECT recipe FROM runs WHERE id = ?", (run,)).fetchone()
    match Run.from_json(row[0]).ticket:
        case (
            Winning(chain, level)
            | Line(chain, level)
            | Random("preserved" | "shuffled" | "constant-sign", level, chain)
        ) if chain is not None and level > 0:
            producer, kind = chain.mask_of(level)
            if found := file_of(connection, producer.digest, kind):
                return found
            again = (
                "; trained again, a run of that level leaves it" if level == 1 else ""
            )  # the first versions kept none
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
    kept, weights = (sum(one[place] for one in counts.values()) for place in (0, 1))
    return {**counts, TOTAL: (kept, weights)}


def _means(figures: Sequence[Figures]) -> dict[str, Any]:
    return {key: mean_of(one[key] for one in figures) for key in figures[0]}
