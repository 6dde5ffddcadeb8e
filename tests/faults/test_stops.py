"""Workers that are stopped for longer than their lease and then continue: their late writes change nothing."""

from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest

from engine.store import database
from tests.conftest import add
from tests.faults import outcomes, victim
from tests.waiting import wait_until

LEASE = 1.0  # seconds
EVERY_STEP = ("--checkpoint-seconds", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with only the first run of `outcomes.WORK`."""
    path = tmp_path / "experiments.db"
    add(path, "one run", **{**outcomes.WORK, "target": ["digits-a"], "levels": 0, "random": ["none"]})
    return path


def check(path: Path, undisturbed: dict[str, Any]) -> None:
    outcomes.check_done_once(path)
    found = outcomes.outcome(path)
    for table, rows in found.items():  # of all that the other runs left, too: masks of level 1 among them
        assert [row for row in undisturbed[table] if row in rows] == rows, table
    with closing(database.reader(path)) as connection:
        assert [tuple(row) for row in connection.execute("SELECT claim FROM runs")] == [(2,)]


@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("after claim", 1),
        ("mid epoch", 20),
        ("checkpoint half written", 15),
        ("between checkpoint and record", 2),
        ("between record and ticket", 2),
        ("between ticket and its row", 2),
        ("between ticket and done", 1),
    ],
)
def test_a_worker_that_comes_back_after_its_lease_changes_nothing(
    path: Path, undisturbed: dict[str, Any], point: str, times: int
) -> None:
    late = victim.start(path, *EVERY_STEP, trap=victim.Trap(point, times, SIGSTOP, LEASE))
    late.wait_until_stopped()
    assert victim.start(path).end() == 0  # takes the run over when the lease has run out
    before = outcomes.everything(path)
    late.signal(SIGCONT)
    assert late.end() == 0
    assert outcomes.everything(path) == before
    check(path, undisturbed)


def test_a_worker_that_comes_back_while_another_trains_its_run_changes_nothing(
    path: Path, undisturbed: dict[str, Any]
) -> None:
    late = victim.start(path, *EVERY_STEP, trap=victim.Trap("mid epoch", 20, SIGSTOP, LEASE))
    late.wait_until_stopped()
    other = victim.start(path, *EVERY_STEP, trap=victim.Trap("mid epoch", 20, SIGSTOP))
    other.wait_until_stopped()
    before = outcomes.everything(path)
    late.signal(SIGCONT)
    wait_until(lambda: "was taken from this worker" in victim.log_of(path).read_text())
    assert outcomes.everything(path) == before
    other.signal(SIGCONT)
    assert (late.end(), other.end()) == (0, 0)
    check(path, undisturbed)
