"""The paper's main claims, each judged on all recorded data. docs/claims.md defines the rules. No torch."""

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

HIGH_SPARSITY = 0.95  # least fraction pruned of the levels that count
LARGER = 1.5  # ratio of images or classes that makes a set larger; CIFAR-10, Fashion-MNIST and SVHN are equal by it

Verdict = Literal["supported", "contradicted", "undecided", "no data"]
ByLevel = Mapping[int, Mapping[int, float]]  # level -> seed -> value
Seeds = Mapping[int, AbstractSet[int]]  # level -> seeds
Fallen = Literal["collapsed", "diverged"]
FALLEN: tuple[Fallen, Fallen] = ("collapsed", "diverged")


class Source(NamedTuple):
    """The whole data set that tickets were found on, of which they may have seen a part."""

    images: int
    classes: int
    published: bool  # whether the numbers are a published set's, else as recorded
    head: Literal["carried", "fresh"]  # the output layer that the target's network starts with


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a value for each level and seed, and the fate of its runs."""

    name: str
    values: ByLevel  # test accuracies (diverged runs: chance) or fractions of weights remaining
    runs: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    collapsed: Seeds = field(default_factory=dict)
    diverged: Seeds = field(default_factory=dict)
    source: Source | None = None

    def fallen(self, what: Fallen, levels: Sequence[int]) -> set[int]:
        """The seeds that have collapsed or diverged at one of these levels."""
        by_level: Seeds = getattr(self, what)
        return {seed for level in levels for seed in by_level.get(level, ())}

    def over(self, levels: Sequence[int]) -> dict[int, float]:
        """The mean over these levels, for each seed that has all of them."""
        seeds = set.intersection(*(set(self.values[level]) for level in levels)) if levels else set()
        return {seed: fsum(self.values[level][seed] for level in levels) / len(levels) for seed in seeds}


@dataclass(frozen=True)
class Pair:
    """Two sides that a claim compares, A less B."""

    curve: Curve  # with the levels and the training of the pair
    a: Side
    b: Side
    judged: bool = True  # whether it counts for the verdict; else it is only shown

    def levels(self) -> tuple[int, ...]:
        """The levels from `HIGH_SPARSITY` on, those with the most replicates that have both sides."""
        shared = {
            level: len(self.a.values[level].keys() & self.b.values.get(level, {}).keys())
            for level, fraction in self.curve.pruned.items()
            if fraction >= HIGH_SPARSITY and level in self.a.values
        }
        most = max(shared.values(), default=0)
        return tuple(level for level, count in shared.items() if count == most > 0)

    def points(self) -> frozenset[tuple[int, ...]]:
        """The ids of the runs that are compared, for each level and seed."""
        return frozenset(
            tuple(side.runs[level][seed] for side in (self.a, self.b) if side.runs)
            for level in self.levels()
            for seed in self.a.values[level].keys() & self.b.values[level].keys()
        )


@dataclass(frozen=True)
class Comparison:
    """The result of one pair: A less B for each seed, each the mean over the levels."""

    experiment: str
    model: str
    width: float
    epochs: int
    a: str
    b: str
    levels: tuple[int, ...]
    difference: Difference
    holm: float | None  # its p value, adjusted for all judged comparisons of the experiment (Holm 1979)
    judged: bool
    collapsed: tuple[int, int]  # number of replicates of A and of B that collapsed at one of the levels
    diverged: tuple[int, int]
    sources: tuple[Source, Source] | None

    @property
    def decides(self) -> int:
        """1 if A is above B by the adjusted p value, -1 if below, else 0."""
        return _sign(self, self.holm)

    @property
    def votes(self) -> int:
        """1 if A is above B by the p value, -1 if below, else 0; the experiment counts these votes."""
        return _sign(self, self.difference.p)

    @property
    def replicates_needed(self) -> int | None:
        """The replicates that would decide an open comparison with the same mean and deviation (`needed`); or None."""
        return needed(self.difference) if self.judged and not self.votes else None


def _sign(one: Comparison, p: float | None) -> int:
    decided = one.judged and p is not None and p <= 1 - CONFIDENCE
    return (one.difference.mean > 0) - (one.difference.mean < 0) if decided else 0


@dataclass(frozen=True)
class Study:
    """The comparisons of one experiment for a claim."""

    experiment: str
    comparisons: tuple[Comparison, ...]

    @property
    def telling(self) -> int:
        """Number of judged comparisons with an interval."""
        return sum(one.judged and one.difference.p is not None for one in self.comparisons)

    def count(self, sign: int) -> int:
        """Number of comparisons that vote for (1) or against (-1) the claim."""
        return sum(one.votes == sign for one in self.comparisons)

    @property
    def decides(self) -> int:
        """1 if the experiment is for the claim, -1 if against, else 0."""
        return _majority(self.count, self.telling)


def _majority(count: Callable[[int], int], telling: int) -> int:
    """1 or -1 if more than half of the telling ones have that sign and none the opposite, else 0.

    Without an effect, more than half of several tests err together no more often than one of them alone.
    """
    return next((sign for sign in (1, -1) if 2 * count(sign) > telling and not count(-sign)), 0)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, its place there, and the pairs of data that test it: A less B should be above 0."""

    key: str
    text: str
    where: str
    measure: str
    needs: str
    pairs: Callable[["Recorded"], Iterator[Pair]]


