"""Statistics over replicates: means, paired differences with intervals and p values, the sparsest matching level.

Pure functions over accuracies; docs/statistics.md defines each figure. Imports no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import floor, fsum, sqrt
from random import Random
from typing import Literal

CONFIDENCE = 0.95
LEAST = 3  # least number of pairs for an interval
MOST = 100  # largest number of replicates that `needed` suggests
ENUMERATED = 12  # pairs up to which all choices of signs are tested; of more pairs, a random sample of that size
NO_WIDTH = 1e-9  # deviation up to which differences are equal but for rounding; one test image makes more

Method = Literal["student", "permutation"]


@dataclass(frozen=True)
class Mean:
    """A mean over replicates, their sample standard deviation (None for one replicate), and their number."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Difference(Mean):
    """The mean of paired differences, its confidence interval, the p value of its being 0, and each seed's difference.

    Interval, p value and method are None for too few pairs.
    """

    low: float | None = None
    high: float | None = None
    p: float | None = None
    method: Method | None = None
    seeds: Mapping[int, float] = field(default_factory=dict)

    @property
    def agreeing(self) -> int:
        """The number of seeds whose difference has the sign of the mean."""
        return sum(value * self.mean > 0 for value in self.seeds.values())


def mean_of(values: Iterable[float | None]) -> Mean | None:
    """The mean of the known values; None if no value is known."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    middle = fsum(known) / len(known)
    spread = sqrt(fsum((value - middle) ** 2 for value in known) / (len(known) - 1)) if len(known) > 1 else None
    return Mean(middle, spread, len(known))


def paired(
    a: Mapping[int, float],
    b: Mapping[int, float],
    confidence: float = CONFIDENCE,
    *,
    permuted: bool = False,
    possible: float = 1.0,
) -> Difference | None:
    """A less B over the seeds that both have; None if they share no seed.

    The interval is Student's, of at least `LEAST` pairs. With `permuted`, for differences that are far from normal, and
    for equal differences it is a permutation test's, if the pairs suffice for the confidence (6 for 95 %). With
    `permuted` and fewer pairs it is Student's, of at least `LEAST` + 1 pairs: with three it would err too often.
    Intervals are clipped to ±`possible`.
    """
    seeds = {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}
    found = mean_of(seeds.values())
    if found is None:
        return None
    if found.std is None or found.n < LEAST + permuted:
        return Difference(found.mean, found.std, found.n, seeds=seeds)
    method: Method = "student"
    if (permuted or found.std < NO_WIDTH) and _tail(found.n, confidence):
        low, high, p = _by_permutation(list(seeds.values()), confidence)
        method = "permutation"
    elif found.std < NO_WIDTH:
        return Difference(found.mean, found.std, found.n, seeds=seeds)
    else:
        half = _half_width(found.std, found.n, confidence)
        low, high = found.mean - half, found.mean + half
        p = _p_value(found.mean * sqrt(found.n) / found.std, found.n - 1)
    low, high = max(low, -possible), min(high, possible)
    return Difference(found.mean, found.std, found.n, low, high, p, method, seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values of a family of tests (Holm 1979), in the order given.

    Rejecting those up to 0.05 limits the probability of any wrong rejection in the family to 5 %.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def needed(difference: Difference, confidence: float = CONFIDENCE) -> int | None:
    """The number of pairs at which Student's interval would exclude 0, for the same mean and deviation.

    None if that is more than `MOST` or the deviation is unknown.
    """
    if difference.std is None or difference.std < NO_WIDTH:
        return None
    more = range(max(LEAST, difference.n + 1), MOST + 1)
    return next((n for n in more if _half_width(difference.std, n, confidence) < abs(difference.mean)), None)


def matching(means: Mapping[int, float], dense: Mean | None) -> int | None:
    """The last level up to which no mean is below the dense mean less its sample standard deviation.

    None if the first level is below, and if dense has no deviation. `means` are by level, in order.
    """
    if dense is None or dense.std is None:
        return None
    lasting = None
    for level, mean in means.items():
        if mean < dense.mean - dense.std:
            break
        lasting = level
    return lasting


def _half_width(std: float, n: int, confidence: float) -> float:
    """Half the width of Student's interval for the mean of n values with this sample deviation."""
    return _quantile((1 + confidence) / 2, n - 1) * std / sqrt(n)


def _by_permutation(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """The bounds of the interval of means that a sign-flip test does not reject, and the p value of a mean of 0.

    Flipping the signs of a subset raises the sum of differences from a centre if the subset's mean lies below it. So
    order statistics of the subsets' means are the bounds (Hartigan 1969, "Using subsample values as typical values").
    """
    sums = _subsets(values)
    means = sorted(total / count for total, count in sums)
    tail = _tail(len(values), confidence)
    sign = 1 if fsum(values) > 0 else -1
    opposed = sum(sign * total <= NO_WIDTH for total, _ in sums)
    return means[tail - 1], means[-tail], min(1.0, 2 * (1 + opposed) / (1 + len(sums)))


def _tail(n: int, confidence: float) -> int:
    """The number of choices of signs that may lie beyond each end of the interval; 0 if n values are too few."""
    return floor((1 - confidence) / 2 * (1 << min(n, ENUMERATED)) + NO_WIDTH)


def _subsets(values: Sequence[float]) -> list[tuple[float, int]]:
    """Sum and size of each non-empty subset; of more than `ENUMERATED` values, of a fixed random sample of subsets."""
    if len(values) > ENUMERATED:
        draw = Random(0)
        drawn = (draw.randrange(1, 2 ** len(values)) for _ in range(2**ENUMERATED - 1))
        chosen = ([value for i, value in enumerate(values) if bits >> i & 1] for bits in drawn)
        return [(fsum(subset), len(subset)) for subset in chosen]
    subsets = [(0.0, 0)]
    for value in values:
        subsets += [(total + value, count + 1) for total, count in subsets]
    return subsets[1:]


@lru_cache
def _quantile(probability: float, degrees: int) -> float:
    """A quantile of Student's t distribution. scipy.stats would take three times as long to import."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def _p_value(t: float, degrees: int) -> float:
    """The two-sided p value of Student's t."""
    from scipy.special import stdtr

    return 2 * float(stdtr(degrees, -abs(t)))
