"""The paper's main claims, and what all recorded data says of each. docs/claims.md defines the rules. No torch here."""

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import ceil, fsum
from typing import Literal

from engine.analysis.reports import own_of, random_of
from engine.analysis.statistics import CONFIDENCE, Difference, needed, paired
from engine.store.replicates import Curve, read

HIGH_SPARSITY = 0.95  # fraction pruned from which levels count
LARGER = 1.5  # times as many images or classes; CIFAR-10, Fashion-MNIST and SVHN are alike
NO_WIDTH = 1e-9  # an interval of differences that are equal but for rounding; one image of a test set is more

Verdict = Literal["supported", "contradicted", "undecided", "no data"]
ByLevel = Mapping[int, Mapping[int, float]]  # level -> seed -> a figure


@dataclass(frozen=True)
class Pair:
    """Two sides that a claim compares, A less B. Sides of the same runs say the same, in whatever experiment."""

    curve: Curve  # whose levels and training these are
    a: str
    b: str
    values_a: ByLevel
    values_b: ByLevel
    runs: tuple[Mapping[int, Mapping[int, int]], ...]
    judged: bool = True  # else it is only shown

    def levels(self) -> tuple[int, ...]:
        """The levels beyond `HIGH_SPARSITY` at which as many replicates as at any have both sides."""
        shared = {
            level: len(self.values_a[level].keys() & self.values_b.get(level, {}).keys())
            for level, fraction in self.curve.pruned.items()
            if fraction >= HIGH_SPARSITY and level in self.values_a
        }
        most = max(shared.values(), default=0)
        return tuple(level for level, count in shared.items() if count == most > 0)

    def points(self) -> frozenset[tuple[int, ...]]:
        """Which runs are compared with which."""
        return frozenset(
            tuple(runs[level][seed] for runs in self.runs)
            for level in self.levels()
            for seed in self.values_a[level].keys() & self.values_b[level].keys()
        )

    def difference(self, confidence: float) -> Difference | None:
        """A less B, each the mean over the levels for a seed, with its interval over seeds."""
        levels = self.levels()
        return paired(_over(self.values_a, levels), _over(self.values_b, levels), confidence)


def _over(values: ByLevel, levels: Sequence[int]) -> dict[int, float]:
    """For each seed that has all of these levels the mean over them."""
    seeds = set.intersection(*(set(values[level]) for level in levels)) if levels else set()
    return {seed: fsum(values[level][seed] for level in levels) / len(levels) for seed in seeds}


@dataclass(frozen=True)
class Comparison:
    """What the data says of one pair. The intervals of all that are judged for a claim hold together."""

    experiment: str
    model: str
    width: float
    epochs: int
    a: str
    b: str
    levels: tuple[int, ...]
    difference: Difference
    confidence: float  # of its interval
    judged: bool

    @property
    def decides(self) -> int:
        """1 if its interval lies above 0, -1 if below. One of no width, by chance of counting images, does not."""
        low, high = self.difference.low, self.difference.high
        if not self._tells or low is None or high is None:
            return 0
        return (low > 0) - (high < 0)

    @property
    def replicates_needed(self) -> int | None:
        """For one that is open, how many replicates would decide it if its mean and deviation stayed as they are."""
        return needed(self.difference, self.confidence) if self._tells and not self.decides else None

    @property
    def _tells(self) -> bool:
        low, high = self.difference.low, self.difference.high
        return self.judged and low is not None and high is not None and high - low >= NO_WIDTH


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
    """A claim, the verdict, and the numbers behind it."""

    claim: Claim
    verdict: Verdict
    confidence: float  # of each interval, so that all of them hold together with `CONFIDENCE`
    telling: int  # comparisons judged that have an interval, so two replicates or more
    comparisons: tuple[Comparison, ...]

    def count(self, sign: int) -> int:
        """How many comparisons decide for (1) or against (-1) the claim."""
        return sum(one.decides == sign for one in self.comparisons)


