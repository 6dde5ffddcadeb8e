"""What passes between a head and its workers: who may connect, claims, files, data sets and models."""

import errno
import hashlib
import os
import shutil
import socket
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from engine import recipes
from engine.desk import keys, remote, wire
from engine.desk.desk import HeldUp
from engine.desk.local import LocalDesk
from engine.desk.remote import HeadLost
from engine.desk.wire import Address, Answer, Call, Welcome
from engine.errors import InputError
from engine.machine import processes
from engine.models import trust
from engine.store import database, leases
from engine.store.files import Folder, LostFile
from engine.workers.joined import JoinedPool
from tests import heads
from tests.conftest import add
from tests.databases import query
from tests.heads import SMALL, claimed
from tests.images import gray, save


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
            with pytest.raises(HeadLost, match="do not belong to the head"):
                heads.desk(wrong, tmp_path / "b")
        plain = Address("tcp", address.host, address.port).connect()
        plain.send(Call("hold", [None]))
        with pytest.raises((OSError, msgspec.DecodeError)):  # a TLS alert, or the end of the connection
            plain.receive(Welcome)


def swapped(address: Address, ours: Path, tmp_path: Path) -> Address:
    """A client that shows the head's certificate, which is not for workers."""
    folder = tmp_path / "swapped"
    shutil.copytree(ours, folder)
    shutil.copy(ours / "head.pem", folder / "worker.pem")
    return Address("tls", address.host, address.port, folder)


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


def test_an_order_is_the_claim_to_the_bit(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        worker = connection.execute("INSERT INTO workers (pid, host, device) VALUES (1, 'x', 'cpu')").lastrowid
        claim = leases.claim(connection, worker or 0)
    assert claim is not None
    assert wire.Order.of(claim).claim() == claim
    assert isinstance(claim.run, recipes.Run)


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
        left = sent.with_name(f".{sent.name}.{processes.mark().replace(f'-{os.getpid()}-', f'-{2**22 + 1}-')}")
        sent.rename(left)  # as if a worker, of a pid that no process has, had been killed before its last step
        assert Path(lacking.location(identity)) == sent
        assert not left.exists()
        file.write_bytes(b"altered")
        with pytest.raises(InputError, match=r"mine\.npz of the head has changed since it was queued"):
            heads.desk(address, tmp_path / "c").location(identity)
        file.unlink()
        with pytest.raises(InputError, match=r"mine\.npz is missing on the head: restore it there"):
            heads.desk(address, tmp_path / "c").location(identity)
        assert [place for place in (tmp_path / "c").rglob("*") if place.is_file()] == []


def test_a_disk_that_is_full_or_broken_fails_no_run(address: Address, path: Path, tmp_path: Path) -> None:
    remote_desk = heads.desk(address, tmp_path / "a")
    with closing(database.writer(path)) as connection:
        for desk in (remote_desk, LocalDesk(connection, Folder(database.files_folder(path)))):
            full, broken, foreign = (
                OSError(number, "", name)
                for number, name in (
                    (errno.ENOSPC, None),
                    (errno.EROFS, None),
                    (errno.EACCES, str(tmp_path / "mine.npz")),
                )
            )
            own = OSError(errno.EACCES, "", str(desk.folder.path / "tickets"))
            assert [desk.is_fault(error) for error in (full, broken, own, foreign)] == [True, True, True, False]
            assert [desk.passes(error) for error in (full, broken, own)] == [True, False, False]


def test_a_machine_without_room_for_files_claims_nothing(
    address: Address, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = heads.desk(address, tmp_path / "a")
    monkeypatch.setattr(remote, "LEAST_FREE", 2**80)
    with pytest.raises(HeldUp, match=r"the disk of .*/a has \d+ MiB left: make room, or join with another folder"):
        claimed(desk)
    assert query(path, "SELECT max(claim) FROM runs") == [(0,)]
    monkeypatch.undo()
    assert claimed(desk)


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
        with monkeypatch.context() as late:  # the worker looked before another one had made the folder
            late.setattr(Path, "is_dir", lambda place: place != sent and os.path.isdir(place))
            assert Path(desk.model_folder(model)) == sent
        assert [*sent.parent.iterdir()] == [sent]
        monkeypatch.setenv(trust.VARIABLE, str(tmp_path / "nobody"))
        with pytest.raises(trust.Untrusted):
            trust.require(model, str(sent))
        monkeypatch.undo()
        source.write_text("altered")
        other = heads.desk(address, tmp_path / "b", trust_models=True)
        claimed(other)
        with pytest.raises(InputError, match="is not what it was when this was queued"):
            other.model_folder(model)
