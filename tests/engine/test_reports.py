"""Reports on curves, against scipy and the view `curves`, on a really trained database."""

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cockpit.views.report_tables import few, missing
from engine.analysis import reports
from engine.store import database
from tests.conftest import Cockpit, add, copied

SAMPLE = Path(__file__).parents[2] / "experiments.db"
CHAIN = "digits-a -> digits-a winning global"
MOVED = "digits-a -> digits-b winning global"
RANDOM = "digits-b random-global"


@pytest.fixture
def connection(trained: Path) -> Iterator[sqlite3.Connection]:
    with closing(database.reader(trained)) as connection:
        yield connection


def by_name(connection: sqlite3.Connection, experiment: str | None = None) -> dict[str, reports.Report]:
    return {one.curve.name: one for one in reports.of(connection, experiment)}


def accuracies(connection: sqlite3.Connection, curve: str, level: int) -> list[float]:
    """The accuracies from the tables, in order of replicates."""
    found = connection.execute(
        "SELECT r.test_accuracy FROM runs r JOIN curve_points p ON p.run_id = r.id"
        " JOIN experiment_curves c ON c.id = p.curve_id WHERE c.name = ? AND p.level = ? ORDER BY p.replicate",
        (curve, level),
    )
    return [row[0] for row in found]


def test_a_curve_is_compared_with_the_random_tickets_of_its_target_and_with_the_targets_own(
    connection: sqlite3.Connection,
) -> None:
    found = by_name(connection)
    assert (found[CHAIN].random, found[CHAIN].own) == (None, None)
    assert (found[MOVED].random, found[MOVED].own) == (RANDOM, None)
    assert found["digits-a -> digits-b random-local layerwise"].random == RANDOM
    assert found[RANDOM].random is None
    assert found["digits-b dense"].levels[0].minus_random is None


def test_differences_are_those_that_scipy_finds_in_the_tables(connection: sqlite3.Connection) -> None:
    report = by_name(connection)[MOVED]
    assert [level.level for level in report.levels] == [0, 1, 2, 3]
    for level in report.levels:
        a, b = accuracies(connection, MOVED, level.level), accuracies(connection, RANDOM, level.level)
        assert level.minus_random is not None
        assert list(level.minus_random.seeds.values()) == pytest.approx([x - y for x, y in zip(a, b, strict=True)])
        assert (level.minus_random.n, level.minus_random.low) == (2, None)  # too few for an interval


def test_means_and_deviations_are_those_of_the_view(connection: sqlite3.Connection) -> None:
    rows = {(row["curve"], row["level"]): row for row in connection.execute("SELECT * FROM curves")}
    records = list(reports.records(reports.of(connection)))
    assert len(records) == len(rows)
    for record in records:
        row = rows[record["curve"], record["level"]]
        for key in ("mean", "std", "n", "replicates", "fraction_pruned"):
            assert record[key] == pytest.approx(row[key], abs=1e-12)
        for key in reports.WHAT:
            assert record[key] == row[key]


def test_dense_is_the_dense_curve_or_level_0_of_a_chain_on_the_same_data(connection: sqlite3.Connection) -> None:
    found = by_name(connection)
    for name in (CHAIN, MOVED):
        dense = found[name].dense
        assert dense is not None
        at_0 = accuracies(connection, CHAIN if name == CHAIN else "digits-b dense", 0)
        assert dense.mean == pytest.approx(sum(at_0) / 2)


def test_a_transferred_ticket_is_compared_with_the_targets_own_of_the_same_scope_and_optimizer(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "both", source=["digits-a", "digits-b"], target=["digits-b"], scope=["global", "layerwise"])
    add(path, "optimizers", source=["digits-a"], target=["digits-a"], optimizer=["sgd", "adam"])
    with closing(database.writer(path)) as connection:
        connection.execute(
            "UPDATE runs SET status = 'done', weights_total = 100, weights_remaining = 50, test_accuracy = "
            "0.9 - level * 0.1 + seed * 0.01 + (coalesce(source, '') = 'digits-a') * 0.05 * (ticket = 'winning')"
        )
        found = by_name(connection, "both")
        for scope in ("global", "layerwise"):
            report = found[f"digits-a -> digits-b winning {scope}"]
            assert report.own == f"digits-b -> digits-b winning {scope}"
            level = report.levels[2]
            assert level.minus_own is not None
            assert level.minus_own.mean == pytest.approx(0.05)
            assert level.minus_own.n == 2
            assert level.minus_own.std == pytest.approx(0, abs=1e-12)
        found = by_name(connection, "optimizers")
        report = found["digits-a (sgd) -> digits-a (adam) winning"]
        assert report.own == "digits-a (adam) -> digits-a (adam) winning"
        assert report.random == "digits-a (adam) random-global"


