"""`cockpit queue cancel`: an experiment is cancelled, and can be resumed."""

import json
from contextlib import closing
from pathlib import Path

from engine.store import database, leases
from tests.cockpit.queue.conftest import status
from tests.conftest import Cockpit, work_off
from tests.databases import finish, worker


def test_cancel_keeps_what_is_done_and_resume_takes_it_up_again(path: Path, cockpit: Cockpit) -> None:
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        finish(connection, claim, 0.5)
    assert cockpit("queue", "cancel", "other").stdout == "⊗ cancelled  other: 1 of 2 runs left\n"
    work_off(path)
    rows = {row["name"]: (row["status"], row["done"]) for row in json.loads(cockpit("queue", "list", "--json").stdout)}
    assert rows == {"one": ("done", 1), "other": ("cancelled", 1)}
    cockpit("queue", "resume", "other")
    work_off(path)
    assert status(cockpit)["other"] == "done"
