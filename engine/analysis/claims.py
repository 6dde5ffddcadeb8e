"""The paper's main claims, and what all recorded data says of each. docs/claims.md defines the rules. No torch here."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import groupby, permutations
from math import ceil, fsum
from typing import Literal, NamedTuple

from engine.analysis.reports import own_of, random_of
from engine.analysis.statistics import CONFIDENCE, Difference, holm, needed, paired
from engine.datasets import catalog, specs
from engine.store.replicates import IS_BY_THE_PAPER, Curve, read

HIGH_SPARSITY = 0.95  # fraction pruned from which levels count
LARGER = 1.5  # times as many images or classes; CIFAR-10, Fashion-MNIST and SVHN are alike

Verdict = Literal["supported", "contradicted", "undecided", "no data"]
ByLevel = Mapping[int, Mapping[int, float]]  # level -> seed -> a figure
Seeds = Mapping[int, AbstractSet[int]]  # level -> seeds
Fallen = Literal["collapsed", "diverged"]
FALLEN: tuple[Fallen, Fallen] = ("collapsed", "diverged")


class Source(NamedTuple):
    """The data set that tickets were found on: of the whole set, of which they may have seen a part."""

    images: int
    classes: int
    published: bool  # else as recorded
    head: Literal["carried", "fresh"]  # whether the target's network starts with its output layer


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a figure for each level and seed, and what became of its runs."""

    name: str
    values: ByLevel  # with diverged runs at chance
    runs: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    collapsed: Seeds = field(default_factory=dict)
    diverged: Seeds = field(default_factory=dict)
    source: Source | None = None

    def fallen(self, what: Fallen, levels: Sequence[int]) -> set[int]:
        """The seeds that have collapsed or diverged at one of these levels."""
        found: Seeds = getattr(self, what)
        return {seed for level in levels for seed in found.get(level, ())}

    def over(self, levels: Sequence[int]) -> dict[int, float]:
        """For each seed that has all of these levels the mean over them."""
        seeds = set.intersection(*(set(self.values[level]) for level in levels)) if levels else set()
        return {seed: fsum(self.values[level][seed] for level in levels) / len(levels) for seed in seeds}


@dataclass(frozen=True)
class Pair:
    """Two sides that a claim compares, A less B. Sides of the same runs say the same, in whatever experiment."""

    curve: Curve  # whose levels and training these are
    a: Side
    b: Side
    judged: bool = True  # else it is only shown

    def levels(self) -> tuple[int, ...]:
        """The levels beyond `HIGH_SPARSITY` at which as many replicates as at any have both sides."""
        shared = {
            level: len(self.a.values[level].keys() & self.b.values.get(level, {}).keys())
            for level, fraction in self.curve.pruned.items()
            if fraction >= HIGH_SPARSITY and level in self.a.values
        }
        most = max(shared.values(), default=0)
        return tuple(level for level, count in shared.items() if count == most > 0)

    def points(self) -> frozenset[tuple[int, ...]]:
        """Which runs are compared with which."""
        return frozenset(
            tuple(side.runs[level][seed] for side in (self.a, self.b) if side.runs)
            for level in self.levels()
            for seed in self.a.values[level].keys() & self.b.values[level].keys()
        )


@dataclass(frozen=True)
class Comparison:
    """What the data says of one pair: A less B, each the mean over the levels for a seed."""

    experiment: str
    model: str
    width: float
    epochs: int
    a: str
    b: str
    levels: tuple[int, ...]
    difference: Difference
    holm: float | None  # its p value, adjusted for all that are judged of the experiment
    judged: bool
    collapsed: tuple[int, int]  # replicates of A and of B that are at chance at one of the levels
    diverged: tuple[int, int]
    sources: tuple[Source, Source] | None

    @property
    def decides(self) -> int:
        """1 if A is above B by a p value that holds among all of its experiment, -1 if below, else 0."""
        return _sign(self, self.holm)

    @property
    def votes(self) -> int:
        """The same by its own p value, which counts for the experiment."""
        return _sign(self, self.difference.p)

    @property
    def replicates_needed(self) -> int | None:
        """For one that is open, how many replicates would decide it if its mean and deviation stayed as they are."""
        return needed(self.difference) if self.judged and not self.votes else None


