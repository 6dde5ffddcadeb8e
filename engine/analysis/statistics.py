"""What replicates say: means, paired differences with confidence intervals, the sparsest level that matches dense.

Pure functions over accuracies; docs/statistics.md defines each figure. No torch here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import fsum, sqrt

CONFIDENCE = 0.95
MOST = 100  # replicates that anyone would be told to train


@dataclass(frozen=True)
class Mean:
    """A mean over replicates, their sample standard deviation (None for one), and how many they are."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Difference(Mean):
    """The mean of paired differences, and its confidence interval: None for one pair, which has no deviation."""

    low: float | None
    high: float | None


def mean_of(values: Iterable[float | None]) -> Mean | None:
    """The mean of the values that are known, None if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    middle = fsum(known) / len(known)
    spread = sqrt(fsum((value - middle) ** 2 for value in known) / (len(known) - 1)) if len(known) > 1 else None
    return Mean(middle, spread, len(known))


def paired(a: Mapping[int, float], b: Mapping[int, float], confidence: float = CONFIDENCE) -> Difference | None:
    """A less B over the seeds that both have, with Student's interval for its mean; None if they share no seed."""
    found = mean_of(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))
    if found is None:
        return None
    if found.std is None:
        return Difference(found.mean, None, found.n, None, None)
    half = _half_width(found.std, found.n, confidence)
    return Difference(found.mean, found.std, found.n, found.mean - half, found.mean + half)


def needed(found: Difference, confidence: float) -> int | None:
    """How many pairs it would take for the interval to leave out 0, if mean and deviation stayed as they are.

    None for more than `MOST`, and for one pair, whose deviation is not known.
    """
    if found.std is None:
        return None
    enough = (n for n in range(2, MOST + 1) if _half_width(found.std, n, confidence) < abs(found.mean))
    return next(enough, None)


def matching(means: Mapping[int, float], dense: Mean | None) -> int | None:
    """The sparsest level such that at it, and at every level before it, the mean is within a deviation of dense.

    That is, not below the dense network's mean less its sample standard deviation; above is within. None where the
    first level is below already, and where dense has no deviation. `means` is by level, in order.
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
    """Of Student's interval for the mean of n values of this sample deviation."""
    return _quantile((1 + confidence) / 2, n - 1) * std / sqrt(n)


@lru_cache
def _quantile(probability: float, degrees: int) -> float:
    """A quantile of Student's t distribution. scipy.stats would take three times as long to import."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
