"""Workers of other machines: they give the same bits as local ones, and their errors are one line."""

import hashlib
import inspect
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from msgspec import structs

from engine import recipes
from engine.desk import head, keys, remote, session, wire
from engine.desk.desk import Report, Room
from engine.desk.remote import HeadLost, RemoteDesk
from engine.desk.wire import Address, Answer, Call, Welcome
from engine.errors import InputError
from engine.machine import devices, processes
from engine.models import trust
from engine.store import database, leases
from engine.store import heads as leads
from engine.store import shared as sharing
from engine.store.files import Folder, LostFile
from engine.store.records import Epoch, Layer, StaleClaim
from engine.training import profiles
from engine.workers.joined import JoinedPool
from engine.workers.run import RunContext, Stopped, execute
from tests import heads, inprocess
from tests.conftest import Cockpit, add, work_off
from tests.faults import victim
from tests.images import gray, save
from tests.workers import records

SMALL: dict[str, Any] = {"source": ["digits-a"], "target": ["digits-b"], "width": 0.25, "levels": 1, "epochs": 3}
SMALL |= {"replicates": 1, "random": ["none"], "profile": "exact"}
EPOCH = Epoch(0, 1.0, 0.5, None, 0.5, 0.1, None)
NO_ROOM = Room(0, 0)


@pytest.fixture(scope="module")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queued") / "experiments.db"
    add(path, "one", **SMALL)
    return path


@pytest.fixture
def path(queued: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(queued, tmp_path))


@pytest.fixture
def address(path: Path) -> Iterator[Address]:
    with heads.leading(path) as address:
        yield address


def claimed(desk: RemoteDesk) -> leases.Claim:
    claim = desk.claim((), lambda: NO_ROOM)
    assert claim is not None
    return claim


def query(path: Path, text: str) -> list[tuple[Any, ...]]:
    with closing(database.reader(path)) as connection:
        return [tuple(row) for row in connection.execute(text)]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sent", "shared"])