@dataclass(frozen=True)
class Finding:
    """A claim, the verdict, and the study of each experiment."""

    claim: Claim
    verdict: Verdict
    studies: tuple[Study, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The comparisons of all experiments."""
        return tuple(one for study in self.studies for one in study.comparisons)

    @property
    def telling(self) -> int:
        """Number of experiments that have a judged comparison with an interval."""
        return sum(study.telling > 0 for study in self.studies)

    def count(self, sign: int) -> int:
        """Number of experiments that are for (1) or against (-1) the claim."""
        return sum(study.decides == sign for study in self.studies)


class Recorded:
    """The recorded data that claims use: curves of experiments that find and train tickets as the paper does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.curves = [curve for curve in read(connection) if curve.by_the_paper]
        self.by_experiment: dict[str, list[Curve]] = {}
        for curve in self.curves:
            self.by_experiment.setdefault(curve.experiment, []).append(curve)
        rows = connection.execute("SELECT identity, name, train_images, classes FROM datasets").fetchall()
        self.sets: dict[str, tuple[str, int, int]] = {row[0]: (row[1], row[2], row[3]) for row in rows}  # by identity
        self.connection = connection

    def winning(self) -> Iterator[tuple[Curve, list[Curve]]]:
        """The curves of winning tickets, each with all curves of its experiment."""
        return ((one, self.by_experiment[one.experiment]) for one in self.curves if one.ticket == "winning")

    def source(self, curve: Curve) -> Source:
        """The data set that a curve's tickets were found on.

        Its images are those of the published set of that name, else of the largest recorded part of the set.
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
        """The fraction of each layer's weights that a run's ticket keeps, in the order of the network."""
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
    for one, curves in data.winning():
        for other in curves if one.scope == "global" else ():
            if other.ticket == "winning" and other.scope == "layerwise" and _ends(one) == _ends(other):
                yield _of_curves(one, other)


def _ends(curve: Curve) -> tuple[str | None, ...]:
    return curve.source, curve.target, curve.source_optimizer, curve.optimizer


def _winning_and_random(data: Recorded) -> Iterator[Pair]:
    for one, curves in data.winning():
        if random := random_of(one, curves):
            yield _of_curves(one, random)


def _larger_and_smaller(data: Recorded) -> Iterator[Pair]:
    for curves in data.by_experiment.values():
        moved = [one for one in curves if one.ticket == "winning" and one.source_dataset and not _sees_target(one)]
        for one, other in permutations(moved, 2):
            same = (*_ends(one)[1:], one.scope) == (*_ends(other)[1:], other.scope)
            if not same:
                continue
            a, b = data.source(one), data.source(other)
            if _larger((a.images, a.classes), (b.images, b.classes)):
                yield Pair(one, _side(one, a), _side(other, b))


def _larger(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether A has `LARGER` times the images or classes of B, and B not of A. Pairs are images and classes."""
    ratios = [of_a / of_b for of_a, of_b in zip(a, b, strict=True)]
    return max(ratios) >= LARGER and min(ratios) > 1 / LARGER


def _sees_target(curve: Curve) -> bool:
    """Whether tickets were found on images of their target: it is the same set, and not its other half."""
    (source, half), (target, other) = (_set_and_half(each) for each in (curve.source_dataset, curve.target_dataset))
    return source == target and (half == other or not half or not other)


def _set_and_half(identity: str | None) -> tuple[str, str]:
    """The whole set and the half (a, b or empty) of an identity such as `cifar10-a-5000`."""
    base, part = catalog.split_part(identity or "")
    return base, catalog.steps_of(part)[0]


def _across_optimizers(data: Recorded) -> Iterator[Pair]:
    for one, curves in data.winning():
        if one.source == one.target and one.source_optimizer != one.optimizer:
            for other, judged in ((random_of(one, curves), True), (own_of(one, curves), False)):
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
        if statistics_kept and (random := random_of(one, data.by_experiment[one.experiment])):
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
    """The verdict of all recorded data on each claim."""
    data = Recorded(connection)
    return [_finding(claim, _distinct(claim.pairs(data))) for claim in CLAIMS]


def left_out(connection: sqlite3.Connection) -> list[str]:
    """The experiments that claims leave out, because they do not find tickets as the paper does."""
    return [
        row[0]
        for row in connection.execute(f"SELECT name FROM experiments e WHERE NOT ({IS_BY_THE_PAPER}) ORDER BY id")
    ]


def _distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs that have runs to compare, without those whose runs another pair compares, too."""
    known = [(pair, pair.points()) for pair in pairs]

    def covered(index: int) -> bool:
        points = known[index][1]
        return any(points < other or (points == other and i < index) for i, (_, other) in enumerate(known))

    return [pair for index, (pair, points) in enumerate(known) if points and not covered(index)]


def _finding(claim: Claim, pairs: Sequence[Pair]) -> Finding:
    """The verdict on a claim. Holm's correction is within one experiment: others do not change its p values."""
    groups = groupby(pairs, lambda pair: pair.curve.experiment)
    studies = [_study(experiment, list(group)) for experiment, group in groups]
    finding = Finding(claim, "no data", tuple(studies))
    return replace(finding, verdict=_verdict(finding))


def _study(experiment: str, pairs: Sequence[Pair]) -> Study:
    compared = [(pair, difference) for pair in pairs if (difference := _difference(pair))]
    tested = [difference.p for pair, difference in compared if pair.judged and difference.p is not None]
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
            difference=difference,
            holm=next(adjusted) if pair.judged and difference.p is not None else None,
            judged=pair.judged,
            collapsed=_counted(pair, "collapsed"),
            diverged=_counted(pair, "diverged"),
            sources=(pair.a.source, pair.b.source) if pair.a.source and pair.b.source else None,
        )
        for pair, difference in compared
    )
    return Study(experiment, comparisons)


def _counted(pair: Pair, what: Fallen) -> tuple[int, int]:
    levels = pair.levels()
    return len(pair.a.fallen(what, levels)), len(pair.b.fallen(what, levels))


def _difference(pair: Pair) -> Difference | None:
    """A less B, by a permutation test if a replicate has collapsed or diverged on either side."""
    levels = pair.levels()
    a, b = pair.a.over(levels), pair.b.over(levels)
    fallen = {seed for side in (pair.a, pair.b) for what in FALLEN for seed in side.fallen(what, levels)}
    return paired(a, b, permuted=bool(fallen & a.keys() & b.keys()))


def _verdict(finding: Finding) -> Verdict:
    if not any(one.judged for one in finding.comparisons):
        return "no data"
    verdicts: dict[int, Verdict] = {1: "supported", -1: "contradicted", 0: "undecided"}
    return verdicts[_majority(finding.count, finding.telling)]
