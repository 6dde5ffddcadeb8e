"""Each verb of `cockpit queue`, against the real program in an empty folder."""

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import claims, database, records
from tests.conftest import Cockpit, add, run_cockpit, work_off
from tests.engine.test_store import finish, worker
from tests.engine.test_worker import start_worker, wait_for_epochs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with two experiments of two runs each waiting: one, and other, which wants the same and more."""
    found = tmp_path / "experiments.db"
    add(found, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    add(found, "other", levels=0, replicates=2, random=["none"], target=["digits-a"])
    return found


def status(cockpit: Cockpit) -> dict[str, str]:
    return {row["name"]: row["status"] for row in json.loads(cockpit("queue", "list", "--json").stdout)}


def test_pause_and_resume(cockpit: Cockpit, path: Path) -> None:
    found = cockpit("queue", "pause", "one", "other")
    assert (found.returncode, found.stdout) == (0, "‖ paused  one\n‖ paused  other\n")
    work_off(path)
    assert status(cockpit) == {"one": "paused", "other": "paused"}
    assert json.loads(cockpit("queue", "resume", "other", "--json").stdout) == {"other": "waiting"}
    work_off(path)
    assert status(cockpit) == {"one": "done", "other": "done"}  # they share the run of one


def test_pause_leaves_alone_what_another_experiment_wants(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        holder = worker(connection)
        shared, own = claims.claim(connection, holder), claims.claim(connection, holder)
        assert shared is not None
        assert own is not None
        cockpit("queue", "pause", "other")
        assert claims.wanted(connection, shared)  # by `one`
        assert not claims.wanted(connection, own)
        assert claims.release(connection, own)
        finish(connection, shared, 0.5)
    assert status(cockpit) == {"one": "done", "other": "paused"}


@pytest.mark.slow
def test_a_worker_leaves_a_checkpoint_of_a_run_that_is_paused_and_goes_on_with_others(
    tmp_path: Path, cockpit: Cockpit
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "long", levels=0, replicates=1, random=["none"], target=["digits-a"], epochs=5000)
    process = start_worker(path, 600.0)
    wait_for_epochs(path, 3, process)
    add(path, "short", levels=0, replicates=1, random=["none"], target=["digits-a"])
    cockpit("queue", "pause", "long")
    assert process.wait(timeout=60) == 0  # it drains: only the paused experiment is left
    assert status(cockpit) == {"long": "paused", "short": "done"}
    assert len(list((database.files_folder(path) / "checkpoints").glob("*"))) == 1
    with closing(database.reader(path)) as connection:
        assert connection.execute("SELECT max(attempt) FROM epochs").fetchone()[0] == 1


def test_cancel_keeps_what_is_done_and_resume_takes_it_up_again(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = claims.claim(connection, worker(connection))
        assert claim is not None
        finish(connection, claim, 0.5)
    assert cockpit("queue", "cancel", "other").stdout == "⦸ cancelled  other\n"
    work_off(path)
    rows = {row["name"]: (row["status"], row["done"]) for row in json.loads(cockpit("queue", "list", "--json").stdout)}
    assert rows == {"one": ("done", 1), "other": ("cancelled", 1)}
    cockpit("queue", "resume", "other")
    work_off(path)
    assert status(cockpit)["other"] == "done"


def test_remove_forgets_the_experiment_and_keeps_its_finished_runs(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = claims.claim(connection, worker(connection))
        assert claim is not None
        finish(connection, claim, 0.5)
    assert cockpit("queue", "remove", "one", "other").stdout == "removed: one, other\n"
    assert status(cockpit) == {}
    with closing(database.reader(path)) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall()[0]["status"] == "done"
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 1
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    again = add(path, "again", levels=0, replicates=2, random=["none"], target=["digits-a"])
    assert (again.new, again.existing) == (1, 1)


def test_remove_leaves_what_another_experiment_wants(path: Path, cockpit: Cockpit) -> None:
    cockpit("queue", "remove", "other")
    work_off(path)
    assert status(cockpit) == {"one": "done"}


def test_move_changes_who_is_next(path: Path, cockpit: Cockpit) -> None:
    add(path, "late", levels=0, replicates=1, random=["none"], target=["digits-a"], seed=50)
    assert cockpit("queue", "move", "late", "--priority", 5).stdout == "· waiting  late\n"
    with closing(database.writer(path)) as connection:
        claim = claims.claim(connection, worker(connection))
        assert claim is not None
        assert claim.run.training.seed == 50
        cockpit("queue", "move", "other", "--priority", -1)
        seeds = [c.run.training.seed for c in iter(lambda: claims.claim(connection, 1), None)]
        assert seeds == [0, 1]  # the run of seed 0 has the higher priority of its two experiments


def test_retry_trains_failed_runs_again_and_old_attempts_stay_readable(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = claims.claim(connection, worker(connection))
        assert claim is not None
        records.start(connection, claim, 1, {}, [])
        records.epoch(connection, claim, 1, records.Epoch(0, 2.0, 0.1, None, 0.1, 0.1, 1.0))
        records.failed(connection, claim, "out of luck")
    assert status(cockpit) == {"one": "failed", "other": "waiting"}
    shown = cockpit("queue", "show", "one").stdout
    assert "failed: dense level 0 on digits-a, seed 0" in shown
    assert "out of luck" in shown
    assert cockpit("queue", "retry", "one").stdout == "· waiting  one\n"
    work_off(path)
    assert status(cockpit) == {"one": "done", "other": "done"}
    with closing(database.reader(path)) as connection:
        attempts = connection.execute(
            "SELECT attempt, count(*) FROM epochs WHERE run_id = ? GROUP BY 1", (claim.run_id,)
        )
        assert [tuple(row) for row in attempts] == [(1, 1), (2, 2)]


def test_show_says_what_each_curve_waits_for(tmp_path: Path, cockpit: Cockpit) -> None:
    path = tmp_path / "experiments.db"
    add(path, "tiny", evaluate="2-3")
    (shown,) = json.loads(cockpit("queue", "show", "tiny", "--json").stdout)
    assert shown["definition"]["levels"] == 3
    assert {curve["name"]: curve["waits_for"] for curve in shown["curves"]} == {
        "digits-a -> digits-a winning": "a device",
        "digits-b dense": "a device",
        "digits-b random-global": "a device",
        "digits-a -> digits-b winning": "its source chain",
    }
    cockpit("queue", "pause", "tiny")
    text = cockpit("queue", "show", "tiny").stdout
    assert "tiny: ‖ paused, priority 0" in text
    assert "paused experiment" in text
    assert "sources digits-a" in text


def test_wait_ends_with_the_experiment_and_its_exit_code_says_how(path: Path, cockpit: Cockpit) -> None:
    assert cockpit("queue", "wait", "one", "--timeout", 0).returncode == 4
    waiting = subprocess.Popen([sys.executable, "-m", "cockpit", "queue", "wait", "one"], cwd=path.parent)
    time.sleep(1.5)
    assert waiting.poll() is None
    work_off(path)
    assert waiting.wait(timeout=10) == 0
    add(path, "wild", levels=0, replicates=1, random=["none"], target=["digits-a"], learning_rate=1e30)
    work_off(path)
    found = cockpit("queue", "wait", "one", "wild", "--json")
    assert (found.returncode, json.loads(found.stdout)) == (1, {"one": "done", "wild": "diverged"})
    add(path, "halted", levels=0, replicates=1, random=["none"], target=["digits-a"], seed=9)
    cockpit("queue", "pause", "halted")
    assert cockpit("queue", "wait", "halted").returncode == 3


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "remove", "retry", "show", "wait"])
def test_an_unknown_name_changes_nothing_and_suggests_the_nearest(path: Path, cockpit: Cockpit, verb: str) -> None:
    before = path.read_bytes()
    found = cockpit("queue", verb, "one", "othr")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "cockpit: error: unknown experiment 'othr': choose from one, other; did you mean 'other'?\n"
    )
    assert path.read_bytes() == before
    assert run_cockpit(path.parent, "queue", verb).returncode == 2
