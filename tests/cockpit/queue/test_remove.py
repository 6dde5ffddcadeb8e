"""`cockpit queue remove`: an experiment is deleted, and its finished runs stay."""

from contextlib import closing
from pathlib import Path

from engine.store import database, leases
from tests.cockpit.queue.conftest import status
from tests.conftest import Cockpit, add, work_off
from tests.databases import finish, worker


def test_remove_forgets_the_experiment_and_keeps_its_finished_runs(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        finish(connection, claim, 0.5)
    assert cockpit("queue", "remove", "one", "other").stdout == (
        "removed  one: runs kept: 1, forgotten: 0\nremoved  other: runs kept: 1, forgotten: 1\n"
    )
    assert status(cockpit) == {}
    with closing(database.reader(path)) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall()[0]["status"] == "done"
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 1
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    again = add(path, "again", levels=0, replicates=2, random=["none"], target=["digits-a"])
    assert (again.new, again.existing) == (1, 1)


def test_remove_leaves_what_another_experiment_wants(path: Path, cockpit: Cockpit) -> None:
    cockpit("queue", "remove", "other")
    work_off(path)
    assert status(cockpit) == {"one": "done"}
