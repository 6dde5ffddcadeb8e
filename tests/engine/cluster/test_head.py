"""The head of a database: one per database, with the operations of a desk for its workers."""

import inspect
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from engine.desk import head, remote, session
from engine.desk.desk import Report
from engine.desk.remote import HeadLost
from engine.desk.wire import Address, Answer
from engine.errors import InputError
from engine.machine import processes
from engine.store import database, leases
from engine.store import heads as leads
from engine.store.files import Folder
from engine.store.records import Epoch, Layer, StaleClaim
from tests import heads, inprocess
from tests.databases import query
from tests.heads import claimed
from tests.waiting import wait_until

EPOCH = Epoch(0, 1.0, 0.5, None, 0.5, 0.1, None)


def test_a_database_has_one_head_and_a_dead_one_is_replaced(address: Address, path: Path) -> None:
    with closing(database.writer(path)) as connection, pytest.raises(InputError, match=f"listens on {address} already"):
        leads.take(connection, "tcp://127.0.0.1:1")
    code, out, err = inprocess.run("work", "--cluster", "tcp://127.0.0.1:0", "--db", str(path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"a head of this database listens on {address} already (pid {os.getpid()} on " in err
    with closing(database.writer(path)) as connection:
        lead = leads.leading(connection)
        assert lead is not None
        elsewhere = {"host": "lab2", "boot": "another"}
        cases: tuple[tuple[bool, dict[str, Any]], ...] = (
            (False, {}),
            (True, {"process_started": 1.0}),  # another process has its pid
            (False, elsewhere),
            (True, {**elsewhere, "at": database.now(-leases.LEASE_SECONDS)}),
            (True, {"boot": "before", "at": database.now(-leases.LEASE_SECONDS)}),
        )
        for gone, about in cases:
            text = msgspec.json.encode(structs.replace(lead, **about)).decode()
            connection.execute("UPDATE about SET value = ? WHERE key = ?", (text, leads.KEY))
            assert (leads.leading(connection) is None) == gone
        ours = msgspec.json.encode(structs.replace(lead, pool=7)).decode()
        connection.execute("UPDATE about SET value = ? WHERE key = ?", (ours, leads.KEY))
        with pytest.raises(InputError, match="already"):
            leads.take(connection, "tcp://127.0.0.1:1", pool=8)
        taken = leads.take(connection, "tcp://127.0.0.1:1", pool=7)  # its pool starts one head at a time
        assert leads.renew(connection, lead) is None
        assert leads.leading(connection) == taken


def test_a_process_that_does_not_have_the_database_open_is_not_its_head(address: Address, path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with closing(database.writer(path)) as connection:
            lead = leads.leading(connection)
            assert lead is not None
            of_a_copy = structs.replace(lead, **structs.asdict(processes.identity(other.pid)))
            text = msgspec.json.encode(of_a_copy).decode()
            connection.execute("UPDATE about SET value = ? WHERE key = ?", (text, leads.KEY))
            assert leads.leading(connection) is None
    finally:
        other.kill()
        other.wait()


def test_a_head_that_begins_anew_finds_its_workers_where_they_were(path: Path, tmp_path: Path) -> None:
    with heads.leading(path) as address:
        desk = heads.desk(address, tmp_path / "a")
        claim = claimed(desk)
        desk.begin(claim, 1, {}, [Layer("conv", 1, 2)], 1)
        desk._hang_up()
    with heads.leading(path, port=address.port):
        desk.begin(claim, 1, {}, [Layer("conv", 1, 2)], 1)  # sent twice, as after a lost answer
        desk.epoch(claim, 1, EPOCH)
        assert desk.hold(claim).ours
        assert query(path, "SELECT count(*), sum(ended_at IS NULL) FROM workers") == [(1, 1)]
        desk.failed(claim, "over")
        desk.failed(claim, "over")
    assert query(path, "SELECT count(*) FROM epochs") == [(1,)]


def test_a_head_removes_what_a_killed_one_was_receiving(path: Path) -> None:
    folder = Folder(database.files_folder(path))
    received = folder.incoming(1)
    left = received.with_name(received.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))  # no process has that pid
    for file in (received, left):
        file.write_bytes(b"half")
    with heads.leading(path):
        assert [received] == list(received.parent.glob(".*"))  # this process lives


def test_a_worker_that_was_taken_for_dead_is_told_so_and_changes_nothing(
    address: Address, path: Path, tmp_path: Path
) -> None:
    late, next_one = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
    claim = claimed(late)
    late.begin(claim, 1, {"device": "cpu"}, [Layer("conv", 1, 2)], 1)
    with closing(database.writer(path)) as connection:
        connection.execute("UPDATE runs SET lease_expires_at = ? WHERE status = 'running'", (database.now(-1),))
    again = claimed(next_one)
    assert (again.run_id, again.number) == (claim.run_id, 2)
    writes: list[Callable[[], None]] = [
        lambda: late.epoch(claim, 1, EPOCH),
        lambda: late.keep(claim, "rewind", b"late"),
        lambda: late.write_checkpoint(claim, b"late"),
        lambda: late.done(claim, 1.0, 0, 1.0, None),
    ]
    for write in writes:
        with pytest.raises(StaleClaim):
            write()
    next_one.epoch(again, 1, EPOCH)
    assert query(path, "SELECT claim, status FROM runs WHERE status <> 'waiting'") == [(2, "running")]
    assert next_one.read_checkpoint(again) is None


def test_a_connection_that_ends_after_its_worker_has_made_another_ends_nothing(
    address: Address, tmp_path: Path
) -> None:
    desk = heads.desk(address, tmp_path / "a")
    claim, old = claimed(desk), desk._lines.line
    desk._lines.line = None
    assert desk.hold(claim).ours
    old.close()  # as when a cut link returns
    time.sleep(head.RETURN_SECONDS + 3 * head.TICK_SECONDS)
    desk.begin(claim, 1, {"device": "cpu"}, [Layer("conv", 1, 2)], 1)


def test_a_worker_of_another_machine_is_shown_with_host_card_and_progress(
    address: Address, path: Path, tmp_path: Path
) -> None:
    there = processes.Identity(7, 1.0, "lab2", "boot", "pid:[1]")
    hello = {"identity": there, "device": "cuda:0", "device_name": "NVIDIA H100 80GB HBM3"}
    desk = heads.desk(address, tmp_path / "a", hello=hello)
    claim = claimed(desk)
    desk.begin(claim, 1, {"device": "cuda:0"}, [Layer("conv", 1, 2)], 1)
    desk.tell(Report(None, 2**30, None, 1, 5, 10, 0.5, 0.75, 100.0, 90.0), lambda: 2**31)
    wait_until(lambda: query(path, "SELECT 1 FROM workers WHERE epoch = 1"))
    (row,) = json.loads(inprocess.run("work", "--status", "--json", "--db", str(path))[1])["workers"]
    about = ("host", "device", "device_name", "epoch", "batch", "batches", "loss", "checkpoint_seconds")
    assert [row[name] for name in about] == ["lab2", "cuda:0", "NVIDIA H100 80GB HBM3", 1, 5, 10, 0.5, 90.0]
    text = inprocess.run("work", "--status", "--db", str(path))[1]
    for said in ("cuda:0 of lab2", "NVIDIA H100 80GB HBM3", "2/3", "1.0 + 2.0"):
        assert said in text
    logged = "cuda:0 of lab2 (NVIDIA H100 80GB HBM3), pid 7"
    assert logged in inprocess.run("queue", "logs", "one", "--db", str(path))[1]
    assert "(on cuda:0 of lab2)" in inprocess.run("queue", "show", "one", "--runs", "--db", str(path))[1]


def test_whatever_a_desk_asks_a_head_can_do() -> None:
    asked = set(re.findall(r'self\._(?:ask|send|fetch)\([^"()]*"(\w+)"', inspect.getsource(remote)))
    assert asked | {"send"} == set(session.OPERATIONS)


def test_the_head_does_what_a_desk_can_do_and_nothing_else(address: Address, path: Path, tmp_path: Path) -> None:
    desk = heads.desk(address, tmp_path / "a")
    claim = claimed(desk)
    for name, arguments in (
        ("refresh", []),
        ("__init__", [None, None]),
        ("epoch", ["1", 2, 3]),
        ("keep", [claim.number, "../x", "0" * 64, 1, None, None]),
        ("begin", [claim.number, 1, {"digest = 'x', status": "done"}, [], 1]),
    ):
        with pytest.raises(HeadLost, match="the head does not understand"):
            desk._ask(None, name, *arguments)
    line = address.connect()
    line.connection.sendall((2**31).to_bytes(4, "big"))  # a message too long for any memory
    assert line.receive(Answer).problem == "refused"
    assert query(path, "SELECT DISTINCT status FROM runs ORDER BY 1") == [("running",), ("waiting",)]
