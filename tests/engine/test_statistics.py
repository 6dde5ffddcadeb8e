"""Statistics of replicates, against scipy, numpy, statsmodels, and counts by hand."""

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats
from statsmodels.stats.multitest import multipletests

from engine.analysis.statistics import (
    LEAST,
    MOST,
    Difference,
    Mean,
    holm,
    matching,
    mean_of,
    needed,
    paired,
)
from engine.store.replicates import collapsed

ACCURACIES = some.integers(0, 10_000).map(lambda count: count / 10_000)


def said(
    a: "np.ndarray | list[float]", b: "np.ndarray | list[float]", *of: float, permuted: bool = False
) -> Difference:
    found = paired(dict(enumerate(a)), dict(enumerate(b)), *of, permuted=permuted)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [3, 6, 20])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_an_interval_and_its_p_are_those_of_scipys_paired_t_test(n: int, confidence: float) -> None:
    a, b = np.random.default_rng(n).random((2, n)) / 10
    found, expected = said(a, b, confidence), stats.ttest_rel(a, b)
    interval = expected.confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert (found.mean, found.std, found.n) == pytest.approx(((a - b).mean(), (a - b).std(ddof=1), n))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.method == "student"


@pytest.mark.parametrize("n", [6, 7, 11])
def test_with_a_collapsed_replicate_the_p_is_that_of_scipys_permutation_of_signs(n: int) -> None:
    for seed in range(3):
        draw = np.random.default_rng(seed)
        a, b = draw.random(n) * 0.1 + draw.random() * 0.2, draw.random(n) * 0.1
        b[0] = 0.0
        found = said(a, b, permuted=True)
        expected = stats.permutation_test(
            (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples"
        )
        assert found.method == "permutation"
        assert found.p == pytest.approx(expected.pvalue)


@given(some.lists(some.tuples(ACCURACIES, ACCURACIES), min_size=6, max_size=9), some.floats(-1, 1))
def test_a_permutation_interval_holds_the_shifts_that_its_own_p_value_does_not_reject(
    pairs: list[tuple[float, float]], shift: float
) -> None:
    a, b = map(list, zip(*pairs, strict=True))
    found = said(a, b, permuted=True)
    assert found.low is not None
    assert found.high is not None
    if min(abs(found.low - shift), abs(found.high - shift)) < 1e-6 or abs(shift) > 0.999:
        return
    moved = said([one - shift for one in a], b, permuted=True)
    assert moved.p is not None
    assert (moved.p <= 0.05) == (not found.low <= shift <= found.high)


def test_of_six_replicates_a_collapsed_one_does_not_hide_that_all_agree() -> None:
    winning, chance = [0.55, 0.56, 0.54, 0.55, 0.56, 0.55], 0.1
    random_tickets = [0.54, 0.53, 0.53, 0.53, chance, 0.54]
    assert said(winning, random_tickets).low < 0  # type: ignore[operator]
    found = said(winning, random_tickets, permuted=True)
    assert (found.low, found.high) == pytest.approx((0.01, 0.46))
    assert (found.agreeing, found.p) == (6, 2 / 64)


@pytest.mark.parametrize("n", [13, 20, 60])
def test_of_many_replicates_signs_are_drawn_and_say_about_what_scipys_say(n: int) -> None:
    a, b = np.random.default_rng(n).random((2, n)) / 10
    a += 0.01
    a[0], b[1] = 0.5, 0.0
    found = said(a, b, permuted=True)
    expected = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=4_000, rng=1
    )
    assert found.p == pytest.approx(expected.pvalue, abs=0.03)
    assert found == said(a, b, permuted=True)


@settings(max_examples=20, deadline=None)
@given(some.lists(some.floats(0, 1), max_size=20))
def test_adjusted_p_values_are_statsmodels_of_holms_method(values: list[float]) -> None:
    expected = list(multipletests(values, method="holm")[1]) if values else []
    assert holm(values) == pytest.approx(expected)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(2000):
        found = said([draw.gauss(0.03, 0.1) for _ in range(4)], [0.0] * 4, 0.9)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.03 <= found.high
    assert covered / 2000 == pytest.approx(0.9, abs=0.02)


