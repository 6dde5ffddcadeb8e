"""A head in a thread of the tests, and workers that join it."""

import ctypes
import os
import sqlite3
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from msgspec import structs

from engine.desk import remote, wire
from engine.desk.desk import Room
from engine.desk.head import Head
from engine.desk.remote import RemoteDesk
from engine.store import leases
from engine.workers.pool import naming
from tests.workers import SERVER, be_worker

# An experiment whose runs take a second.
SMALL: dict[str, Any] = {
    "source": ["digits-a"],
    "target": ["digits-b"],
    "width": 0.25,
    "levels": 1,
    "epochs": 3,
    "replicates": 1,
    "random": ["none"],
    "profile": "exact",
}
GIVEN = {
    "keys": None,
    "pool": None,
    "parent": 0,
    "min_free": 0,
    "notify": None,
    "drain": False,
    "checkpoints": None,
    "start": None,
}


@contextmanager
def leading(
    path: Path, port: int = 0, host: str = "127.0.0.1", network: str = "", **options: Any
) -> Iterator[wire.Address]:
    """A head of the database at `path`, in a network namespace if one is named, and its address."""
    scheme = "tls" if options.get("keys") else "tcp"
    led = Head(Namespace(db=path, listen=f"{scheme}://{host}:{port}", **{**GIVEN, **options}))
    with closing(led.connection):
        server = threading.Thread(target=_lead, args=(led, network), daemon=True)
        server.start()
        assert led.listening.wait(120)
        try:
            yield led.reached
        finally:
            with led.lock:
                led.sessions.clear()  # as if it were killed: it waits for nobody
            led.stop.set()
            server.join(60)


def start(path: Path, address: wire.Address, lease: float) -> BaseProcess:
    """A head in a separate process, with leases of a number of seconds."""
    process = SERVER.Process(target=_lead_alone, args=(path, str(address), lease), daemon=True)
    process.start()
    return process


def _lead_alone(path: Path, address: str, lease: float) -> None:
    leases.LEASE_SECONDS, leases.RENEWAL_SECONDS = lease, lease / 8
    with path.with_suffix(".head.log").open("ab") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    Head(Namespace(db=path, listen=address, **GIVEN)).serve()


def _lead(led: Head, network: str) -> None:
    enter(network)
    led.serve()


def desk(address: wire.Address, cache: Path, device: str = "cpu", **options: Any) -> RemoteDesk:
    """The desk of a worker in this process; `hello` changes its first message."""
    said = options.pop("hello", {})
    return RemoteDesk(address, structs.replace(remote.greeting(device, 1, False, "log"), **said), cache, **options)


def claimed(desk: RemoteDesk) -> leases.Claim:
    """The next run, claimed at a desk."""
    claim = desk.claim((), lambda: Room(0, 0))
    assert claim is not None
    return claim


def join(address: wire.Address, cache: Path, *options: object, network: str = "", patience: float = 120) -> BaseProcess:
    """A worker process that trains for a head, and cannot open a database.

    It lives in the network namespace `network`, and waits `patience` seconds for an answer.
    """
    arguments = [*naming("--head", address), "--cache", cache, "--device", "cpu", *options]
    about = list(map(str, arguments)), cache.with_suffix(".log"), network, patience
    process = SERVER.Process(target=_work, args=about)
    process.start()
    return process


def enter(network: str) -> None:
    """Move this thread, and those that it starts, to a network namespace, if one is named."""
    if network:
        with Path("/run/netns", network).open("rb") as namespace:
            assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


def be_joined() -> None:
    """Make this process one of a joined machine: it cannot open a database, and sends checkpoints at once."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a worker of a cluster opens no database")

    sqlite3.connect = refuse  # type: ignore[assignment]
    remote.CHECKPOINT_SECONDS, remote.SHARE = 0.0, 1.0


def _work(arguments: list[str], log: Path, network: str, patience: float) -> None:
    enter(network)
    wire.ANSWER_SECONDS = patience
    be_joined()
    be_worker(arguments, log)
