"""The paper's claims on made-up accuracies with known verdicts, and against scipy."""

import json
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from engine.analysis import claims
from engine.analysis.claims import Finding
from engine.store import database, replicates
from engine.store.replicates import Curve
from tests.conftest import Cockpit, add

OPTIONS: dict[str, Any] = {"prune_rate": 0.5, "levels": 6, "evaluate": "all", "replicates": 3}
NOISE = "((id * 37) % 11) * 0.0002"
HALVED = "round(10000 / pow(2, level))"
BOTH_SCOPES = {**OPTIONS, "target": ["digits-a"], "scope": ["global", "layerwise"]}
TWO_SOURCES = {**OPTIONS, "source": ["digits-a", "digits"], "target": ["digits-b"]}
TWO_OPTIMIZERS = {**OPTIONS, "target": ["digits-a"], "optimizer": ["sgd", "adam"]}
MASKS = {**OPTIONS, "target": ["digits-a"], "random": ["preserved", "local", "global"]}


def finish(connection: sqlite3.Connection, effect: str, noise: str = NOISE) -> None:
    """Mark all runs as done with an accuracy of 0.5 plus `effect`, an SQL expression."""
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


def test_sources_are_compared_by_their_published_sizes_where_neither_has_the_targets_images(
    path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **TWO_SOURCES)
    finish(connection, "0.1 * (source = 'digits')")
    assert of(connection, "sources").verdict == "no data"  # digits holds the images of digits-b
    add_set = "INSERT INTO datasets (identity, name, train_images, classes) VALUES (?, ?, ?, ?)"
    connection.execute(add_set, ("npz:1-500", "npz:cifar10-500", 500, 10))
    connection.execute("UPDATE runs SET source_dataset = 'npz:1-500' WHERE source_dataset = 'digits'")
    found = of(connection, "sources")
    assert found.verdict == "supported"
    (one,) = found.comparisons
    assert (one.a, one.b) == ("digits -> digits-b winning", "digits-a -> digits-b winning")
    # 500 images of CIFAR-10 stand for 50,000, as half of the digits for 1,257.
    assert one.sources == ((50_000, 10, True, "carried"), (1257, 10, True, "carried"))
    # Five classes cannot be CIFAR-10: a set that nobody published is as large as was recorded of it.
    connection.execute("UPDATE datasets SET classes = 5 WHERE identity = 'npz:1-500'")
    assert of(connection, "sources").verdict == "contradicted"
    (one,) = of(connection, "sources").comparisons
    assert one.sources == ((1257, 10, True, "carried"), (500, 5, False, "fresh"))
    connection.execute(add_set, ("npz:1", "npz:cifar10", 3000, 5))
    assert of(connection, "sources").verdict == "no data"  # more images, fewer classes


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
        ((50_000, 10), (25_000, 10), True),  # CIFAR-10 and its half
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
        connection.executemany("INSERT INTO layers VALUES (?, ?, ?, ?, ?, 'conv', NULL)", rows)
    found = of(connection, "layers")
    assert found.verdict == "supported"
    (one,) = found.comparisons
    assert one.levels == (5, 6)
    assert 0.6 < one.difference.mean < 0.65
    connection.execute("UPDATE layers SET layer = 3 - layer + 10")
    assert of(connection, "layers").verdict == "contradicted"


def test_intervals_are_scipys_of_the_means_over_levels_and_p_values_hold_together_within_an_experiment(
    path: Path, connection: sqlite3.Connection
) -> None:
    noise = "((id * id * 7919) % 997) * 0.0001"
    add(path, "e", **{**OPTIONS, "source": ["digits-a", "digits-b"]}, target=["digits-b", "digits"])
    finish(connection, "0.1 * (ticket = 'winning')", noise)
    (study,) = of(connection, "winning").studies
    assert len(study.comparisons) == study.telling == 4
    expected = []
    for one in study.comparisons:
        sides = []
        for name in (one.a, one.b):
            rows = connection.execute(
                "SELECT avg(r.test_accuracy) FROM runs r JOIN curve_points p ON p.run_id = r.id"
                " JOIN experiment_curves c ON c.id = p.curve_id JOIN experiments e ON e.id = c.experiment_id"
                " WHERE e.name = ? AND c.name = ? AND p.level IN (5, 6) GROUP BY r.seed ORDER BY r.seed",
                (one.experiment, name),
            )
            sides.append([row[0] for row in rows])
        expected.append(stats.ttest_rel(*sides))
        interval = expected[-1].confidence_interval()
        assert (one.difference.low, one.difference.high) == pytest.approx((interval.low, interval.high))
        assert list(one.difference.seeds.values()) == pytest.approx([a - b for a, b in zip(*sides, strict=True)])
    adjusted = multipletests([one.pvalue for one in expected], method="holm")[1]
    assert [one.holm for one in study.comparisons] == pytest.approx(list(adjusted))