def test_two_workers_without_a_database_give_local_bits_though_one_is_killed(tmp_path: Path, where: str) -> None:
    local, path = tmp_path / "local.db", tmp_path / "long.db"
    for place in (local, path):
        add(place, "one", **{**SMALL, "epochs": 6})
    assert victim.start(local).end() == 0
    shared = tmp_path / "shared"
    shared.mkdir()
    with heads.leading(path, drain=True, checkpoints=shared if where == "shared" else None) as address:
        killed = heads.join(address, tmp_path / "a", "--checkpoint-seconds", 0)
        other = heads.join(address, tmp_path / "b")
        deadline = time.monotonic() + 120
        folder = database.files_folder(path) / "checkpoints"
        held = f"""
            SELECT digest FROM runs r JOIN workers w ON w.id = r.worker
            WHERE r.status = 'running' AND pid = {killed.pid} AND EXISTS (SELECT 1 FROM epochs WHERE run_id = r.id)
        """
        while not any((folder / f"{run}.safetensors").exists() for (run,) in query(path, held)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        killed.kill()
        other.join(180)
        assert other.exitcode == 0, (tmp_path / "b.log").read_text()
    assert records(path) == records(local)
    outcomes = query(path, "SELECT attempt, outcome FROM attempts ORDER BY run_id, claim")
    assert outcomes.count((1, "lost")) == 1
    assert {attempt for attempt, _ in outcomes} == {1}
    assert not list(folder.glob("*"))
    assert folder.is_symlink() == (where == "shared")


SPLIT: dict[str, Any] = {**SMALL, "levels": 0, "target": ["digits-a"], "epochs": 10, "split": 2}


@pytest.mark.slow
def test_a_split_run_resumes_on_another_joined_worker_with_the_bits_of_a_local_one(tmp_path: Path) -> None:
    local, path = tmp_path / "local.db", tmp_path / "experiments.db"
    for place in (local, path):
        add(place, "one", **SPLIT)
    work_off(local, split=2)
    with heads.leading(path, drain=True) as address:
        killed = heads.join(address, tmp_path / "a", "--split", 2, "--checkpoint-seconds", 0)
        deadline = time.monotonic() + 120
        while not query(path, "SELECT 1 FROM epochs WHERE epoch = 2"):
            assert time.monotonic() < deadline, (tmp_path / "a.log").read_text()
            time.sleep(0.02)
        killed.kill()
        other = heads.join(address, tmp_path / "b", "--split", 2)
        other.join(180)
        assert other.exitcode == 0, (tmp_path / "b.log").read_text()
    assert records(path) == records(local)
    assert query(path, "SELECT attempt, outcome FROM attempts ORDER BY claim") == [(1, "lost"), (1, "done")]


@pytest.mark.slow
@pytest.mark.skipif(devices.cores() < 2, reason="needs two cores")
def test_a_joined_machine_trains_a_split_run_of_the_queue(tmp_path: Path, cockpit: Cockpit) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", **{**SPLIT, "epochs": 2})
    assert cockpit("work", "--cluster", "tcp://127.0.0.1:0", "--detach", "--drain").returncode == 0
    joins = str(database.join_file(path))
    joined = cockpit("join", joins, "--split", "2", "--workers", "1", "--cache", str(tmp_path / "cache"))
    assert joined.returncode == 0, joined.stderr
    assert query(path, "SELECT status, device FROM runs") == [("done", "cpu+cpu")]


def test_a_checkpoint_in_a_shared_folder_is_resumed_on_another_worker_with_the_same_bits(tmp_path: Path) -> None:
    cpu, batches = torch.device("cpu"), itertools.count()
    found, shared = [], tmp_path / "shared"
    shared.mkdir()
    for name in ("plain", "resumed"):
        path = tmp_path / f"{name}.db"
        add(path, "one", **{**SMALL, "levels": 0, "epochs": 2, "profile": "exact"})
        with heads.leading(path, checkpoints=shared) as address:
            one, two = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
            claim, worker = claimed(one), one
            if name == "resumed":
                with pytest.raises(Stopped):
                    execute(claim, RunContext(one, cpu, stop=lambda: next(batches) == 15))
                (saved,) = shared.glob("*/checkpoints/*")
                assert saved.name == f"{claim.run.digest}.safetensors"
                assert not list((tmp_path / "a" / "checkpoints").glob("*"))
                one.release(claim)
                claim, worker = claimed(two), two
            execute(claim, RunContext(worker, cpu))
        found.append(records(path))
    assert found[0] == found[1]
    assert query(path, "SELECT attempt, outcome FROM attempts ORDER BY claim") == [(1, "stopped"), (1, "done")]


@pytest.mark.parametrize("where", ["sent", "shared"])
def test_a_stale_worker_replaces_no_checkpoint(path: Path, tmp_path: Path, where: str) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    with heads.leading(path, checkpoints=shared if where == "shared" else None) as address:
        late, next_one = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
        claim = claimed(late)
        with closing(database.writer(path)) as connection:
            connection.execute("UPDATE runs SET lease_expires_at = ? WHERE status = 'running'", (database.now(-1),))
        again = claimed(next_one)
        assert again.run == claim.run
        next_one.write_checkpoint(again, b"newer")
        with pytest.raises(StaleClaim):
            late.write_checkpoint(claim, b"late")
        assert next_one.read_checkpoint(again) == b"newer"
        folder = database.files_folder(path) / "checkpoints"
        assert [place.name for place in folder.iterdir()] == [f"{claim.run.digest}.safetensors"]
        with pytest.raises(HeadLost, match="does not understand"):
            next_one._ask(None, "settle_checkpoint", again.number, "../x")


def test_a_machine_that_does_not_see_the_shared_folder_is_told_so(path: Path, tmp_path: Path) -> None:
    shared, seen_as = tmp_path / "shared", tmp_path / "mounted"
    shared.mkdir()
    with heads.leading(path, checkpoints=shared) as address:
        with pytest.raises(HeadLost, match=r"cannot write to .*nowhere/cockpit-.* mount it here, or say in \[paths\]"):
            heads.desk(address, tmp_path / "a", paths={str(shared): str(tmp_path / "nowhere")})
        seen_as.symlink_to(shared)
        desk = heads.desk(address, tmp_path / "b", paths={str(shared): str(seen_as)})
        assert desk.shared
        assert desk.shared.path.is_relative_to(seen_as)
        status = inprocess.run("work", "--status", "--db", str(path))[1]
        assert f"checkpoints of joined workers are written to {shared}" in status


def test_checkpoints_move_to_the_shared_folder_and_back(tmp_path: Path) -> None:
    files, digest = Folder(tmp_path / "files"), "a" * 64
    files.path.mkdir()
    files.write_checkpoint(digest, b"data")
    killed = tmp_path / "files" / ".checkpoints.x-1"
    killed.mkdir()
    shutil.copy(files.checkpoint(digest), killed / f"{'b' * 64}.safetensors")
    for name in ("one", "two", None, None, "one"):
        sharing.place(files.path, sharing.folder(tmp_path / name, "0") if name else None)
        assert (files.path / "checkpoints").is_symlink() == (name is not None)
        assert files.checkpointed() == {digest, "b" * 64}
        assert files.read_checkpoint(digest) == b"data"
    assert not list(files.path.glob(".*"))
    assert not list((tmp_path / "two").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("profile", "other", "attempts"),
    [
        ("exact", {}, [(1, "stopped"), (1, "done")]),
        ("exact", {"torch_version": "1.0"}, [(1, "stopped"), (2, "done")]),
        ("exact", {"device_name": "another card"}, [(1, "stopped"), (2, "done")]),
        ("exact", {"cudnn_version": "1"}, [(1, "stopped"), (2, "done")]),
        ("fast", {"torch_version": "1.0"}, [(1, "stopped"), (1, "done")]),
    ],
)
def test_an_exact_run_goes_on_only_where_its_checkpoint_could_have_been_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, other: dict[str, str], attempts: list[Any]
) -> None:
    path, plain, batches = tmp_path / "experiments.db", profiles.environment, itertools.count()
    add(path, "one", **{**SMALL, "levels": 0, "epochs": 2, "profile": profile})
    cpu = torch.device("cpu")
    with heads.leading(path) as address:
        one, two = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
        claim = claimed(one)
        monkeypatch.setattr(profiles, "environment", lambda *about: {**plain(*about), **other})
        with pytest.raises(Stopped):
            execute(claim, RunContext(one, cpu, stop=lambda: next(batches) == 15))
        one.release(claim)
        monkeypatch.undo()
        execute(claimed(two), RunContext(two, cpu))
    assert query(path, "SELECT attempt, outcome FROM attempts ORDER BY run_id, claim") == attempts


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
    old.close()  # as when the link that was cut is back
    time.sleep(head.RETURN_SECONDS + 3 * head.TICK_SECONDS)
    desk.begin(claim, 1, {"device": "cpu"}, [Layer("conv", 1, 2)], 1)