class Recorded:
    """All that claims look at."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.curves = read(connection)
        self.beside: dict[str, list[Curve]] = {}  # curves by experiment
        for curve in self.curves:
            self.beside.setdefault(curve.experiment, []).append(curve)
        self.sizes: dict[str, tuple[int, int]] = {
            identity: (images, classes)
            for identity, images, classes in connection.execute("SELECT identity, train_images, classes FROM datasets")
        }
        self.connection = connection

    def winning(self) -> Iterator[tuple[Curve, list[Curve]]]:
        """The curves of winning tickets, each with all curves of its experiment."""
        return ((one, self.beside[one.experiment]) for one in self.curves if one.ticket == "winning")

    def layers(self, run: int) -> list[float]:
        """The fraction that a run's ticket keeps of each layer, from the first to the last."""
        rows = self.connection.execute(
            "SELECT weights_remaining * 1.0 / weights_total FROM layers WHERE run_id = ? ORDER BY layer", (run,)
        )
        return [row[0] for row in rows]


def _of_curves(a: Curve, b: Curve, judged: bool = True) -> Pair:
    return Pair(a, a.name, b.name, a.accuracies, b.accuracies, (a.runs, b.runs), judged)


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
            if same and _larger(*(data.sizes[str(each.source_dataset)] for each in (one, other))):
                yield _of_curves(one, other)


def _larger(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether A has clearly more images or classes than B, and clearly fewer of neither."""
    ratios = [of_a / of_b for of_a, of_b in zip(a, b, strict=True)]
    return max(ratios) >= LARGER and min(ratios) > 1 / LARGER


def _sees_target(curve: Curve) -> bool:
    """Whether tickets were found on images that they are trained on: of the same set, unless of its two halves."""
    (source, half), (target, other) = (_set_and_half(each) for each in (curve.source_dataset, curve.target_dataset))
    return source == target and (half == other or not half or not other)


def _set_and_half(identity: str | None) -> tuple[str | None, str | None]:
    """The set that a data set is a part of, and which half, from an identity as `cifar10-a-5000`."""
    parts = re.fullmatch(r"(.+?)(?:-([ab]))?(?:-\d+)?", identity or "")
    return (parts[1], parts[2]) if parts else (None, None)


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
            yield Pair(one, f"{one.name}: first layers", "its other layers", first, others, (one.runs,))


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
        "tickets found with one optimizer and trained with another, beside random ones",
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
        "random tickets of preserved or locally permuted masks, beside globally permuted ones",
        _with_layer_statistics,
    ),
)


def findings(connection: sqlite3.Connection) -> list[Finding]:
    """What all recorded data says of each claim."""
    data = Recorded(connection)
    return [_finding(claim, _distinct(claim.pairs(data))) for claim in CLAIMS]


def _distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """Those that compare anything, without those whose runs another one compares already."""
    found = [(pair, pair.points()) for pair in pairs]

    def covered(place: int) -> bool:
        own = found[place][1]
        return any(own < other or (own == other and at < place) for at, (_, other) in enumerate(found))

    return [pair for place, (pair, points) in enumerate(found) if points and not covered(place)]


def _finding(claim: Claim, pairs: Sequence[Pair]) -> Finding:
    """The verdict on a claim, with intervals so wide that all of them hold together (Bonferroni)."""
    counts = [found.n for pair in pairs if pair.judged and (found := pair.difference(CONFIDENCE))]
    telling = sum(n > 1 for n in counts)
    confidence = 1 - (1 - CONFIDENCE) / max(telling, 1)
    comparisons = tuple(
        Comparison(
            experiment=pair.curve.experiment,
            model=pair.curve.model,
            width=pair.curve.width,
            epochs=pair.curve.epochs,
            a=pair.a,
            b=pair.b,
            levels=pair.levels(),
            difference=difference,
            confidence=confidence,
            judged=pair.judged,
        )
        for pair in pairs
        if (difference := pair.difference(confidence))
    )
    return Finding(claim, _verdict(comparisons, telling), confidence, telling, comparisons)


def _verdict(comparisons: Sequence[Comparison], telling: int) -> Verdict:
    """For: at least half of those with an interval lie above 0, and none below. Against: the other way round."""
    if not any(one.judged for one in comparisons):
        return "no data"
    above, below = (sum(one.decides == sign for one in comparisons) for sign in (1, -1))
    if above and not below and 2 * above >= telling:
        return "supported"
    if below and not above and 2 * below >= telling:
        return "contradicted"
    return "undecided"