def test_what_one_experiment_says_does_not_depend_on_others(path: Path, connection: sqlite3.Connection) -> None:
    noise = "((id * id * 7919) % 997) * 0.0001"
    add(path, "e", **OPTIONS)
    finish(connection, "0.05 * (ticket = 'winning')", noise)
    (alone,) = of(connection, "winning").studies
    for number in range(3):
        add(path, f"other{number}", **{**OPTIONS, "width": 0.5, "seed": 100 * number + 10})
    finish(connection, "0.05 * (ticket = 'winning')", noise)
    found = of(connection, "winning")
    assert len(found.studies) == 4
    assert found.studies[0] == alone


@pytest.mark.parametrize("replicates", [1, 2])
def test_fewer_than_three_replicates_decide_nothing(
    cockpit: Cockpit, path: Path, connection: sqlite3.Connection, replicates: int
) -> None:
    add(path, "e", **{**OPTIONS, "replicates": replicates})
    finish(connection, "0.3 * (ticket = 'winning')")
    assert f"too few replicates (n={replicates})" in cockpit("claims").stdout
    found = of(connection, "winning")
    assert (found.verdict, found.telling) == ("undecided", 0)
    assert found.comparisons[0].difference.low is None


def test_what_is_open_says_how_many_replicates_would_decide_it(
    cockpit: Cockpit, path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **{**OPTIONS, "replicates": 2})
    finish(connection, "0.1 * (ticket = 'winning')", "0.05 * seed * (ticket = 'winning')")
    (one,) = of(connection, "winning").comparisons
    assert (one.decides, one.replicates_needed) == (0, 3)  # 4.3 * 0.035 / sqrt(3) is less than 0.125
    assert "too few, n=3" in cockpit("claims").stdout
    connection.execute("UPDATE runs SET status = 'waiting' WHERE seed = 1")
    (one,) = of(connection, "winning").comparisons
    assert one.replicates_needed is None


def test_differences_that_are_equal_by_chance_decide_nothing(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **OPTIONS)
    finish(connection, "0.1 * (ticket = 'winning')", "seed * 0.017 + level * 0.003")
    (one,) = of(connection, "winning").comparisons
    assert one.difference.mean == pytest.approx(0.1)
    assert one.difference.low is None
    assert (one.decides, one.replicates_needed) == (0, None)


@dataclass(frozen=True)
class Null:
    """Studies in which no side is better: every accuracy is drawn alike, and collapses alike."""

    replicates: int
    comparisons: int = 1  # sharing one side, as all tickets of a target share its random ones
    experiments: int = 1
    collapse: float = 0.0

    def study(self, curve: Curve, draw: random.Random) -> Finding:
        pairs = []
        for number in range(self.experiments):
            own, shared = replace(curve, experiment=f"e{number}"), self.side(draw)
            pairs += [claims.Pair(own, self.side(draw), shared) for _ in range(self.comparisons)]
        return claims._finding(claims.CLAIMS[1], pairs)

    def side(self, draw: random.Random) -> claims.Side:
        levels, seeds = (1, 2), range(self.replicates)
        lost = {level: frozenset(seed for seed in seeds if draw.random() < self.collapse) for level in levels}
        values = {
            level: {seed: 0.1 if seed in lost[level] else draw.gauss(0.5, 0.02) for seed in seeds} for level in levels
        }
        return claims.Side("side", values, collapsed=lost)