def test_a_head_that_begins_anew_finds_its_workers_where_they_were(path: Path, tmp_path: Path) -> None:
    with heads.leading(path) as address:
        desk = heads.desk(address, tmp_path / "a")
        claim = claimed(desk)
        desk.begin(claim, 1, {}, [Layer("conv", 1, 2)], 1)
        desk._hang_up()
    with heads.leading(path, port=address.port):
        desk.begin(claim, 1, {}, [Layer("conv", 1, 2)], 1)  # said twice, as it would be where the answer was lost
        desk.epoch(claim, 1, EPOCH)
        assert desk.hold(claim).ours
        assert query(path, "SELECT count(*), sum(ended_at IS NULL) FROM workers") == [(1, 1)]
        desk.failed(claim, "over")
        desk.failed(claim, "over")
    assert query(path, "SELECT count(*) FROM epochs") == [(1,)]


def test_a_worker_of_another_machine_is_shown_with_host_card_and_progress(
    address: Address, path: Path, tmp_path: Path
) -> None:
    there = processes.Identity(7, 1.0, "lab2", "boot", "pid:[1]")
    hello = {"identity": there, "device": "cuda:0", "device_name": "NVIDIA H100 80GB HBM3"}
    desk = heads.desk(address, tmp_path / "a", hello=hello)
    claim = claimed(desk)
    desk.begin(claim, 1, {"device": "cuda:0"}, [Layer("conv", 1, 2)], 1)
    desk.tell(Report(None, 2**30, None, 1, 5, 10, 0.5, 0.75, 100.0, 90.0), lambda: 2**31)
    deadline = time.monotonic() + 120
    while not query(path, "SELECT 1 FROM workers WHERE epoch = 1"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (row,) = json.loads(inprocess.run("work", "--status", "--json", "--db", str(path))[1])["workers"]
    about = ("host", "device", "device_name", "epoch", "batch", "batches", "loss", "checkpoint_seconds")
    assert [row[name] for name in about] == ["lab2", "cuda:0", "NVIDIA H100 80GB HBM3", 1, 5, 10, 0.5, 90.0]
    text = inprocess.run("work", "--status", "--db", str(path))[1]
    for said in ("cuda:0 of lab2", "NVIDIA H100 80GB HBM3", "2/3", "1.0 + 2.0"):
        assert said in text
    logged = "cuda:0 of lab2 (NVIDIA H100 80GB HBM3), pid 7"
    assert logged in inprocess.run("queue", "logs", "one", "--db", str(path))[1]
    assert "(on cuda:0 of lab2)" in inprocess.run("queue", "show", "one", "--runs", "--db", str(path))[1]


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
            of_a_copy = structs.replace(lead, **vars(processes.identity(other.pid)))
            text = msgspec.json.encode(of_a_copy).decode()
            connection.execute("UPDATE about SET value = ? WHERE key = ?", (text, leads.KEY))
            assert leads.leading(connection) is None
    finally:
        other.kill()
        other.wait()


def test_files_come_in_pieces_and_whole(address: Address, path: Path, tmp_path: Path) -> None:
    one, two = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
    claim, data = claimed(one), bytes(range(256)) * 20_000  # five pieces
    one.keep(claim, "rewind", data)
    assert two.read(claim.run.digest, "rewind") == data
    assert two.folder.get(hashlib.sha256(data).hexdigest()) == data
    one.write_checkpoint(claim, data)
    one.release(claim)
    again = claimed(two)
    assert again.run == claim.run
    assert two.read_checkpoint(again) == data
    stored = database.files_folder(path) / "tickets" / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    stored.write_bytes(b"damaged")
    with pytest.raises(LostFile, match="damaged"):
        heads.desk(address, tmp_path / "c").read(claim.run.digest, "rewind")
    assert not list(stored.parent.glob(".*"))


def test_a_head_removes_what_a_killed_one_was_receiving(path: Path) -> None:
    folder = Folder(database.files_folder(path))
    received = folder.incoming(1)
    left = received.with_name(received.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))  # no process has that pid
    for file in (received, left):
        file.write_bytes(b"half")
    with heads.leading(path):
        assert [received] == list(received.parent.glob(".*"))  # this process lives


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"version": "0.0.1"}, "the head runs cockpit .*, this is 0.0.1: install the same here"),
        ({"torch": "1.0"}, "this machine 1.0, which may give other results: install torch=="),
        ({"database": "0"}, "this head serves another database"),
    ],
)
def test_who_would_train_otherwise_is_refused(
    address: Address, tmp_path: Path, hello: dict[str, str], why: str
) -> None:
    with pytest.raises(HeadLost, match=why):
        heads.desk(address, tmp_path / "a", hello=hello)


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
    line.connection.sendall((2**31).to_bytes(4, "big"))  # the length of a message that no memory holds
    assert line.receive(Answer).problem == "refused"
    assert query(path, "SELECT DISTINCT status FROM runs ORDER BY 1") == [("running",), ("waiting",)]


