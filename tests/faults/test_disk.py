"""The disk is full, or nearly."""

from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Any

from engine.store import database
from tests.faults import outcomes, victim
from tests.faults.disks import fill
from tests.waiting import wait_until


def test_a_full_disk_is_waited_out_and_nothing_is_lost(small_disk: Path, undisturbed: dict[str, Any]) -> None:
    path, ballast = small_disk / "experiments.db", small_disk / "ballast"
    outcomes.queue_work(path)
    worker = victim.start(path, "--min-free", 0, "--checkpoint-seconds", 0)
    with closing(database.reader(path)) as reader:
        wait_until(lambda: reader.execute("SELECT count(*) FROM epochs").fetchone()[0] > 3)
    log = victim.log_of(path)
    worker.signal(SIGSTOP)  # or it might finish before the disk is full
    fill(ballast)
    worker.signal(SIGCONT)
    wait_until(lambda: "cannot write" in log.read_text())
    assert worker.process.is_alive()
    ballast.unlink()
    assert worker.end() == 0, log.read_text()
    outcomes.check_done_once(path)
    assert outcomes.outcome(path) == undisturbed


def test_below_the_minimum_of_free_space_nothing_is_claimed_and_the_worker_says_why(path: Path) -> None:
    worker = victim.start(path, "--min-free", 2**60)
    with closing(database.reader(path)) as reader:

        def said() -> str | None:
            row = reader.execute("SELECT message FROM workers").fetchone()
            return str(row[0]) if row and row[0] else None

        wait_until(said)
        assert "below the minimum of 1073741824.0 GiB: make room, or lower the minimum" in (said() or "")
        worker.signal(SIGTERM)
        assert worker.end() == 0
        assert reader.execute("SELECT max(claim) FROM runs").fetchone()[0] == 0
        assert reader.execute("SELECT ended_at FROM workers").fetchone()[0] is not None
