"""The job array of docs/cluster.md, and its commands that start machines, on a real Slurm of one node."""

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.desk import starting
from engine.machine import processes
from engine.store import database, queue
from tests import heads
from tests.conftest import add
from tests.databases import query
from tests.slurm import daemons
from tests.slurm.daemons import Slurm
from tests.waiting import wait_until

WORK: dict[str, Any] = {"levels": 0, "random": ["none"], "replicates": 2, "epochs": 10_000, "profile": "exact"}
ROOT = Path(__file__).parents[2]
WAIT = 150.0
SETTLED = 10.0  # seconds in which a cancelled job would have come back
REVOKED = 2.0  # seconds until slurmd, whose clock counts whole ones, takes a job whose last attempt it has ended


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    if lacking := daemons.missing():
        pytest.skip(lacking)
    with tempfile.TemporaryDirectory() as folder, daemons.running(Path(folder)) as slurm:
        yield slurm


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A database with two long runs, where the documented script looks for it."""
    (tmp_path / "study").mkdir()
    path = tmp_path / "study" / "experiments.db"
    add(path, "long", source=["digits-a"], **WORK)
    return path


def script(folder: Path) -> Path:
    """The script that docs/cluster.md shows."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    found = re.search(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", text, re.DOTALL)
    assert found
    path = folder / "join.sh"
    path.write_text(found[1])
    return path


def running(path: Path) -> int:
    """How many runs are in training that have recorded an epoch under their present claim."""
    under_way = "SELECT count(DISTINCT r.id) FROM runs r JOIN epochs e ON e.run_id = r.id"
    counted = f"{under_way} JOIN workers w ON w.id = r.worker WHERE r.status = 'running' AND w.epoch IS NOT NULL"
    return int(query(path, counted)[0][0])


def stopped(path: Path) -> int:
    """How many times a run was given back with a checkpoint."""
    return int(query(path, "SELECT count(*) FROM attempts WHERE outcome = 'stopped'")[0][0])


@pytest.mark.slow
def test_preempted_and_expired_jobs_come_back_and_cancelled_ones_do_not(
    slurm: Slurm, study: Path, tmp_path: Path
) -> None:
    small = ["--array=1-2", "--gres=none", "--cpus-per-task=1", f"--chdir={tmp_path}"]
    with heads.leading(study):
        array = slurm.submit(*small, script(tmp_path), **environment(slurm, tmp_path))
        tasks = [f"{array}_1", f"{array}_2"]
        wait_until(lambda: running(study) == 2, WAIT)

        slurm.submit("--partition=high", f"--chdir={tmp_path}", "--wrap", "sleep 1")  # preempts one of them
        wait_until(lambda: [slurm.job(task)["Restarts"] for task in tasks].count("1") == 1, WAIT)
        wait_until(lambda: stopped(study) == 1, WAIT)
        come_back(slurm, next(task for task in tasks if slurm.job(task)["Restarts"] == "1"))
        wait_until(lambda: running(study) == 2, WAIT)

        last = tasks[1]  # whose number alone would name the whole array
        slurm.update(last, TimeLimit=slurm.minutes(last) + 2)  # the signal that is due two before the end comes now
        wait_until(lambda: stopped(study) == 2, WAIT)
        before = slurm.job(tasks[0])["Restarts"]
        come_back(slurm, last)
        assert slurm.job(tasks[0])["Restarts"] == before
        wait_until(lambda: running(study) == 2, WAIT)

        slurm.cancel(tasks[0])
        wait_until(lambda: stopped(study) == 3, WAIT)
        time.sleep(SETTLED)
        wait_until(lambda: slurm.job(tasks[0])["JobState"] == "CANCELLED", WAIT)  # COMPLETING before
        assert slurm.job(last)["JobState"] == "RUNNING"
        slurm.cancel(array)
        wait_until(lambda: stopped(study) == 4, WAIT)
    assert {attempt for (attempt,) in query(study, "SELECT attempt FROM attempts")} == {1}  # all resumed
    assert query(study, "SELECT DISTINCT outcome FROM attempts") == [("stopped",)]


@pytest.mark.slow
def test_a_head_replaces_a_cancelled_job_and_lets_an_idle_one_end(
    slurm: Slurm, study: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(slurm, study.parent).items():
        monkeypatch.setenv(name, value)
    for name, seconds in (("GRACE", 0.0), ("STEP", 0.5), ("PAUSE", 1.0)):
        monkeypatch.setattr(starting, f"{name}_SECONDS", seconds)
    command = ["srun", "--cpus-per-task=1", "cockpit", "join", str(database.join_file(study))]
    with heads.leading(study, start=starting.Plan(command, str(study.parent), 1, 2.0)):
        wait_until(lambda: bool(slurm.jobs()), WAIT)
        (first,) = slurm.jobs()
        slurm.cancel(first)
        wait_until(lambda: running(study) == 1, WAIT)
        (second,) = slurm.jobs()
        assert int(second) == int(first) + 1  # never two, though two runs are ready
        with closing(database.writer(study)) as connection:
            queue.set_state(connection, queue.experiment_id(connection, "long"), "paused")
        wait_until(lambda: not slurm.jobs(), WAIT)
        assert slurm.job(second)["ExitCode"] == "0:0"
    said = capfd.readouterr().out
    assert [said.count(part) for part in ("started a machine", "ended with code", "trying again in 1 s")] == [2, 1, 1]


def environment(slurm: Slurm, folder: Path) -> dict[str, str]:
    """The variables of jobs that use this Slurm, this cockpit, and no files of the user."""
    programs = f"{Path(processes.python('x')[0]).parent}:{slurm.environment['PATH']}"
    return {
        "SLURM_CONF": slurm.environment["SLURM_CONF"],
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PATH": programs,
    }


def come_back(slurm: Slurm, task: str) -> None:
    """Wait until a job is queued again, and let it start soon; Slurm waits two minutes."""
    wait_until(lambda: slurm.job(task)["JobState"] == "PENDING", WAIT)
    time.sleep(REVOKED)
    slurm.update(task, StartTime="now", TimeLimit=60)
    wait_until(lambda: slurm.job(task)["JobState"] == "RUNNING", WAIT)