@given(some.lists(some.tuples(ACCURACIES, ACCURACIES), min_size=1, max_size=12), some.booleans())
def test_no_interval_holds_what_is_impossible_and_each_seed_is_told(
    pairs: list[tuple[float, float]], permuted: bool
) -> None:
    found = said([a for a, _ in pairs], [b for _, b in pairs], permuted=permuted)
    assert list(found.seeds.values()) == [a - b for a, b in pairs]
    assert found.agreeing == sum((a - b) * found.mean > 0 for a, b in pairs)
    told = (found.low, found.high, found.p, found.method)
    assert (None in told) == (told == (None, None, None, None))
    if found.low is not None and found.high is not None:
        assert -1 <= found.low <= found.mean + 1e-12
        assert found.mean - 1e-12 <= found.high <= 1
    else:
        assert found.n < LEAST + permuted or (found.n < 6 and found.std == pytest.approx(0))


def test_an_interval_that_would_leave_what_is_possible_is_clipped() -> None:
    found = said([1.0, 1.0, 0.0], [0.0, 0.1, 0.2])
    assert (found.low, found.high) == (-1, 1)


def test_only_seeds_that_both_have_are_paired_whatever_their_order() -> None:
    found = paired({4: 0.9, 1: 0.5, 2: 0.7, 5: 0.7}, {5: 0.2, 2: 0.6, 3: 0.1, 1: 0.2})
    expected = stats.ttest_rel([0.5, 0.7, 0.7], [0.2, 0.6, 0.2]).confidence_interval()
    assert found is not None
    assert list(found.seeds) == [1, 2, 5]
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_fewer_pairs_than_three_have_a_difference_and_no_interval_and_none_have_nothing() -> None:
    assert paired({1: 0.75, 2: 0.5}, {1: 0.5}) == Difference(0.25, None, 1, seeds={1: 0.25})
    two = said([0.75, 0.5], [0.5, 0.5])
    assert (two.mean, two.n, two.low, two.high, two.p) == (0.125, 2, None, None, None)
    assert paired({1: 0.75}, {2: 0.5}) is None


def test_equal_differences_have_an_interval_only_if_their_signs_are_enough() -> None:
    assert said([0.75] * 5, [0.5] * 5).p is None
    found = said([0.75] * 6, [0.5] * 6)
    assert (found.low, found.high, found.p) == (0.25, 0.25, 2 / 64)
    assert said([0.5] * 6, [0.5] * 6).p == 1


@pytest.mark.parametrize("chance", [0.5, 0.1, 0.01, 0.001])
def test_a_network_near_chance_has_collapsed(chance: float) -> None:
    assert collapsed(chance, chance)
    assert collapsed(0.0, chance)
    assert not collapsed(2.01 * chance, chance)
    assert not collapsed(chance + 0.021 * (1 - chance), chance)


@pytest.mark.parametrize(("mean", "std"), [(0.08, 0.06), (-0.08, 0.06), (0.02, 0.03), (0.01, 0.001)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_so_many_pairs_are_needed_as_scipys_interval_takes_to_leave_out_zero(
    mean: float, std: float, confidence: float
) -> None:
    n = needed(Difference(mean, std, 2), confidence)
    assert n is not None
    for count, leaves_out in ((n, True), (n - 1, False)):
        if count >= LEAST:
            low, high = stats.t.interval(confidence, count - 1, mean, std / count**0.5)
            assert (low > 0 or high < 0) == leaves_out
    later = needed(Difference(mean, std, n + 4), confidence)
    assert later == n + 5  # more than the pairs that exist


def test_no_number_of_pairs_is_told_where_none_or_only_too_many_would_do() -> None:
    assert needed(Difference(0.5, None, 1)) is None
    assert needed(Difference(0.0, 0.1, 2)) is None
    assert needed(Difference(0.1, 0.1 * MOST**0.5 / 1.97, 2)) is None


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
