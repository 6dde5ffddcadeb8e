"""A head that starts machines: as many as the queue can use, never more than allowed, and again only after a pause."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cockpit.requests import clusters
from engine.desk import starting
from engine.desk.starting import Plan, Starter
from engine.store import database, leases
from tests import heads, inprocess
from tests.conftest import Cockpit, add
from tests.waiting import wait_until

STAYS = [sys.executable, "-c", "import time; time.sleep(60)"]
ONE, TWO = ("lab2", "pool-a.log"), ("lab3", "pool-b.log")


def run(code: str) -> list[str]:
    """The command of a machine that ends at once."""
    return [sys.executable, "-c", code]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Starter]]:
    """Makes starters, whose commands end with the test."""
    made: list[Starter] = []
    monkeypatch.setattr(starting, "CLOSE_SECONDS", 0.0)

    def make(command: list[str], most: int = 2, idle: float = 600.0) -> Starter:
        made.append(Starter(Plan(command, str(tmp_path), most, idle), -starting.GRACE_SECONDS))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ended(starter: Starter) -> None:
    for one in starter.running:
        one.process.wait(120)


def test_no_more_machines_are_started_than_runs_can_use(start: Callable[..., Starter]) -> None:
    starter = start(STAYS, most=3)
    started = []
    for ready, joined in (
        (0, {}),
        (1, {}),
        (1, {}),  # one is starting
        (1, {ONE: (0, 0)}),  # it has joined, its workers are starting
        (3, {ONE: (4, 4)}),  # four idle workers for three runs
        (5, {ONE: (4, 4)}),
        (4, {ONE: (4, 0)}),  # one is starting and will bring four
        (9, {ONE: (4, 0)}),
        (9, {ONE: (4, 0), TWO: (4, 0)}),
        (99, {ONE: (4, 0), TWO: (4, 0)}),  # no more than three
    ):
        starter.step(ready, joined, 0.0)
        started.append(len(starter.running))
    assert started == [0, 1, 1, 1, 1, 2, 2, 3, 3, 3]
    starter.close()
    assert starter.running == []


def test_machines_that_were_joined_by_hand_count(start: Callable[..., Starter]) -> None:
    starter = start(STAYS, most=2)
    starter.step(9, {ONE: (1, 0), TWO: (1, 0)}, 0.0)
    assert starter.running == []


def test_a_head_that_was_just_started_waits_for_machines_to_come_back(tmp_path: Path) -> None:
    starter = Starter(Plan(STAYS, str(tmp_path), 2, 600.0), 100.0)
    starter.step(9, {}, 101.0)
    assert starter.running == []


def test_only_machines_without_any_run_are_told_to_end(start: Callable[..., Starter]) -> None:
    starter = start(STAYS, idle=60.0)
    assert starter.step(0, {ONE: (2, 2), TWO: (2, 1)}, 0.0) == set()
    assert starter.step(0, {ONE: (2, 1), TWO: (2, 2)}, 30.0) == set()
    assert starter.step(0, {ONE: (2, 2), TWO: (2, 2)}, 60.0) == set()
    assert starter.step(0, {ONE: (2, 2), TWO: (2, 2)}, 90.0) == {TWO}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            run("import sys; sys.exit('no such\\npartition')"),
            "ended with code 1: no such partition; trying again in 20 s",
        ),
        (run(""), "ended at once: it must run as long as its `cockpit join`"),
        (["/nowhere/srun"], "cannot be run: [Errno 2] No such file or directory"),
    ],
)
def test_a_command_that_fails_is_named_once_and_tried_again_after_longer_and_longer_pauses(
    start: Callable[..., Starter], capfd: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    starter, tries, before = start(command), [], 0
    for now in range(0, 3000, 5):
        starter.step(1, {}, float(now))
        ended(starter)
        starter._look(float(now))
        if starter.failures > before:
            tries.append(now)
            before = starter.failures
    assert tries == [0, 20, 60, 140, 300]
    out = capfd.readouterr().out
    assert out.count(said) == 1
    assert out.count("failed 5 times in a row: no more machines are started") == 1


def test_a_head_starts_a_machine_for_its_queue_and_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(starting, "STEP_SECONDS", 0.1)
    path, log = tmp_path / "experiments.db", tmp_path / "started"
    add(path, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    command = run(f"open({str(log)!r}, 'a').write('x'); import time; time.sleep(60)")
    with heads.leading(path, start=Plan(command, str(tmp_path), 2, 0.5)) as address:
        wait_until(log.exists)
        desk = heads.desk(address, tmp_path / "a")
        time.sleep(1.0)
        assert log.read_text() == "x"  # it has one worker for one run
        wait_until(lambda: desk.hold(None).stop)  # it asked for no run


def test_what_is_ready_is_counted_by_the_devices_that_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", replicates=2, levels=1, random=["none"], target=["digits-a"])
    add(path, "two", replicates=1, levels=0, random=["none"], target=["digits-a"], split=2)
    with closing(database.reader(path)) as connection:
        assert [leases.ready(connection, splits) for splits in ((), (1,), (2,), (3,), (1, 2))] == [3, 2, 1, 0, 3]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("start = 'ssh \"lab2'", "is not understood (No closing quotation): write it as for a shell"),
        ("start = ''", "names no program of this machine"),
        ("start = 'no-such-program x'", "start 'no-such-program x' names no program of this machine"),
        ("start = 'sh x'\nidle = 'soon'", "idle 'soon' is not understood: give a time as in 90s, 10min or 2h"),
        ("start = 'sh x'\nmost = 0", "most"),
        ("checkpoints = 'nowhere'", "nowhere' is not a folder that can be written"),
    ],
)
def test_a_cluster_file_that_is_wrong_is_refused_in_one_line(tmp_path: Path, lines: str, why: str) -> None:
    path, file = tmp_path / "experiments.db", tmp_path / "cluster.toml"
    add(path, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    file.write_text(f"address = 'tcp://127.0.0.1:0'\n{lines}\n")
    code, out, err = inprocess.run("work", "--cluster", str(file), "--db", str(path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert why in err


def test_a_cluster_file_says_what_to_start(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text("address = 'tcp://127.0.0.1:0'\nstart = 'sh -c \"a b\"'\nmost = 8\nidle = '2h'\n")
    options: Any = clusters.options(clusters.named(str(file), None))
    assert starting.read(options[options.index("--start") + 1]) == Plan(["sh", "-c", "a b"], str(tmp_path), 8, 7200.0)


@pytest.mark.slow
def test_a_queue_is_trained_by_a_machine_that_its_head_starts(tmp_path: Path, cockpit: Cockpit) -> None:
    path, file = tmp_path / "experiments.db", tmp_path / "cluster.toml"
    add(path, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    join = [
        sys.executable,
        "-m",
        "cockpit",
        "join",
        str(database.join_file(path)),
        "--workers",
        "1",
        "--cache",
        "cache",
    ]
    file.write_text(f"address = 'tcp://127.0.0.1:0'\nstart = {json.dumps(shlex.join(join))}\n")
    done = cockpit("work", "--cluster", str(file), "--drain")
    assert done.returncode == 0, done.stderr
    with closing(database.reader(path)) as connection:
        assert [row[0] for row in connection.execute("SELECT status FROM runs")] == ["done"]
        assert connection.execute("SELECT count(*) FROM workers").fetchone()[0] == 1
    (log,) = (database.files_folder(path) / "logs").glob("pool-*.log")
    assert log.read_text().count("started a machine") == 1
