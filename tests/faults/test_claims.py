"""Many processes claim at once."""

import multiprocessing
import os
from collections import Counter
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

from engine.store import database, leases
from tests.conftest import add

PROCESSES, RUNS = 8, 2000
_all_have_one: Barrier


def _prepare(barrier: Barrier) -> None:
    global _all_have_one  # noqa: PLW0603 - how a pool hands its processes a barrier
    _all_have_one = barrier


def _claim_all(path: Path) -> list[tuple[int, int]]:
    """The runs that this process claims, with claim numbers: one at first, then as many as it can."""
    made = []
    with closing(database.writer(path)) as connection:
        worker = connection.execute("INSERT INTO workers (pid) VALUES (?)", (os.getpid(),)).lastrowid
        assert worker is not None
        while claim := leases.claim(connection, worker):
            made.append((claim.run_id, claim.number))
            if len(made) == 1:
                _all_have_one.wait()
    return made


def test_eight_processes_that_claim_two_thousand_runs_never_meet(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "many", levels=0, replicates=RUNS // 2, random=["none"])  # dense runs of both halves are ready
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, _prepare, (context.Barrier(PROCESSES),)) as pool:
        claimed = pool.map(_claim_all, [path] * PROCESSES, chunksize=1)
    made = [claim for one in claimed for claim in one]
    assert len(made) == len(set(made)) == RUNS
    assert {number for _, number in made} == {1}
    with closing(database.reader(path)) as connection:
        ready = connection.execute("SELECT id, claim, worker, status FROM runs WHERE unmet = 0").fetchall()
        assert {(row["id"], row["claim"]) for row in ready} == set(made)
        held = Counter(row["worker"] for row in ready if row["status"] == "running")
        assert sorted(held.values()) == sorted(map(len, claimed))
