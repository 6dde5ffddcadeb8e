"""`cockpit queue retry`: failed runs are trained again."""

from contextlib import closing
from pathlib import Path

from engine.store import database, leases, records
from tests.cockpit.queue.conftest import status
from tests.conftest import Cockpit, work_off
from tests.databases import worker


def test_retry_trains_failed_runs_again_and_old_attempts_stay_readable(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        records.start(connection, claim, 1, {}, [])
        records.epoch(connection, claim, 1, records.Epoch(0, 2.0, 0.1, None, 0.1, 0.1, 1.0))
        records.failed(connection, claim, "out of luck")
    assert status(cockpit) == {"one": "failed", "other": "waiting"}
    shown = cockpit("queue", "show", "one").stdout
    assert "failed: dense level 0 on digits-a, seed 0" in shown
    assert "out of luck" in shown
    assert cockpit("queue", "retry", "one").stdout == "· waiting  one: 1 failed run waits again\n"
    work_off(path)
    assert status(cockpit) == {"one": "done", "other": "done"}
    with closing(database.reader(path)) as connection:
        attempts = connection.execute(
            "SELECT attempt, count(*) FROM epochs WHERE run_id = ? GROUP BY 1", (claim.run_id,)
        )
        assert [tuple(row) for row in attempts] == [(1, 1), (2, 2)]
