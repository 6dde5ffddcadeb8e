"""Workers that are killed while they train: see also `python -m tests.faults`."""

import random
from contextlib import closing
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from engine.store import database, queue
from engine.store.records import LOST_ALLOWED
from tests.faults import outcomes, victim
from tests.faults.campaign import Campaign


@pytest.mark.slow
def test_twenty_kills_lose_nothing_double_nothing_and_change_no_bit(tmp_path: Path) -> None:
    Campaign(kills=20, seed=random.SystemRandom().randrange(10**6)).run(tmp_path)  # it prints its seed


@pytest.mark.parametrize("point", ["after claim", "mid epoch"])  # without and with a checkpoint
def test_a_run_in_which_five_workers_ended_has_failed_and_is_retried_from_its_beginning(
    path: Path, undisturbed: dict[str, Any], point: str
) -> None:
    with closing(database.writer(path)) as connection:
        queue.set_pause_after(connection, 1, failures=1)
        for _ in range(LOST_ALLOWED):
            assert victim.start(path, "--checkpoint-seconds", 0, trap=victim.Trap(point)).end() == -SIGKILL
        assert victim.start(path).end() == 0  # it records the last death, and finds no run
        failed = connection.execute("SELECT id, digest, error FROM runs WHERE status = 'failed'").fetchall()
        assert len(failed) == 1
        assert failed[0]["error"].startswith("5 times in a row the worker's process ended in this run: it was killed")
        blocked = connection.execute("SELECT DISTINCT error FROM runs WHERE status = 'blocked'").fetchall()
        assert [tuple(row) for row in blocked] == [(f"depends on run {failed[0]['digest']}, which failed",)]
        experiment = connection.execute("SELECT state, reason FROM experiments").fetchone()
        assert tuple(experiment) == ("paused", "a run failed")
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'done'").fetchone()[0] == 0
        queue.retry_failed(connection, 1)
        assert victim.start(path).end() == 0
        query = "SELECT attempt, outcome FROM attempts WHERE run_id = ? ORDER BY claim"
        attempts = [tuple(row) for row in connection.execute(query, (failed[0]["id"],))]
        assert {outcome for _, outcome in attempts[:-2]} <= {"lost"}
        assert [outcome for _, outcome in attempts[-2:]] == ["failed", "done"]
        assert attempts[-1][0] > attempts[-2][0]
    assert outcomes.outcome(path) == undisturbed
