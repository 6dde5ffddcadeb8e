"""`cockpit queue extend`: only new runs are trained, and no existing result is lost."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.store import database, leases, records, rows
from tests.cockpit.queue.conftest import status
from tests.conftest import Cockpit, add, work_off
from tests.databases import finish, worker
from tests.images import gray, save


def trained_runs(path: Path) -> dict[str, Any]:
    with closing(database.reader(path)) as connection:
        found = connection.execute("SELECT digest, test_accuracy, attempt, finished_at, seconds FROM runs")
        return {row["digest"]: tuple(row) for row in found}


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_a_dry_run_says_what_is_new_and_changes_nothing(cockpit: Cockpit, tmp_path: Path) -> None:
    add(tmp_path / "experiments.db", "tiny")
    before = cockpit("queue", "list", "--json").stdout
    said = cockpit("queue", "extend", "tiny", "--replicates", 3, "--dry-run")
    assert (said.returncode, "new" in said.stdout) == (0, True)
    assert json.loads(cockpit("queue", "extend", "tiny", "--replicates", 3, "--dry-run", "--json").stdout)["new"] > 0
    assert cockpit("queue", "list", "--json").stdout == before


def test_a_finished_experiment_is_extended_and_only_its_new_runs_are_trained(path: Path, cockpit: Cockpit) -> None:
    path.unlink()
    add(path, "chain", levels=2, replicates=1)
    work_off(path)
    before = trained_runs(path)
    assert (status(cockpit), len(before)) == ({"chain": "done"}, 3 + 3 + 3 + 1)
    found = cockpit("queue", "extend", "chain", "--levels", 3)
    assert (found.stdout, found.stderr) == ("chain: 4 curves, 13 runs: 3 new, 10 exist already\n", "")
    assert status(cockpit) == {"chain": "waiting"}
    work_off(path)
    after = trained_runs(path)
    assert {digest: after[digest] for digest in before} == before
    with closing(database.reader(path)) as connection:
        new = connection.execute(
            "SELECT ticket, level, target, command FROM runs WHERE id > 10 AND status = 'done' ORDER BY ticket, target"
        )
        command = "cockpit queue extend chain --levels 3"
        assert [tuple(row) for row in new] == [
            ("random-global", 3, "digits-b", command),
            ("winning", 3, "digits-a", command),
            ("winning", 3, "digits-b", command),
        ]
        points = connection.execute("SELECT curve, level FROM curves WHERE n = 1").fetchall()
        assert len(points) == 4 + 4 + 4 + 1
    again = add(path, "chain", levels=3, replicates=1)  # equal to the whole queued at once
    assert (again.new, again.existing) == (0, 13)


def test_extending_with_what_is_there_changes_nothing(path: Path, cockpit: Cockpit) -> None:
    before = content(path)
    found = cockpit("queue", "extend", "one", "other", "--levels", 0, "--target", "digits-a", "--json")
    assert json.loads(found.stdout) == [
        {"experiment": "one", "curves": 2, "runs": 1, "new": 0, "existing": 1},
        {"experiment": "other", "curves": 2, "runs": 2, "new": 0, "existing": 2},
    ]
    assert content(path) == before


def test_runs_of_other_experiments_are_shared_and_curves_are_named_anew(path: Path, cockpit: Cockpit) -> None:
    add(path, "wide", levels=1, replicates=1, random=["none"], target=["digits-a"], scope=["global", "layerwise"])
    assert cockpit("queue", "extend", "one", "--replicates", 2).stdout == (
        "one: 2 curves, 2 runs: 0 new, 2 exist already\n"
    )
    found = cockpit("queue", "extend", "one", "--levels", 1, "--scope", "layerwise", "--optimizer", "adam")
    assert found.stdout.startswith("one: 7 curves, 18 runs: 14 new, 4 exist already")
    with closing(database.reader(path)) as connection:
        names = [curve.name for curve in rows.experiment(connection, 1).by_curve]
        assert names[:2] == [
            "digits-a (sgd) -> digits-a (sgd) winning global",
            "digits-a (sgd) -> digits-a (sgd) winning layerwise",
        ]
        unwanted = connection.execute("SELECT count(*) FROM runs WHERE priority IS NULL").fetchone()[0]
        assert unwanted == 0
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_data_sets_that_are_gone_are_known_from_the_database(path: Path, cockpit: Cockpit) -> None:
    specs = [save(path.with_name(f"{name}.npz"), gray(side=8, seed=seed)) for seed, name in enumerate(("mnist", "new"))]
    add(path, "mine", source=[specs[0]], target=[f"{specs[0]}-a"], batch_size=4)
    path.with_name("mnist.npz").unlink()
    found = cockpit("queue", "extend", "mine", "--replicates", 3)
    assert found.stdout == "mine: 4 curves, 39 runs: 13 new, 26 exist already\n"
    # four levels of tickets and of random ones, and the dense run
    found = cockpit("queue", "extend", "mine", "--target", specs[1])
    assert found.stdout == "mine: 7 curves, 66 runs: 27 new, 39 exist already\n"
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[-1].targets == ("npz:mnist-a", "npz:new")


def test_a_paused_experiment_stays_so_and_what_stands_on_a_failed_run_is_blocked(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        cockpit("queue", "pause", "one")
        records.failed(connection, claim, "out of luck")
        found = cockpit("queue", "extend", "one", "--levels", 2, "--replicates", 2)
        assert found.stderr == (
            "one is paused: `cockpit queue resume one`\n1 failed, 2 blocked: `cockpit queue retry one`\n"
        )
        assert status(cockpit)["one"] == "paused"
        states = dict(connection.execute("SELECT status, count(*) FROM runs GROUP BY 1").fetchall())
        assert states == {"failed": 1, "blocked": 2, "waiting": 3}
        claim = leases.claim(connection, 1)
        assert claim is not None
        finish(connection, claim, 0.5)  # seed 1: `other` needs it, and only the paused one its later levels
        assert leases.claim(connection, 1) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Nothing to extend: give --levels, --replicates, --target, ..."),
        (("--replicates", 1), "--replicates 1 is less than the 2 that are there: extend only adds"),
        (("--levels", 2), "--levels 2 is less than the 3 that are there: extend only adds"),
        (("--levels", 201), "--levels 201 is out of range (0 to 200)"),
        (("--evaluate", "0"), "experiment 'one': --evaluate 0 is not used: no ticket is trained on another data set"),
        (("--evaluate", "0", "--target", "digits"), "--evaluate 0 leaves out what is evaluated already (1"),
        (("--target", "digits-c"), "unknown data set 'digits-c'"),
        (("--scope", "locally"), "unknown --scope 'locally'"),
        (("--seed", 3), "No such option: --seed"),
    ],
)
def test_what_would_take_something_away_is_refused(
    path: Path, cockpit: Cockpit, options: tuple[object, ...], message: str
) -> None:
    add(path, "tiny")
    before = content(path)
    found = cockpit("queue", "extend", "one", "tiny", *options)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("cockpit: error: ")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert content(path) == before


def test_an_unknown_name_extends_none(path: Path, cockpit: Cockpit) -> None:
    before = content(path)
    found = cockpit("queue", "extend", "one", "othr", "--replicates", 5)
    assert found.returncode == 2
    assert "did you mean 'other'?" in found.stderr
    assert content(path) == before


def test_adding_another_definition_under_the_same_name_points_to_extend(path: Path, cockpit: Cockpit) -> None:
    cockpit("queue", "add", "digits", "--name", "my digits")
    found = cockpit("queue", "add", "digits", "--name", "my digits", "--replicates", 3)
    assert found.returncode == 2
    assert "or add to that one with `cockpit queue extend 'my digits'`" in found.stderr