def test_plain_tcp_is_for_one_machine_and_keys_are_for_those_who_have_them(path: Path, tmp_path: Path) -> None:
    for text in ("tcp://:8786", "tcp://0.0.0.0:8786", "tcp://lab1"):
        with pytest.raises(InputError, match="make keys with `cockpit cluster keys DIR`"):
            Address.parse(text)
    with pytest.raises(InputError, match="needs the keys"):
        Address.parse("tls://lab1:8786")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        keys.make(folder, days=1)
    with heads.leading(path, keys=ours) as address:
        assert claimed(heads.desk(address, tmp_path / "a")).attempt == 0
        for wrong in (Address("tls", address.host, address.port, theirs), swapped(address, ours, tmp_path)):
            with pytest.raises(HeadLost, match="the keys do not belong to the head"):
                heads.desk(wrong, tmp_path / "b")
        plain = Address("tcp", address.host, address.port).connect()
        plain.send(Call("hold", [None]))
        with pytest.raises((OSError, msgspec.DecodeError)):  # an alert of TLS, or the end
            plain.receive(Welcome)


def swapped(address: Address, ours: Path, tmp_path: Path) -> Address:
    """A client that shows the head's certificate, which is not for workers."""
    folder = tmp_path / "swapped"
    shutil.copytree(ours, folder)
    shutil.copy(ours / "head.pem", folder / "worker.pem")
    return Address("tls", address.host, address.port, folder)


