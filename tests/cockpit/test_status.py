"""`cockpit status`: one line, whatever the state of the queue; and the time left in `queue list`."""

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import database, leases, records, workers
from tests.conftest import Cockpit, add
from tests.databases import finish

SMALL = {"levels": 0, "replicates": 4, "random": ["none"], "target": ["digits-a"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with an experiment of four waiting runs."""
    found = tmp_path / "experiments.db"
    add(found, "one", **SMALL)
    return found


def train(path: Path, ended: int) -> None:
    """Let a worker with this process's pid finish runs and hold the next one."""
    with closing(database.writer(path)) as connection:
        holder = workers.open_worker(connection, "cpu", None, None)
        while claim := leases.claim(connection, holder):
            if not ended:
                records.start(connection, claim, 1, {"device": "cpu"}, [])
                return
            records.start(connection, claim, 1, {"device": "cpu"}, [])
            records.done(connection, claim, 0.5, 0, 3600.0)
            ended -= 1


def test_a_queue_without_workers(cockpit: Cockpit, path: Path) -> None:
    said = cockpit("status")
    assert (said.stdout, said.stderr, said.returncode) == ("· waiting: 0/4 runs, no workers\n", "", 0)
    assert json.loads(cockpit("status", "--json").stdout) == {
        "ended": 0, "total": 4, "failed": 0, "workers": 0, "training": 0, "seconds_left": None,
    }  # fmt: skip


def test_the_time_left_is_known_while_workers_train(cockpit: Cockpit, path: Path) -> None:
    train(path, 0)
    assert cockpit("status").stdout == "▶ training: 0/4 runs, 1 worker\n"  # nothing measured yet
    assert "unknown" in cockpit("ls").stdout
    train(path, 2)
    said = cockpit("status")
    assert said.stdout.startswith("▶ training: 2/4 runs, 2 workers, ")
    found = json.loads(cockpit("status", "--json").stdout)
    assert 3000 < found.pop("seconds_left") <= 3600
    assert found == {"ended": 2, "total": 4, "failed": 0, "workers": 2, "training": 2}
    heading, row, _ = cockpit("ls").stdout.splitlines()
    assert re.search("1 h|60 min|5. min", row[: heading.index("time left") + len("time left")])


def test_what_failed_and_what_is_done_is_said(cockpit: Cockpit, path: Path) -> None:
    with closing(database.writer(path)) as connection:
        holder = workers.open_worker(connection, "cpu", None, None)
        claim = leases.claim(connection, holder)
        assert claim
        records.failed(connection, claim, "RuntimeError: no")
        assert cockpit("status").stdout == "· idle: 1/4 runs, 1 worker, 1 failed\n"
        while claim := leases.claim(connection, holder):
            finish(connection, claim, 0.5)
    assert cockpit("status").stdout == "✗ failed: 4 runs, 1 failed\n"
    cockpit("queue", "cancel", "one")
    assert cockpit("status").stdout.count("\n") == 1


def test_ls_is_queue_list(cockpit: Cockpit, path: Path) -> None:
    listed = cockpit("queue", "list", "--json").stdout
    assert cockpit("ls", "--json").stdout == cockpit("queue", "ls", "--json").stdout == listed


def test_queue_add_names_the_next_step(cockpit: Cockpit, path: Path) -> None:
    again: tuple[object, ...] = (
        "queue",
        "add",
        "--name",
        "one",
        "--source",
        "digits-a",
        "--width",
        0.25,
        "--levels",
        0,
        "--epochs",
        2,
    )
    again = (*again, "--replicates", 4, "--random", "none", "--target", "digits-a", "--profile", "exact")
    assert cockpit(*again).stderr == "train with `cockpit work`\n"
    assert "`cockpit work --db" in cockpit(*again, "--db", path).stderr
    assert cockpit(*again, "--json").stderr == ""
    train(path, 0)
    assert cockpit(*again).stderr == "workers are running: `cockpit status` shows progress\n"
    train(path, 4)
    with closing(database.writer(path)) as connection:
        connection.execute("UPDATE runs SET status = 'done', test_accuracy = 0.5, seconds = 1")
    assert cockpit(*again).stderr == "nothing left to train: `cockpit plot one`\n"
