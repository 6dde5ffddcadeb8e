"""The paper's claims on recorded data: made-up accuracies for which the answer is known, and scipy beside them."""

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from engine.analysis import claims
from engine.analysis.claims import Finding
from engine.store import database, replicates
from tests.conftest import Cockpit, add

OPTIONS: dict[str, Any] = {"prune_rate": 0.5, "levels": 6, "evaluate": "all", "replicates": 3}
NOISE = "((id * 37) % 11) * 0.0002"
HALVED = "round(10000 / pow(2, level))"
BOTH_SCOPES = {**OPTIONS, "target": ["digits-a"], "scope": ["global", "layerwise"]}
TWO_SOURCES = {**OPTIONS, "source": ["digits-a", "digits"], "target": ["digits-b"]}
TWO_OPTIMIZERS = {**OPTIONS, "target": ["digits-a"], "optimizer": ["sgd", "adam"]}
MASKS = {**OPTIONS, "target": ["digits-a"], "random": ["preserved", "local", "global"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "experiments.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(database.writer(path)) as connection:
        yield connection


def finish(connection: sqlite3.Connection, effect: str, noise: str = NOISE) -> None:
    """Let all runs be done: `effect` is SQL for what is added to their accuracy of 0.5."""
    connection.execute(
        f"UPDATE runs SET status = 'done', weights_total = 10000, weights_remaining = {HALVED},"
        f" test_accuracy = 0.5 + coalesce({effect}, 0) + {noise}"
    )


def of(connection: sqlite3.Connection, key: str) -> Finding:
    return next(one for one in claims.findings(connection) if one.claim.key == key)


@pytest.mark.parametrize(
    ("key", "options", "effect"),
    [
        ("global", BOTH_SCOPES, "0.1 * (scope = 'global')"),
        ("winning", OPTIONS, "0.1 * (ticket = 'winning')"),
        ("optimizers", TWO_OPTIMIZERS, "0.1 * (ticket = 'winning')"),
        ("masks", MASKS, "0.1 * (ticket <> 'random-global')"),
    ],
)
def test_a_claim_is_supported_where_the_effect_is_there_and_contradicted_where_it_is_the_other_way_round(
    path: Path, connection: sqlite3.Connection, key: str, options: dict[str, Any], effect: str
) -> None:
    add(path, "e", **options)
    assert of(connection, key).verdict == "no data"
    for sign, verdict in (("", "supported"), ("-", "contradicted"), ("0 *", "undecided")):
        finish(connection, f"{sign}{effect}")
        found = of(connection, key)
        assert found.verdict == verdict
        for one in found.comparisons:
            assert one.levels == (5, 6)  # 96.9 and 98.4 % pruned
            if one.judged and verdict == "supported":
                assert one.difference.mean == pytest.approx(0.1, abs=0.003)


def test_sources_are_compared_only_where_one_is_larger_and_neither_has_the_targets_images(
    path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **TWO_SOURCES)
    finish(connection, "0.1 * (source = 'digits')")
    assert of(connection, "sources").verdict == "no data"  # digits holds the images of digits-b
    connection.execute("INSERT INTO datasets (identity, name, train_images, classes) VALUES ('other', 'o', 1257, 10)")
    connection.execute("UPDATE runs SET source_dataset = 'other' WHERE source_dataset = 'digits'")
    found = of(connection, "sources")
    assert found.verdict == "supported"
    (one,) = found.comparisons
    assert (one.a, one.b) == ("digits -> digits-b winning", "digits-a -> digits-b winning")
    connection.execute("UPDATE datasets SET classes = 5 WHERE identity = 'other'")
    assert of(connection, "sources").verdict == "no data"  # more images, fewer classes
    connection.execute("UPDATE datasets SET train_images = 200 WHERE identity = 'other'")
    assert of(connection, "sources").verdict == "contradicted"


def test_an_experiment_of_dense_networks_says_nothing(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "dense", **{**TWO_SOURCES, "source": ["digits-a", "digits-b"], "levels": 0})
    finish(connection, "0")
    assert not any(one.comparisons for one in claims.findings(connection))


@pytest.mark.parametrize(
    ("a", "b", "larger"),
    [
        ((50_000, 100), (50_000, 10), True),  # CIFAR-100 and CIFAR-10
        ((73_257, 10), (50_000, 10), False),  # SVHN and CIFAR-10
        ((60_000, 10), (50_000, 100), False),  # Fashion-MNIST and CIFAR-100
        ((50_000, 100), (60_000, 10), True),
        ((1_281_167, 1000), (1_803_460, 365), True),  # ImageNet and Places365
        ((50_000, 10), (25_000, 10), True),  # CIFAR-10 and a half of it
        ((25_000, 10), (25_000, 10), False),
        ((100_000, 10), (50_000, 100), False),
    ],
)
def test_a_source_is_larger_if_it_has_clearly_more_of_one_and_not_clearly_less_of_the_other(
    a: tuple[int, int], b: tuple[int, int], larger: bool
) -> None:
    assert claims._larger(a, b) == larger
    assert not (larger and claims._larger(b, a))


def test_the_first_layers_are_compared_with_the_others(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **OPTIONS, target=["digits-a"])
    finish(connection, "0")
    chain = "SELECT id, 1 + level % 2 FROM runs WHERE ticket <> 'random-global'"
    for run, odd in connection.execute(chain).fetchall():
        kept = (900 + run, 500, 300 + odd, 100)
        rows = [(run, layer, f"l{layer}", count, 1000) for layer, count in enumerate(kept)]
        connection.executemany("INSERT INTO layers VALUES (?, ?, ?, ?, ?, 'conv')", rows)
    found = of(connection, "layers")
    assert found.verdict == "supported"
    (one,) = found.comparisons
    assert one.levels == (5, 6)
    assert 0.6 < one.difference.mean < 0.65
    connection.execute("UPDATE layers SET layer = 3 - layer + 10")
    assert of(connection, "layers").verdict == "contradicted"


def test_intervals_are_scipys_of_the_means_over_levels_and_hold_together(
    path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **OPTIONS)
    finish(connection, "0.1 * (ticket = 'winning')", "((id * 7919) % 101) * 0.001")
    found = of(connection, "winning")
    assert found.telling == len(found.comparisons) == 1  # the chain's target has no random tickets
    add(path, "f", **{**OPTIONS, "source": ["digits-b"]}, target=["digits-b", "digits-a"])
    finish(connection, "0.1 * (ticket = 'winning')", "((id * 7919) % 101) * 0.001")
    found = of(connection, "winning")
    assert found.telling == len(found.comparisons) == 3
    assert found.confidence == pytest.approx(1 - 0.05 / 3)
    for one in found.comparisons:
        sides = []
        for name in (one.a, one.b):
            rows = connection.execute(
                "SELECT avg(r.test_accuracy) FROM runs r JOIN curve_points p ON p.run_id = r.id"
                " JOIN experiment_curves c ON c.id = p.curve_id JOIN experiments e ON e.id = c.experiment_id"
                " WHERE e.name = ? AND c.name = ? AND p.level IN (5, 6) GROUP BY r.seed ORDER BY r.seed",
                (one.experiment, name),
            )
            sides.append([row[0] for row in rows])
        expected = stats.ttest_rel(*sides).confidence_interval(found.confidence)
        assert (one.difference.low, one.difference.high) == pytest.approx((expected.low, expected.high))


def test_one_replicate_decides_nothing(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **{**OPTIONS, "replicates": 1})
    finish(connection, "0.3 * (ticket = 'winning')")
    found = of(connection, "winning")
    assert (found.verdict, found.telling) == ("undecided", 0)
    assert found.comparisons[0].difference.low is None


def test_what_is_open_says_how_many_replicates_would_decide_it(
    cockpit: Cockpit, path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **{**OPTIONS, "replicates": 2})
    finish(connection, "0.1 * (ticket = 'winning')", "0.05 * seed * (ticket = 'winning')")
    (one,) = of(connection, "winning").comparisons
    assert (one.decides, one.replicates_needed) == (0, 3)  # 0.125 with a deviation of 0.035: 4.3 * 0.035 / 1.73 is less
    assert "open, n=3" in cockpit("claims").stdout
    connection.execute("UPDATE runs SET status = 'waiting' WHERE seed = 1")
    (one,) = of(connection, "winning").comparisons
    assert one.replicates_needed is None


def test_differences_that_are_equal_by_chance_decide_nothing(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **OPTIONS)
    finish(connection, "0.1 * (ticket = 'winning')", "seed * 0.017 + level * 0.003")
    (one,) = of(connection, "winning").comparisons
    assert (one.difference.low, one.difference.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (one.decides, one.replicates_needed) == (0, None)


def test_without_an_effect_the_data_decides_as_seldom_as_it_is_said_to(trained: Path) -> None:
    with closing(database.reader(trained)) as connection:
        curve = replace(replicates.read(connection)[0], pruned={1: 0.96, 2: 0.97})
    draw = random.Random(0)

    def side(shift: float = 0.0) -> dict[int, dict[int, float]]:
        return {level: {seed: shift + draw.gauss(0.5, 0.01) for seed in range(3)} for level in (1, 2)}

    verdicts = []
    for _ in range(1000):
        pairs = [claims.Pair(curve, "a", "b", side(), side(), ()) for _ in range(4)]
        finding = claims._finding(claims.CLAIMS[1], pairs)
        verdicts.append(finding.count(1) + finding.count(-1) > 0)
    assert 0.03 < sum(verdicts) / 1000 < 0.065  # 5 % if all comparisons together are


def test_data_that_points_both_ways_is_undecided(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **{**OPTIONS, "source": ["digits-a", "digits-b"]}, target=["digits"])
    finish(connection, "0.1 * (ticket = 'winning') * (1 - 2 * (source = 'digits-b'))")
    found = of(connection, "winning")
    assert (found.count(1), found.count(-1), found.verdict) == (1, 1, "undecided")


def test_what_two_experiments_share_counts_once(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **OPTIONS)
    add(path, "same", **OPTIONS)
    add(path, "more", **{**OPTIONS, "replicates": 4})
    finish(connection, "0.1 * (ticket = 'winning')")
    found = of(connection, "winning")
    assert [one.experiment for one in found.comparisons] == ["more"]


def test_levels_that_fewer_replicates_have_reached_wait(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **OPTIONS)
    finish(connection, "0.1 * (ticket = 'winning')")
    connection.execute("UPDATE runs SET status = 'waiting', test_accuracy = NULL WHERE level = 6 AND seed = 2")
    (one,) = of(connection, "winning").comparisons
    assert (one.levels, one.difference.n) == ((5,), 3)
    connection.execute("UPDATE runs SET status = 'waiting', test_accuracy = NULL WHERE level = 5 AND seed = 2")
    (one,) = of(connection, "winning").comparisons
    assert (one.levels, one.difference.n) == ((5, 6), 2)


def test_levels_that_are_not_sparse_say_nothing(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **{**OPTIONS, "levels": 4})
    finish(connection, "0.1 * (ticket = 'winning')")
    assert {one.verdict for one in claims.findings(connection)} == {"no data"}


def test_a_ticket_from_another_optimizer_is_shown_beside_the_own_one_without_judging(
    path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **TWO_OPTIMIZERS)
    finish(connection, "0.1 * (ticket = 'winning') - 0.2 * (source_optimizer <> optimizer)")
    found = of(connection, "optimizers")
    assert [(one.judged, one.decides) for one in found.comparisons] == [(True, -1), (False, 0)] * 2
    assert found.telling == 2


def test_the_command_lists_each_claim_with_its_numbers(
    cockpit: Cockpit, path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **OPTIONS)
    finish(connection, "0.1 * (ticket = 'winning')")
    text = cockpit("claims").stdout
    told = json.loads(cockpit("claims", "--json").stdout)
    assert [one["claim"] for one in told] == [claim.key for claim in claims.CLAIMS]
    for one in told:
        assert f"{one['text']} ({one['paper']}): {one['verdict']}" in text
    (comparison,) = told[1]["comparisons"]
    assert (told[1]["verdict"], comparison["says"], comparison["difference"]["n"]) == ("supported", 1, 3)
    assert f"{comparison['difference']['mean'] * 100:+.1f} [" in text
    assert "as the claim has it: 1 of 1; intervals (95 %) above 0: 1, below: 0, around it: 0" in text
    assert text.count("no data") == 10  # five claims, in the overview and above their needs
