"""Exhausted memory: on the host for real, on cards by their records in the database."""

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from engine.desk.desk import HeldUp
from engine.desk.local import LocalDesk
from engine.store import database, leases, queue, records
from engine.workers.worker import Worker, parser
from tests.conftest import add
from tests.faults import victim

ROOM = 400 * 2**20  # bytes that a worker may take beyond what it begins with: enough for the small run only
GIB = 2**30


def test_a_run_that_does_not_fit_is_tried_alone_and_fails_and_the_rest_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    one = {"target": ["digits-a"], "levels": 0, "replicates": 1, "random": ["none"]}
    add(path, "small", **one)
    large = add(path, "large", **{**one, "source": ["digits"], "target": ["digits"], "width": 8, "batch_size": 1257})
    with closing(database.writer(path)) as connection:
        queue.move(connection, large.experiment, 1)
        assert victim.start(path, trap=victim.Trap(room=ROOM)).end() == 0
        runs = connection.execute("SELECT id, status, error FROM runs ORDER BY width").fetchall()
        assert [row["status"] for row in runs] == ["done", "failed"], victim.log_of(path).read_text()
        assert runs[1]["error"].startswith(
            "out of memory on cpu, tried once more alone: vgg-digits x 8 with batches of 1257 does not fit;"
            " queue it with a smaller batch size or width, or on a larger device"
        )
        attempts = "SELECT outcome FROM attempts WHERE run_id = ? ORDER BY attempt"
        outcomes = [row[0] for row in connection.execute(attempts, (runs[1]["id"],))]
        assert outcomes == ["out-of-memory", "failed"]
        assert connection.execute("SELECT count(*) FROM workers").fetchone()[0] == 1


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A queue of twenty independent runs of one shape."""
    path = tmp_path / "experiments.db"
    add(path, "one", levels=0, replicates=10, random=["none"])
    with closing(database.writer(path)) as found:
        yield found


def worker(connection: sqlite3.Connection, device: str, host: str = "here") -> int:
    found = connection.execute("INSERT INTO workers (host, device) VALUES (?, ?)", (host, device)).lastrowid
    assert found is not None
    return found


def claim(connection: sqlite3.Connection, holder: int) -> leases.Claim:
    found = leases.claim(connection, holder)
    assert found is not None
    return found


def run_out_of_memory(connection: sqlite3.Connection, found: leases.Claim) -> None:
    records.start(connection, found, 1, {}, [])
    assert not records.out_of_memory(connection, found, "out of memory")


def test_a_run_to_be_trained_alone_waits_for_an_empty_device_and_all_that_is_ready_waits_for_it(
    connection: sqlite3.Connection,
) -> None:
    one, two = worker(connection, "cuda:0"), worker(connection, "cuda:0")
    first, second = claim(connection, one), claim(connection, two)
    run_out_of_memory(connection, second)
    assert leases.claim(connection, two) is None  # `first` is still being trained there
    leases.release(connection, first)
    alone = claim(connection, two)
    assert alone.run_id == second.run_id  # though `first` is older
    assert leases.claim(connection, one) is None  # nothing joins it
    records.failed(connection, alone, "out of memory again")
    assert claim(connection, one).run_id == first.run_id
    assert leases.claim(connection, two) is not None


@pytest.mark.parametrize(("device", "host"), [("cuda:1", "here"), ("cuda:0", "elsewhere")])
def test_a_run_to_be_trained_alone_goes_to_another_device_that_is_empty(
    connection: sqlite3.Connection, device: str, host: str
) -> None:
    one, two, other = worker(connection, "cuda:0"), worker(connection, "cuda:0"), worker(connection, device, host)
    claim(connection, one)
    second = claim(connection, two)
    run_out_of_memory(connection, second)
    assert leases.claim(connection, two) is None
    assert claim(connection, other).run_id == second.run_id
    assert leases.claim(connection, two) is not None  # beside the first, for the other device is another


def test_what_joins_others_on_a_device_fits_there_by_what_runs_of_its_shape_took(
    connection: sqlite3.Connection,
) -> None:
    one, two = worker(connection, "cuda:0"), worker(connection, "cuda:0")
    assert leases.reason_to_wait(connection, two, free=0) is None  # nothing is being trained there
    done = claim(connection, one)
    assert "first run of its shape is trained alone" in (leases.reason_to_wait(connection, two, free=100 * GIB) or "")
    records.start(connection, done, 1, {}, [])
    records.done(connection, done, 0.5, 0, 1.0, device_memory=10 * GIB)
    claim(connection, one)
    # What the other will still take is not free: 12 GiB with the margin, before it has taken any, and 12 for the next.
    assert leases.reason_to_wait(connection, two, free=25 * GIB) is None
    assert leases.reason_to_wait(connection, two, free=23 * GIB) == (
        "the next run needs 12.0 GiB on the device, 11.0 GiB are left"
    )
    connection.execute("UPDATE workers SET device_memory = ? WHERE id = ?", (9 * GIB, one))
    assert leases.reason_to_wait(connection, two, free=16 * GIB) is None
    assert leases.reason_to_wait(connection, two, free=14 * GIB) is not None
    assert leases.reason_to_wait(connection, worker(connection, "cuda:1"), free=0) is None


@pytest.fixture
def sharing(connection: sqlite3.Connection, tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    """Two workers that share a card, with runs that are known to take 10 GiB."""
    done = claim(connection, worker(connection, "cuda:0"))
    records.start(connection, done, 1, {}, [])
    records.done(connection, done, 0.5, 0, 1.0, device_memory=10 * GIB)
    options = ["--db", str(tmp_path / "experiments.db"), "--device", "cpu", "--label", "cuda:0", "--shared-device"]
    one, two = (Worker(parser().parse_args(options)) for _ in range(2))
    yield one, two
    for each in (one, two):
        each.desk.close()


def test_two_workers_are_not_told_of_the_same_room(
    sharing: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checks after the first has found room but before it has claimed."""
    one, two = sharing
    refused: list[str] = []

    def ask() -> None:
        with pytest.raises(HeldUp) as why:
            two.desk.claim((), two._room)
        refused.append(str(why.value))

    other = threading.Thread(target=ask)

    def free(device: object) -> tuple[int, int]:
        if not other.ident:
            other.start()
            other.join(0.5)
        return 15 * GIB, 80 * GIB  # for one run, not for two

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    assert one.desk.claim((), one._room) is not None
    other.join(30)
    assert refused == ["the next run needs 12.0 GiB on the device, 3.0 GiB are left"]