def _sign(one: Comparison, p: float | None) -> int:
    decided = one.judged and p is not None and p <= 1 - CONFIDENCE
    return (one.difference.mean > 0) - (one.difference.mean < 0) if decided else 0


@dataclass(frozen=True)
class Study:
    """What one experiment says of a claim."""

    experiment: str
    comparisons: tuple[Comparison, ...]

    @property
    def telling(self) -> int:
        """How many comparisons are judged and have an interval."""
        return sum(one.judged and one.difference.p is not None for one in self.comparisons)

    def count(self, sign: int) -> int:
        """How many comparisons vote for (1) or against (-1) the claim."""
        return sum(one.votes == sign for one in self.comparisons)

    @property
    def decides(self) -> int:
        """1 if it is for the claim, -1 if against, else 0."""
        return _majority(self.count, self.telling)


def _majority(count: Callable[[int], int], telling: int) -> int:
    """1 or -1 if more than half of those that tell anything agree on it and none says the opposite, else 0.

    Where there is no effect, more than half of several tests err together no more often than one of them.
    """
    return next((sign for sign in (1, -1) if 2 * count(sign) > telling and not count(-sign)), 0)


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, and which pairs of the recorded data speak of it; each should be above 0."""

    key: str
    text: str
    where: str
    measure: str
    needs: str
    pairs: Callable[["Recorded"], Iterator[Pair]]


@dataclass(frozen=True)
class Finding:
    """A claim, the verdict, and what each experiment says."""

    claim: Claim
    verdict: Verdict
    studies: tuple[Study, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Those of all experiments."""
        return tuple(one for study in self.studies for one in study.comparisons)

    @property
    def telling(self) -> int:
        """How many experiments have a comparison with an interval."""
        return sum(study.telling > 0 for study in self.studies)

    def count(self, sign: int) -> int:
        """How many experiments are for (1) or against (-1) the claim."""
        return sum(study.decides == sign for study in self.studies)


class Recorded:
    """All that claims look at: what was found and trained as the paper does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.curves = [curve for curve in read(connection) if curve.by_the_paper]
        self.beside: dict[str, list[Curve]] = {}  # curves by experiment
        for curve in self.curves:
            self.beside.setdefault(curve.experiment, []).append(curve)
        rows = connection.execute("SELECT identity, name, train_images, classes FROM datasets").fetchall()
        self.sets: dict[str, tuple[str, int, int]] = {row[0]: (row[1], row[2], row[3]) for row in rows}
        self.connection = connection

    def winning(self) -> Iterator[tuple[Curve, list[Curve]]]:
        """The curves of winning tickets, each with all curves of its experiment."""
        return ((one, self.beside[one.experiment]) for one in self.curves if one.ticket == "winning")

    def source(self, curve: Curve) -> Source:
        """The data set that a curve's tickets were found on, as published where its name is that of a published set.

        Else it is as large as the largest part of it that was recorded.
        """
        identity = str(curve.source_dataset)
        name, images, classes = self.sets[identity]
        known = specs.published(name, classes)
        whole = catalog.split_part(identity)[0]
        recorded = max(count for key, (_, count, _) in self.sets.items() if catalog.split_part(key)[0] == whole)
        fresh = curve.fresh_head or classes != self.sets[curve.target_dataset][2]
        most = known[0] if known else max(images, recorded)
        return Source(most, classes, known is not None, "fresh" if fresh else "carried")

    def layers(self, run: int) -> list[float]:
        """The fraction that a run's ticket keeps of each layer, from the first to the last."""
        rows = self.connection.execute(
            "SELECT weights_remaining * 1.0 / weights_total FROM layers WHERE run_id = ? ORDER BY layer", (run,)
        )
        return [row[0] for row in rows]


def _side(curve: Curve, source: Source | None = None) -> Side:
    values = {
        level: {**reached, **dict.fromkeys(curve.diverged.get(level, ()), curve.chance)}
        for level, reached in curve.accuracies.items()
    }
    return Side(curve.name, values, curve.runs, curve.collapsed, curve.diverged, source)


