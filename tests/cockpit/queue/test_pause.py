"""`cockpit queue pause` and `resume`: workers skip a paused experiment, except runs of active ones."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import database, leases
from tests.cockpit.queue.conftest import status
from tests.conftest import Cockpit, add, work_off
from tests.databases import finish, worker
from tests.workers import start_worker, wait_for_epochs


def test_pause_and_resume(cockpit: Cockpit, path: Path) -> None:
    found = cockpit("queue", "pause", "one", "other")
    assert found.returncode == 0
    assert found.stdout == (
        "‖ paused  one: 1 of 1 runs left, 1 trained for other experiments\n‖ paused  other: 2 of 2 runs left\n"
    )
    work_off(path)
    assert status(cockpit) == {"one": "paused", "other": "paused"}
    assert json.loads(cockpit("queue", "resume", "other", "--json").stdout) == {"other": "waiting"}
    work_off(path)
    assert status(cockpit) == {"one": "done", "other": "done"}  # they share one run


def test_pause_leaves_alone_what_another_experiment_wants(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        holder = worker(connection)
        shared, own = leases.claim(connection, holder), leases.claim(connection, holder)
        assert shared is not None
        assert own is not None
        cockpit("queue", "pause", "other")
        assert leases.is_wanted(connection, shared)  # by `one`
        assert not leases.is_wanted(connection, own)
        assert leases.release(connection, own)
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
    assert process.wait(timeout=60) == 0  # nothing left but the paused experiment
    assert status(cockpit) == {"long": "paused", "short": "done"}
    assert len(list((database.files_folder(path) / "checkpoints").glob("*"))) == 1
    with closing(database.reader(path)) as connection:
        assert connection.execute("SELECT max(attempt) FROM epochs").fetchone()[0] == 1