@pytest.mark.parametrize(
    "null",
    [
        Null(3),
        Null(6),
        Null(3, comparisons=4),
        Null(6, comparisons=4, collapse=0.1),
        Null(4, comparisons=2, experiments=2),
        Null(4, collapse=0.3),
        Null(6, collapse=0.3),
    ],
    ids=repr,
)
def test_of_1000_studies_without_an_effect_at_most_5_percent_are_decided(trained: Path, null: Null) -> None:
    with closing(database.reader(trained)) as connection:
        curve = replace(replicates.read(connection)[0], pruned={1: 0.96, 2: 0.97})
    draw = random.Random(1)
    found = [null.study(curve, draw) for _ in range(1000)]
    decided = sum(one.verdict != "undecided" for one in found)
    told = sum(any(comparison.decides for comparison in one.studies[0].comparisons) for one in found)
    assert max(decided, told) <= stats.binom.ppf(0.999, 1000, 0.05)  # 73: the most that 5 % give in a thousand draws


def test_a_collapsed_random_replicate_does_not_block_a_verdict(
    cockpit: Cockpit, path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **{**OPTIONS, "replicates": 6})
    finish(connection, "0.02 * (ticket = 'winning') - 0.4 * (ticket = 'random-global') * (seed = 4)")
    found = of(connection, "winning")
    (one,) = found.comparisons
    assert (found.verdict, one.collapsed, one.difference.method) == ("supported", (0, 1), "permutation")
    text = cockpit("claims").stdout
    assert "random-global: 1 of its replicates collapsed (accuracy at chance)" in text
    assert "6 of 6" in text
    lines = cockpit("show", "e").stdout.splitlines()
    assert "'digits-b random-global': 7 of 42 runs collapsed (accuracy at chance), at level 0-6" in lines


def test_a_diverged_replicate_counts_at_chance_and_is_told(
    cockpit: Cockpit, path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "e", **{**OPTIONS, "replicates": 6})
    finish(connection, "0.02 * (ticket = 'winning')")
    connection.execute(
        "UPDATE runs SET status = 'diverged', test_accuracy = NULL"
        " WHERE ticket = 'random-global' AND level = 6 AND seed = 4"
    )
    found = of(connection, "winning")
    (one,) = found.comparisons
    assert (found.verdict, one.levels, one.diverged, one.difference.n) == ("supported", (5, 6), (0, 1), 6)
    assert one.difference.seeds[4] == pytest.approx(0.02 + 0.2, abs=0.01)  # half of 0.5 - 0.1: one level of two
    assert "random-global: 1 of its replicates diverged (counted at chance)" in cockpit("claims").stdout
    lines = cockpit("show", "e").stdout.splitlines()
    assert "'digits-b random-global': 1 of 42 runs diverged (not in any mean), at level 6" in lines


def test_data_that_points_both_ways_is_undecided(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "e", **{**OPTIONS, "source": ["digits-a", "digits-b"]}, target=["digits"])
    finish(connection, "0.1 * (ticket = 'winning') * (1 - 2 * (source = 'digits-b'))")
    found = of(connection, "winning")
    (study,) = found.studies
    assert (study.count(1), study.count(-1), found.verdict) == (1, 1, "undecided")


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


@pytest.mark.parametrize(
    "another",
    [
        {"criterion": "snip", "prune_at": "init"},
        {"prune_at": "init"},
        {"retrain": "finetune"},
        {"granularity": "filter"},
    ],
)
def test_tickets_that_are_not_found_as_the_papers_are_say_nothing_of_its_claims(
    path: Path, connection: sqlite3.Connection, another: dict[str, Any]
) -> None:
    add(path, "paper", **{**OPTIONS, "schedule": "continue"})
    add(path, "another", **{**OPTIONS, "schedule": "continue", **another})
    finish(connection, "0.1 * (ticket = 'winning')")
    assert {study.experiment for one in claims.findings(connection) for study in one.studies} == {"paper"}
    assert claims.left_out(connection) == ["another"]
    connection.execute("UPDATE experiments SET definition = json_remove(definition, '$.criterion', '$.granularity')")
    assert "paper" not in claims.left_out(connection)  # as earlier versions wrote them


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
    assert [study.telling for study in found.studies] == [2]


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
    assert "experiments for it: 1, against: 0, open: 0" in text
    assert text.count("no data") == 10  # five claims, in the overview and above their needs