def _of_curves(a: Curve, b: Curve, judged: bool = True) -> Pair:
    return Pair(a, _side(a), _side(b), judged)


def _global_and_layerwise(data: Recorded) -> Iterator[Pair]:
    for one, beside in data.winning():
        for other in beside if one.scope == "global" else ():
            if other.ticket == "winning" and other.scope == "layerwise" and _ends(one) == _ends(other):
                yield _of_curves(one, other)


def _ends(curve: Curve) -> tuple[str | None, ...]:
    return curve.source, curve.target, curve.source_optimizer, curve.optimizer


def _winning_and_random(data: Recorded) -> Iterator[Pair]:
    for one, beside in data.winning():
        if random := random_of(one, beside):
            yield _of_curves(one, random)


def _larger_and_smaller(data: Recorded) -> Iterator[Pair]:
    for beside in data.beside.values():
        moved = [one for one in beside if one.ticket == "winning" and one.source_dataset and not _sees_target(one)]
        for one, other in permutations(moved, 2):
            same = (*_ends(one)[1:], one.scope) == (*_ends(other)[1:], other.scope)
            if not same:
                continue
            a, b = data.source(one), data.source(other)
            if _larger((a.images, a.classes), (b.images, b.classes)):
                yield Pair(one, _side(one, a), _side(other, b))


