"""A pool of workers whose processes end at once, with other programs in place of the worker."""

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.machine import processes
from engine.machine.devices import Device
from engine.store import database, workers
from engine.workers import pool
from engine.workers.pool import Pool
from tests.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty database."""
    database.writer(tmp_path / "experiments.db").close()
    return tmp_path / "experiments.db"


def program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have pools start this instead of the worker."""
    ours, others = [sys.executable, "-c", text], processes.python
    monkeypatch.setattr(
        processes, "python", lambda module: ours if module == "engine.workers.worker" else others(module)
    )


def test_a_pool_gives_up_workers_that_crash_though_the_database_cannot_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any) -> None:
        raise InputError("locked")

    program(monkeypatch, "raise SystemExit(1)")
    monkeypatch.setattr(workers, "record_loads", locked)
    crashing = Pool(path, [Device("cpu", None, False)])
    wait_until(lambda: not crashing.running)
    assert (crashing.crashed, crashing.restarts) == (1, pool.CRASHES_ALLOWED - 1)
    crashing.close()


@pytest.mark.parametrize("code", [processes.RENEWED, processes.UNRECORDED])
def test_a_worker_that_makes_way_for_another_process_has_not_crashed(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    ends = f"import sys; from pathlib import Path; p = Path({str(path)!r} + '.n'); p.open('ab').write(b'x')"
    program(monkeypatch, f"{ends}; sys.exit({code} if p.stat().st_size < 5 else 0)")
    renewing = Pool(path, [Device("cpu", None, False)])
    wait_until(lambda: not renewing.running)
    assert (renewing.crashed, renewing.restarts) == (0, 0)
    assert len(Path(f"{path}.n").read_bytes()) == 5
    told = "--unrecorded" in renewing._slots[0].command
    assert told == (code == processes.UNRECORDED)
    renewing.close()


@pytest.mark.parametrize("code", [0, 1])
def test_a_pool_whose_database_was_replaced_starts_nothing_and_leaves_the_other_alone(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    program(monkeypatch, f"import time; time.sleep(2); raise SystemExit({code})")
    replaced = Pool(path, [Device("cpu", None, False)])
    path.rename(tmp_path / "moved.db")
    for log in tmp_path.glob("experiments.db-*"):
        log.rename(tmp_path / log.name.replace("experiments", "moved"))
    with closing(database.writer(path)) as connection:
        workers.open_pool(connection, "another's log")
        while replaced.running:
            time.sleep(0.1)
        replaced.close()
        assert replaced.restarts == 0
        assert connection.execute("SELECT id, ended_at FROM pools").fetchone()[:] == (replaced.id, None)


def test_nothing_is_started_again_once_a_pool_was_told_to_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, "import time; time.sleep(60)")
    ending = Pool(path, [Device("cpu", None, False)])
    with ending._changing:  # held while a crashed worker is replaced
        ending._slots[0].process.kill()
        ending._slots[0].process.wait()
    ending.stop()
    assert (ending.running, ending.restarts) == (0, 0)


def test_a_worker_that_cannot_use_the_database_is_not_started_again_and_says_why(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, f"print('{processes.HALT}no disk'); raise SystemExit({processes.HALTED})")
    halted = Pool(path, [Device("cpu", None, False)])
    halted.close()
    assert (halted.running, halted.restarts, halted.crashed, halted.halted) == (0, 0, 0, "no disk")
