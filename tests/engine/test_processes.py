"""Identifying processes and telling whether they run: by host, boot, pid namespace, pid and start."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cockpit.requests import background
from engine.errors import InputError
from engine.machine import processes
from engine.machine.devices import Load
from engine.store import database, files, workers
from tests.waiting import wait_until

PROC = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
Change = dict[str, Any]
ELSEWHERE = [{"host": "other"}, {"boot": "other"}, {"pid_namespace": "pid:[1]"}]


def elsewhere(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Simulate a process of another host, boot or container, or of one without this information."""
    here = structs.replace(processes.place(), **change)
    monkeypatch.setattr(processes, "place", lambda: here)


def test_a_process_runs_until_it_has_ended_waited_for_or_not() -> None:
    with subprocess.Popen(SLEEP) as process:
        row = processes.identity(process.pid)
        assert processes.alive(row) is True
        process.kill()
        wait_until(lambda: not processes.alive(row))  # it is a zombie then
        assert processes.alive(row) is False
    assert processes.alive(row) is False


@pytest.mark.parametrize("change", [*ELSEWHERE, {"boot": None}, {"boot": None, "pid_namespace": None}])
def test_the_process_of_another_place_is_not_judged(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    here = processes.identity()
    there = structs.replace(here, **change, pid=2**22 + 1)
    assert processes.alive(there) is None
    mark = processes.mark()
    elsewhere(monkeypatch, change)
    assert processes.alive(here) is None
    assert processes.alive(structs.replace(here, **structs.asdict(processes.place()))) is (
        None if None in change.values() else True
    )
    assert processes.marked_alive(mark) is None


@PROC
def test_a_system_without_boot_ids_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "_BOOT_ID", tmp_path / "none")
    assert processes.place().boot == processes.place().host
    assert processes.alive(processes.identity()) is True


@PROC
def test_where_proc_shows_another_namespace_nobody_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = processes.identity()
    monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)
    assert processes.alive(mine) is None
    assert processes.alive(processes.identity()) is None


def test_a_row_of_an_older_schema_names_no_place() -> None:
    assert processes.alive(structs.replace(processes.identity(), boot=None, pid_namespace=None)) is None


@pytest.mark.parametrize("change", [{"process_started": 1.0}, *({"pid": pid} for pid in (-1, 0, 2**31, 2**63, None))])
def test_a_pid_that_is_anothers_or_nobodys_is_not_the_process(change: Change) -> None:
    assert processes.alive(structs.replace(processes.identity(), **change)) is False


@PROC
def test_when_a_process_started_does_not_move_with_the_clock() -> None:
    with subprocess.Popen(SLEEP) as process:
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        started = processes.identity(process.pid).process_started
        assert isinstance(started, float)
        process.kill()
    assert abs(started - since_boot) < 5


def test_temporary_names_are_unique_and_say_whether_they_are_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = [processes.mark() for _ in range(100)]
    assert len(set(marks)) == 100
    ours = tmp_path / f".{'0' * 64}.safetensors.{marks[0]}"
    dead = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))
    bare = ours.with_suffix(f".{os.getpid()}")  # as version 0.1.0 named it, by pid alone
    for place in (ours, dead, bare):
        place.write_bytes(b"")
        assert files.is_temporary(place)
    assert [files.is_being_written(place) for place in (ours, dead, bare)] == [True, False, True]
    elsewhere(monkeypatch, {"boot": "other"})
    assert all(files.is_being_written(place) for place in (ours, dead, bare))
    monkeypatch.setattr(files, "WRITTEN_SECONDS", 0.0)
    assert not any(files.is_being_written(place) for place in (ours, dead, bare))


@pytest.mark.parametrize("change", ELSEWHERE)
def test_pools_of_another_place_are_neither_live_nor_killed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    connection = database.writer(tmp_path / "experiments.db")
    workers.open_pool(connection, "a log")
    assert [row.pid for row in workers.live_pools(connection)] == [os.getpid()]
    with monkeypatch.context() as patched:
        elsewhere(patched, change)
        assert workers.live_pools(connection) == []
        assert workers.killed_pool(connection) is None
    connection.execute("UPDATE pools SET pid = ?", (2**22 + 1,))
    assert workers.live_pools(connection) == []
    killed = workers.killed_pool(connection)
    assert killed is not None
    assert killed.log == "a log"
    connection.close()


@pytest.mark.parametrize("step", [3700.0, -3600.0, 10.0, -10.0])
def test_a_clock_that_is_set_neither_stops_loads_nor_kills_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    connection = database.writer(tmp_path / "experiments.db")
    workers.open_pool(connection, "a log")
    workers.record_loads(connection, "here", [Load("cpu", 0.1, 1, 2)])
    workers.record_loads(connection, "elsewhere", [Load("cpu", 0.1, 1, 2)])
    for name in ("now", "time"):
        monkeypatch.setattr(workers, name, _stepped(step)[name])
    for busy in (0.2, 0.3):
        workers.record_loads(connection, "here", [Load("cpu", busy, 1, 2)])
    found = {row.host: row.busy for row in workers.loads(connection)}
    assert found.pop("here") == 0.2  # the next ask comes too soon
    assert found == ({} if step == 3700.0 else {"elsewhere": 0.1})
    assert len(workers.live_pools(connection)) == 1
    connection.close()


def _stepped(step: float) -> dict[str, Any]:
    return {"now": lambda ahead=0.0: database.now(ahead + step), "time": time}


@PROC
def test_a_container_without_a_proc_of_its_own_says_that_workers_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "experiments.db"
    with closing(database.writer(path)) as connection:
        elsewhere(monkeypatch, {"pid_namespace": None, "boot": None})
        commands: list[Callable[[], None]] = [
            lambda: background.detach(path, connection, ()),
            lambda: background.stop(connection),
            lambda: background.status(connection, as_json=False),
        ]
        for command in commands:
            with pytest.raises(InputError, match="mount its own"):
                command()
        assert not database.files_folder(path).exists()


ENDINGS = [
    ("sys.exit(7)", "ended with code 7 and no answer"),
    ("os.abort()", "was ended by SIGABRT: its memory ran out, most likely"),  # libraries do this on bad_alloc
    ("os.kill(os.getpid(), 9)", "was ended by SIGKILL: its memory ran out, most likely"),  # Linux does this
    ("os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
    ("os.kill(os.getpid(), 40)", "was ended by signal 40"),
]


@pytest.mark.parametrize(("does", "said"), ENDINGS)
def test_a_process_that_gave_no_answer_is_said_to_have_ended_and_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    (tmp_path / "asked.py").write_text(f"import os, sys\n{does}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError) as raised:
        processes.ask(int, "asked")
    assert str(raised.value) == f"asked {said}"
