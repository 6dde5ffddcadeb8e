"""Another program holds the database while workers train."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.desk import local
from engine.errors import InputError
from engine.store import database
from engine.store.files import Folder
from engine.workers import heartbeat
from engine.workers import worker as worker_module
from engine.workers.run import RunContext
from tests.faults import outcomes, victim
from tests.waiting import wait_until

LOCKED_SECONDS = 61.0


@pytest.mark.slow
def test_a_database_locked_for_a_minute_only_holds_its_worker_up(path: Path, undisturbed: dict[str, Any]) -> None:
    worker = victim.start(path)
    with closing(database.reader(path)) as reader:
        wait_until(lambda: reader.execute("SELECT count(*) FROM epochs").fetchone()[0] > 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(LOCKED_SECONDS)
        freed_at = database.now()
        other.execute("ROLLBACK")
    assert worker.end() == 0
    assert "no heartbeat: " in victim.log_of(path).read_text()
    outcomes.check_done_once(path)
    assert outcomes.outcome(path) == undisturbed
    with closing(database.reader(path)) as reader:
        assert reader.execute("SELECT heartbeat_at FROM workers").fetchone()[0] >= freed_at
        found = reader.execute("SELECT DISTINCT attempt, claim FROM runs")
        assert [tuple(row) for row in found] == [(1, 1)]


def test_a_worker_that_begins_while_the_database_is_locked_waits_for_as_long_as_that_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(worker_module, "BACK_OFF_SECONDS", 0.05)
    options = worker_module.parser().parse_args(["--db", str(path), "--device", "cpu"])
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        freed = threading.Timer(1.5, lambda: other.execute("ROLLBACK"))
        freed.start()
        begun = worker_module.begun(options)
        freed.join()
    with closing(begun.desk), closing(database.reader(path)) as connection:
        assert connection.execute("SELECT id FROM workers").fetchone()[0] == begun.desk.worker


def test_a_heartbeat_goes_on_where_the_database_was_locked_as_it_began(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[InputError | sqlite3.Connection] = [InputError("locked"), database.writer(path)]

    def writer(_: Path, *, make: bool) -> sqlite3.Connection:
        assert not make  # creating a new one would hide the loss
        answer = answers.pop(0)
        if isinstance(answer, InputError):
            raise answer
        return answer

    def tell(_: heartbeat.Heartbeat) -> None:
        desk.close_beats()
        raise SystemExit  # or it would go on for ever

    desk = local.LocalDesk(database.writer(path), Folder(tmp_path), worker=1)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.0)
    monkeypatch.setattr(database, "writer", writer)
    monkeypatch.setattr(heartbeat.Heartbeat, "_tell", tell)
    with pytest.raises(SystemExit):
        heartbeat.Heartbeat(RunContext(desk, torch.device("cpu")), parent=0).run()
    assert not answers