def test_what_a_run_before_took_does_not_pass_for_memory_of_the_next(
    connection: sqlite3.Connection, sharing: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checks after the first has freed 10 GiB and claimed again, before it reports new memory."""
    one, two = sharing
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (15 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    connection.execute("UPDATE workers SET device_memory = ? WHERE id = ?", (10 * GIB, one.desk.worker))
    assert one.desk.claim((), one._room) is not None
    with pytest.raises(HeldUp, match=r"needs 12\.0 GiB on the device, 3\.0 GiB are left"):
        two.desk.claim((), two._room)


def test_a_heartbeat_does_not_tell_of_memory_that_a_claim_has_freed_meanwhile(
    connection: sqlite3.Connection, sharing: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = sharing
    assert isinstance(one.desk, LocalDesk)
    one.desk._beating = connection
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 5 * GIB if connection.in_transaction else 10 * GIB)
    one.context.device = torch.device("cuda:0")
    one.heart._tell()
    query = "SELECT device_memory FROM workers WHERE id = ?"
    assert connection.execute(query, (one.desk.worker,)).fetchone()[0] == 5 * GIB
    one.desk.close_beats()


def test_an_error_in_whose_wake_another_was_raised_keeps_no_tensors(
    connection: sqlite3.Connection, sharing: tuple[Worker, Worker]
) -> None:
    one, _ = sharing
    found = claim(connection, one.desk.worker)
    kept: list[weakref.ref[torch.Tensor]] = []

    def train() -> None:
        activations = torch.zeros(8)
        kept.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory")

    try:
        try:
            train()
        except torch.OutOfMemoryError as error:
            raise RuntimeError("the backward pass failed") from error
    except RuntimeError as error:
        one._fail(found, error)
        assert kept[0]() is None
