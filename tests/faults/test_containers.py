"""Workers in two containers with one host name and one database, but separate pids."""

import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine.desk import local
from engine.machine import processes
from engine.store import database, leases, workers
from tests.faults import outcomes

WAIT_SECONDS = 600.0
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def container() -> list[str]:
    """The command that runs another in a new pid namespace."""
    if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not make a pid namespace here")
    return CONTAINER


@pytest.mark.slow
def test_workers_in_two_containers_leave_each_others_runs_alone(
    container: list[str], path: Path, undisturbed: dict[str, Any]
) -> None:
    command = [*container, *processes.python("engine.workers.worker"), "--db", str(path), "--device", "cpu", "--drain"]
    with ExitStack() as ended:
        both = [ended.enter_context(subprocess.Popen(command)) for _ in range(2)]
        for worker in both:
            ended.callback(worker.kill)
        assert [worker.wait(timeout=WAIT_SECONDS) for worker in both] == [0, 0]
    outcomes.check_done_once(path)
    assert outcomes.outcome(path) == undisturbed
    with closing(database.reader(path)) as connection:
        found = connection.execute("SELECT DISTINCT pid, pid_namespace FROM workers").fetchall()
        assert len({row["pid"] for row in found}) < len({row["pid_namespace"] for row in found}) == 2
        assert connection.execute("SELECT max(claim), max(attempt), max(lost) FROM runs").fetchone()[:] == (1, 1, 0)


@pytest.mark.parametrize("change", [{"host": "other"}, {"boot": "other"}, {"pid_namespace": "other"}])
def test_only_its_lease_counts_for_a_worker_of_another_place(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    with closing(database.writer(path)) as connection:
        worker = workers.open_worker(connection, "cpu", None, None)
        connection.execute("UPDATE workers SET pid = ?", (2**22 + 1,))  # a pid of no process
        claim = leases.claim(connection, worker)
        assert claim is not None
        here = processes.place()
        monkeypatch.setattr(processes, "place", lambda: structs.replace(here, **change))
        local.take_over(connection)
        assert leases.renew(connection, claim)
        connection.execute("UPDATE runs SET lease_expires_at = ? WHERE id = ?", (database.now(-1), claim.run_id))
        local.take_over(connection)
        assert not leases.renew(connection, claim)
        assert connection.execute("SELECT max(lost) FROM runs").fetchone()[0] == 0


def test_a_device_is_the_same_in_all_containers_of_a_machine_and_on_no_other(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        ids = [workers.open_worker(connection, "cuda:0", None, None) for _ in range(3)]
        connection.execute("UPDATE workers SET host = 'other', pid_namespace = 'other' WHERE id = ?", (ids[1],))
        connection.execute("UPDATE workers SET boot = 'other' WHERE id = ?", (ids[2],))
        assert leases.claim(connection, ids[0]) is not None
        assert "trained alone" in str(leases.reason_to_wait(connection, ids[1], free=2**40))
        assert leases.reason_to_wait(connection, ids[2], free=2**40) is None
        connection.execute("UPDATE runs SET alone = 1 WHERE status = 'running'")
        assert leases.claim(connection, ids[1]) is None
        assert leases.claim(connection, ids[2]) is not None