def test_a_data_set_is_found_by_its_content_or_sent(tmp_path: Path) -> None:
    path, file, elsewhere = tmp_path / "experiments.db", tmp_path / "mine.npz", tmp_path / "data"
    save(file, gray())
    add(path, "mine", **{**SMALL, "source": [f"npz:{file}"], "target": [f"npz:{file}"], "model": "conv-2"})
    with heads.leading(path) as address:
        identity = claimed(heads.desk(address, tmp_path / "a")).run.training.dataset
        assert heads.desk(address, tmp_path / "a").location(identity) == str(file)
        elsewhere.mkdir()
        shutil.copy(file, elsewhere)
        mapped = heads.desk(address, tmp_path / "a", paths={str(tmp_path): str(elsewhere)})
        assert mapped.location(identity) == str(elsewhere / file.name)
        (elsewhere / file.name).write_bytes(b"altered")
        lacking = heads.desk(address, tmp_path / "b", paths={str(tmp_path): str(elsewhere)})
        sent = Path(lacking.location(identity))
        assert sent.is_relative_to(tmp_path / "b")
        assert sent.read_bytes() == file.read_bytes()
        file.write_bytes(b"altered")
        with pytest.raises(InputError, match=r"mine\.npz of the head has changed since it was queued"):
            heads.desk(address, tmp_path / "c").location(identity)
        assert [place for place in (tmp_path / "c").rglob("*") if place.is_file()] == []


def test_an_own_model_is_sent_and_run_only_where_that_was_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = tmp_path / "experiments.db", tmp_path / "models"
    folder.mkdir()
    source = folder / "sentnets.py"
    source.write_text("from engine.models.nets import build\n\ndef small(**about):\n    return None\n")
    monkeypatch.chdir(folder)
    model = trust.named("sentnets:small").identity
    add(path, "one", **SMALL)
    with closing(database.writer(path)) as connection:
        database.keep_model_folder(connection, model, str(folder))
    monkeypatch.chdir(tmp_path)
    with heads.leading(path) as address:
        desk = heads.desk(address, tmp_path / "a")
        claimed(desk)
        sent = Path(desk.model_folder(model))
        assert (sent / source.name).read_text() == source.read_text()
        monkeypatch.setenv(trust.VARIABLE, str(tmp_path / "nobody"))
        with pytest.raises(trust.Untrusted):
            trust.require(model, str(sent))
        monkeypatch.undo()
        source.write_text("altered")
        other = heads.desk(address, tmp_path / "b", trust_models=True)
        claimed(other)
        with pytest.raises(InputError, match="is not what it was when this was queued"):
            other.model_folder(model)


def test_an_order_is_the_claim_to_the_bit(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        worker = connection.execute("INSERT INTO workers (pid, host, device) VALUES (1, 'x', 'cpu')").lastrowid
        claim = leases.claim(connection, worker or 0)
    assert claim is not None
    assert wire.Order.of(claim).claim() == claim
    assert isinstance(claim.run, recipes.Run)


def test_whatever_a_desk_asks_a_head_can_do() -> None:
    asked = set(re.findall(r'self\._(?:ask|send|fetch)\([^"()]*"(\w+)"', inspect.getsource(remote)))
    assert asked | {"send"} == set(session.OPERATIONS)


def test_what_is_no_head_and_who_speaks_otherwise_are_said_so(address: Address, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = Address("tcp", "127.0.0.1", listening.getsockname()[1])

        kept: list[socket.socket] = []

        def greet() -> None:
            for _ in range(2):
                kept.append(listening.accept()[0])
                kept[-1].sendall(b"SSH-2.0-OpenSSH_9.2")

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(HeadLost, match="is not the head of a cluster"):
            heads.desk(other, tmp_path / "a")
        with pytest.raises(InputError, match="is not the head of a cluster"):
            JoinedPool(other, [], tmp_path / "a")
        for connection in kept:
            connection.close()
    line = address.connect()
    line.send({"version": 1})
    assert "install the same here" in str(line.receive(Answer).said)
