"""Statistics of replicates, held against scipy's and numpy's own, and counted by hand."""

import random
from itertools import product

import numpy as np
import pytest
from scipy import stats

from engine.analysis.statistics import MOST, Difference, Mean, matching, mean_of, needed, paired


@pytest.mark.parametrize("n", [2, 3, 6, 20])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_an_interval_is_that_of_scipys_paired_t_test(n: int, confidence: float) -> None:
    draw = np.random.default_rng(n)
    a, b = draw.random((2, n))
    found = paired(dict(enumerate(a)), dict(enumerate(b)), confidence)
    assert found is not None
    expected = stats.ttest_rel(a, b).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert (found.mean, found.std, found.n) == pytest.approx(((a - b).mean(), (a - b).std(ddof=1), n))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(2000):
        a = {seed: draw.gauss(0.3, 1) for seed in range(4)}
        found = paired(a, dict.fromkeys(range(4), 0.0), 0.9)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.3 <= found.high
    assert covered / 2000 == pytest.approx(0.9, abs=0.02)


def test_only_seeds_that_both_have_are_paired_whatever_their_order() -> None:
    found = paired({4: 0.9, 1: 0.5, 2: 0.7}, {2: 0.6, 3: 0.1, 1: 0.2})
    expected = stats.ttest_rel([0.5, 0.7], [0.2, 0.6]).confidence_interval()
    assert found is not None
    assert found.n == 2
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_pair_has_a_difference_and_no_interval_and_none_has_nothing() -> None:
    assert paired({1: 0.75, 2: 0.5}, {1: 0.5}) == Difference(0.25, None, 1, None, None)
    assert paired({1: 0.75}, {2: 0.5}) is None


@pytest.mark.parametrize(("mean", "std"), [(0.08, 0.06), (-0.08, 0.06), (0.02, 0.03), (0.01, 0.001)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_so_many_pairs_are_needed_as_scipys_interval_takes_to_leave_out_zero(
    mean: float, std: float, confidence: float
) -> None:
    n = needed(Difference(mean, std, 2, None, None), confidence)
    assert n is not None
    for count, leaves_out in ((n, True), (n - 1, False)):
        if count > 1:
            low, high = stats.t.interval(confidence, count - 1, mean, std / count**0.5)
            assert (low > 0 or high < 0) == leaves_out


def test_no_number_of_pairs_is_told_where_none_or_only_too_many_would_do() -> None:
    assert needed(Difference(0.5, None, 1, None, None), 0.95) is None
    assert needed(Difference(0.0, 0.1, 2, None, None), 0.95) is None
    assert needed(Difference(0.1, 0.1 * MOST**0.5 / 1.97, 2, None, None), 0.95) is None


def test_a_mean_has_the_sample_deviation_of_what_is_known() -> None:
    found = mean_of([0.2, None, 0.6, 0.7])
    assert found is not None
    assert (found.mean, found.std, found.n) == pytest.approx((0.5, np.std([0.2, 0.6, 0.7], ddof=1), 3))
    assert mean_of([0.2]) == Mean(0.2, None, 1)
    assert mean_of([None]) is None


def test_a_ticket_matches_as_long_as_every_level_to_there_is_within_a_deviation_of_dense() -> None:
    dense = Mean(0.9, 0.0625, 3)
    at_the_edge = 0.9 - 0.0625
    below = at_the_edge - 1e-9
    levels = (0, 1, 3)
    for means in product((0.95, at_the_edge, below), repeat=3):
        within = [mean != below for mean in means]
        expected = [level for place, level in enumerate(levels) if all(within[: place + 1])]
        found = matching(dict(zip(levels, means, strict=True)), dense)
        assert found == (expected[-1] if expected else None)


def test_nothing_matches_a_dense_network_that_has_no_deviation() -> None:
    assert matching({0: 1.0}, Mean(0.9, None, 1)) is None
    assert matching({0: 1.0}, None) is None
    assert matching({}, Mean(0.9, 0.1, 2)) is None