def test_a_replicate_that_is_missing_on_one_side_leaves_its_pair_out_and_is_named(
    trained: Path, tmp_path: Path
) -> None:
    path = copied(trained, tmp_path)
    with closing(database.writer(path)) as connection:
        connection.execute(
            "UPDATE runs SET status = 'failed', test_accuracy = NULL"
            " WHERE ticket = 'random-global' AND level >= 2 AND seed <= level - 2"
        )
        found = by_name(connection)
    at_2, at_3 = found[MOVED].levels[2:]
    assert at_2.accuracy.n == 2
    assert at_2.minus_random is not None
    assert (at_2.minus_random.n, at_2.minus_random.low) == (1, None)
    assert at_3.minus_random is None
    assert [level.level for level in found[RANDOM].levels] == [0, 1, 2]
    assert list(missing(list(found.values()))) == [f"'{RANDOM}': 3 of 8 runs left (levels 2-3)"]


def test_export_writes_the_records_with_every_digit(
    cockpit: Cockpit, trained: Path, connection: sqlite3.Connection
) -> None:
    expected = list(reports.records(reports.of(connection)))
    lines = cockpit("export", "--table", "statistics", "--json", "--db", trained).stdout.splitlines()
    assert [json.loads(line) for line in lines] == expected
    table = list(csv.DictReader(cockpit("export", "--table", "statistics", "--db", trained).stdout.splitlines()))
    for row, record in zip(table, expected, strict=True):
        assert list(row) == reports.HEADING
        for key, value in record.items():
            assert (float(row[key]) if isinstance(value, float) else row[key]) == ("" if value is None else value) or (
                row[key] == str(value)
            )


def test_show_reports_what_the_records_say(cockpit: Cockpit, trained: Path) -> None:
    shown = cockpit("show", "tiny", "--db", trained)
    assert (shown.returncode, shown.stderr) == (0, "")
    told = json.loads(cockpit("show", "tiny", "--json", "--db", trained).stdout)
    report = next(one for one in told["curves"] if one["curve"] == MOVED)
    last = report["levels"][-1]["minus_random"]
    text = f"{last['mean'] * 100:+.1f}, too few replicates (n=2)"
    assert text in shown.stdout
    assert "did you mean 'tiny'" in cockpit("show", "tinny", "--db", trained).stderr


def test_show_of_an_experiment_that_was_not_trained_says_what_is_missing(cockpit: Cockpit, tmp_path: Path) -> None:
    add(tmp_path / "experiments.db", "new")
    shown = cockpit("show", "new")
    assert "nothing is done yet" in shown.stdout
    assert "'digits-b dense': 2 of 2 runs left (levels 0)" in shown.stdout
    assert json.loads(cockpit("show", "new", "--json").stdout)["curves"][0]["levels"] == []
    assert cockpit("export", "--table", "statistics", "--json").stdout == ""


def test_a_report_shows_a_few_of_the_levels_that_are_compared_the_sparsest_among_them(
    connection: sqlite3.Connection,
) -> None:
    levels = by_name(connection)[MOVED].levels
    assert few(levels) == list(levels[1:])
    between = [replace(level, minus_random=None) for level in levels]
    many = [one for pair in zip(levels * 5, between * 5, strict=True) for one in pair]
    shown = few(many)
    assert len(shown) == 5
    assert all(level.minus_random for level in shown)
    assert (shown[0], shown[-1]) == (levels[1], levels[-1])


def test_the_sample_says_how_far_its_tickets_match() -> None:
    with closing(database.reader(SAMPLE)) as connection:
        found = by_name(connection, "cifar10-to-cifar100")
        rows = {
            (row["curve"], row["level"]): row["mean"]
            for row in connection.execute("SELECT * FROM curves WHERE experiment = 'cifar10-to-cifar100'")
        }
    report = found["npz:cifar10 -> npz:cifar100 winning"]
    assert report.dense is not None
    assert report.dense.std is not None
    within = {
        level: mean >= report.dense.mean - report.dense.std
        for (curve, level), mean in rows.items()
        if curve == report.curve.name
    }
    last = report.matching
    assert last is not None
    assert all(fits for level, fits in within.items() if level <= last)
    assert not within[min(level for level in within if level > last)]