def _larger(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether A has clearly more images or classes than B, and clearly fewer of neither."""
    ratios = [of_a / of_b for of_a, of_b in zip(a, b, strict=True)]
    return max(ratios) >= LARGER and min(ratios) > 1 / LARGER


def _sees_target(curve: Curve) -> bool:
    """Whether tickets were found on images that they are trained on: of the same set, unless of its two halves."""
    (source, half), (target, other) = (_set_and_half(each) for each in (curve.source_dataset, curve.target_dataset))
    return source == target and (half == other or not half or not other)


def _set_and_half(identity: str | None) -> tuple[str, str]:
    """The set that a data set is a part of, and which half, from an identity as `cifar10-a-5000`."""
    base, part = catalog.split_part(identity or "")
    return base, catalog.steps_of(part)[0]


def _across_optimizers(data: Recorded) -> Iterator[Pair]:
    for one, beside in data.winning():
        if one.source == one.target and one.source_optimizer != one.optimizer:
            for other, judged in ((random_of(one, beside), True), (own_of(one, beside), False)):
                if other:
                    yield _of_curves(one, other, judged)


def _first_and_other_layers(data: Recorded) -> Iterator[Pair]:
    for one, _ in data.winning():
        if one.is_chain and one.scope == "global":
            first: dict[int, dict[int, float]] = {}
            others: dict[int, dict[int, float]] = {}
            for level, fraction in one.pruned.items():
                for seed in one.accuracies[level] if fraction >= HIGH_SPARSITY else ():
                    kept = data.layers(one.runs[level][seed])
                    if len(kept) > 1:
                        end = ceil(len(kept) / 4)
                        first.setdefault(level, {})[seed] = fsum(kept[:end]) / end
                        others.setdefault(level, {})[seed] = fsum(kept[end:]) / (len(kept) - end)
            yield Pair(one, Side(f"{one.name}: first layers", first, one.runs), Side("its other layers", others))


def _with_layer_statistics(data: Recorded) -> Iterator[Pair]:
    for one in data.curves:
        statistics_kept = one.ticket in ("random-preserved", "random-local") and one.scope == "global"
        if statistics_kept and (random := random_of(one, data.beside[one.experiment])):
            yield _of_curves(one, random)


ACCURACY = "test accuracy"
CLAIMS = (
    Claim(
        "global",
        "Global pruning beats layerwise pruning",
        "section 3.1, figure 1a",
        ACCURACY,
        "an experiment of both scopes",
        _global_and_layerwise,
    ),
    Claim(
        "winning",
        "Winning tickets beat random tickets at high sparsity",
        "section 4, figures 1-5",
        ACCURACY,
        "winning tickets and random ones of a globally permuted mask on one target",
        _winning_and_random,
    ),
    Claim(
        "sources",
        "Tickets of larger and more varied sources transfer better",
        "section 4.2, figures 3 and 4",
        ACCURACY,
        f"tickets of two sources on one target, one source with {LARGER:g} times the images or classes of the other",
        _larger_and_smaller,
    ),
    Claim(
        "optimizers",
        "Tickets transfer across optimizers: they beat random ones",
        "section 4.3, figure 5",
        ACCURACY,
        "tickets found with one optimizer and trained with another, and random ones",
        _across_optimizers,
    ),
    Claim(
        "layers",
        "The first layers are pruned least",
        "section 3.1, figure 1b",
        "fraction of a layer remaining",
        "a chain of global pruning",
        _first_and_other_layers,
    ),
    Claim(
        "masks",
        "Mask statistics carry information: random tickets gain by them",
        "appendix A.2, figure A1",
        ACCURACY,
        "random tickets of preserved or locally permuted masks, and globally permuted ones",
        _with_layer_statistics,
    ),
)


def findings(connection: sqlite3.Connection) -> list[Finding]:
    """What all recorded data says of each claim."""
    data = Recorded(connection)
    return [_finding(claim, _distinct(claim.pairs(data))) for claim in CLAIMS]


def left_out(connection: sqlite3.Connection) -> list[str]:
    """The experiments that say nothing of any claim, because their tickets are not found as the paper's are."""
    return [
        row[0]
        for row in connection.execute(f"SELECT name FROM experiments e WHERE NOT ({IS_BY_THE_PAPER}) ORDER BY id")
    ]


def _distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """Those that compare anything, without those whose runs another one compares already."""
    found = [(pair, pair.points()) for pair in pairs]

    def covered(place: int) -> bool:
        own = found[place][1]
        return any(own < other or (own == other and at < place) for at, (_, other) in enumerate(found))

    return [pair for place, (pair, points) in enumerate(found) if points and not covered(place)]


def _finding(claim: Claim, pairs: Sequence[Pair]) -> Finding:
    """The verdict on a claim. Experiments are judged each for itself: what one holds does not widen another's."""
    studies = [_study(experiment, list(own)) for experiment, own in groupby(pairs, lambda pair: pair.curve.experiment)]
    finding = Finding(claim, "no data", tuple(studies))
    return replace(finding, verdict=_verdict(finding))


def _study(experiment: str, pairs: Sequence[Pair]) -> Study:
    compared = [(pair, found) for pair in pairs if (found := _difference(pair))]
    tested = [found.p for pair, found in compared if pair.judged and found.p is not None]
    adjusted = iter(holm(tested))
    comparisons = tuple(
        Comparison(
            experiment=experiment,
            model=pair.curve.model,
            width=pair.curve.width,
            epochs=pair.curve.epochs,
            a=pair.a.name,
            b=pair.b.name,
            levels=pair.levels(),
            difference=found,
            holm=next(adjusted) if pair.judged and found.p is not None else None,
            judged=pair.judged,
            collapsed=_counted(pair, "collapsed"),
            diverged=_counted(pair, "diverged"),
            sources=(pair.a.source, pair.b.source) if pair.a.source and pair.b.source else None,
        )
        for pair, found in compared
    )
    return Study(experiment, comparisons)


def _counted(pair: Pair, what: Fallen) -> tuple[int, int]:
    levels = pair.levels()
    return len(pair.a.fallen(what, levels)), len(pair.b.fallen(what, levels))


def _difference(pair: Pair) -> Difference | None:
    """A less B. A replicate that has collapsed or diverged on either side makes it a permutation test."""
    levels = pair.levels()
    a, b = pair.a.over(levels), pair.b.over(levels)
    fallen = {seed for side in (pair.a, pair.b) for what in FALLEN for seed in side.fallen(what, levels)}
    return paired(a, b, permuted=bool(fallen & a.keys() & b.keys()))


def _verdict(found: Finding) -> Verdict:
    if not any(one.judged for one in found.comparisons):
        return "no data"
    verdicts: dict[int, Verdict] = {1: "supported", -1: "contradicted", 0: "undecided"}
    return verdicts[_majority(found.count, found.telling)]
