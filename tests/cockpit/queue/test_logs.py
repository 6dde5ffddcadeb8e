"""`cockpit queue logs`, against the real program in an empty folder."""

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import database, leases, queue, records
from tests.conftest import Cockpit, add, work_off
from tests.databases import worker
from tests.workers import start_worker, wait_for_epochs

ERROR = 'Traceback (most recent call last):\n  File "theirs.py", line 1, in net\nValueError: out of luck'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one experiment of one run."""
    found = tmp_path / "experiments.db"
    add(found, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    return found


def fail(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        records.failed(connection, claim, ERROR)


def test_every_attempt_is_there_with_the_traceback_of_what_failed(path: Path, cockpit: Cockpit) -> None:
    fail(path)
    with closing(database.writer(path)) as connection:
        queue.retry_failed(connection, queue.experiment_id(connection, "one"))
    work_off(path)
    events = [json.loads(line) for line in cockpit("queue", "logs", "one", "--json").stdout.splitlines()]
    assert [(event["attempt"], event["event"]) for event in events] == [
        (1, "started"),
        (1, "failed"),
        (2, "started"),
        (2, "done"),
    ]
    assert events[1]["error"] == ERROR
    assert 0 < events[3]["test_accuracy"] <= 1
    text = cockpit("queue", "logs", "one").stdout
    assert "    ValueError: out of luck\n" in text
    assert "digits a dense, level 0, seed 0  (attempt 2, cpu" in text
    assert cockpit("queue", "logs", "one", "-n", 1).stdout.splitlines() == text.splitlines()[-1:]
    assert cockpit("queue", "logs", "one", "-n", 6).stdout == text


def test_an_attempt_that_was_lost_with_its_worker_is_told(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        records.start(connection, claim, 1, {}, [])
        leases.reclaim(connection, claim.run_id, claim.number, lost=True)
    work_off(path)
    events = [json.loads(line)["event"] for line in cockpit("queue", "logs", "one", "--json").stdout.splitlines()]
    assert sorted(events) == ["done", "lost", "started", "started"]


def test_following_ends_with_the_experiment(path: Path, cockpit: Cockpit) -> None:
    command = [sys.executable, "-m", "cockpit", "queue", "logs", "one", "--follow"]
    following = subprocess.Popen(command, cwd=path.parent, stdout=subprocess.PIPE, text=True)
    time.sleep(1.5)
    assert following.poll() is None
    work_off(path)
    out, _ = following.communicate(timeout=120)
    assert [line.split()[2] for line in out.splitlines()] == ["started", "done"]


def test_a_run_that_was_stopped_and_went_on_is_told_with_each_of_its_workers(tmp_path: Path, cockpit: Cockpit) -> None:
    path = tmp_path / "experiments.db"
    add(path, "long", levels=0, replicates=1, random=["none"], target=["digits-a"], epochs=300)
    first = start_worker(path, 60.0)
    wait_for_epochs(path, 3, first)
    first.terminate()
    first.wait()
    work_off(path)
    events = [json.loads(line) for line in cockpit("queue", "logs", "long", "--json").stdout.splitlines()]
    assert [(event["attempt"], event["event"]) for event in events] == [
        (1, "started"),
        (1, "stopped"),
        (1, "continued"),
        (1, "done"),
    ]
    pids = [event["pid"] for event in events]
    assert pids[0] == pids[1] == first.pid
    assert pids[2] == pids[3] != first.pid
