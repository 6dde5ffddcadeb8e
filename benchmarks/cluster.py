"""The head of a cluster under load: workers that record an epoch a second, and workers that all send checkpoints."""

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import psutil

from engine.desk import remote, wire
from engine.desk.desk import Report, Room
from engine.desk.keys import make
from engine.desk.remote import RemoteDesk
from engine.machine import processes
from engine.plan.defining import define
from engine.store import adding, database
from engine.store.files import Folder
from engine.store.leases import Claim
from engine.store.records import Epoch, Layer

PROCESSES = 4  # that the clients are threads of
BEAT_SECONDS = 2.0
START_SECONDS = 60.0  # for the head to listen


def measure(quick: bool) -> dict[str, float]:
    """The head's processor time, replies and memory, over TLS, with clients that do not train or import torch."""
    clients, seconds, senders, size = (20, 6, 8, 8) if quick else (200, 60, 64, 80)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "keys", days=1)
        found = _epochs(folder / "epochs.db", clients, seconds)
        return {**found, **_checkpoints(folder / "checkpoints.db", senders, size)}


def _epochs(path: Path, clients: int, seconds: int) -> dict[str, float]:
    with _head(path, clients) as head, _clients(path, clients, f"--epochs={seconds}") as go:
        before = head.cpu_times()
        began = time.monotonic()
        replies, _ = go()
        took, after = time.monotonic() - began, head.cpu_times()
    with closing(database.reader(path)) as connection:
        rows = connection.execute("SELECT count(*) FROM epochs").fetchone()[0]
    return {
        "clients": clients,
        "epochs sent": clients * seconds,
        "epochs recorded": rows,
        "head, share of a core": (after.user + after.system - before.user - before.system) / took,
        "reply to an epoch, median ms": statistics.median(replies),
        "reply to an epoch, slowest of 100 ms": statistics.quantiles(replies, n=100)[98],
    }


def _checkpoints(path: Path, senders: int, size: int) -> dict[str, float]:
    with _head(path, senders) as head, _clients(path, senders, f"--checkpoint={size * 2**20}") as go:
        began = time.monotonic()
        _, beats = go()
        took = time.monotonic() - began
        peak = _peak(head.pid)
    kept = Folder(database.files_folder(path))
    return {
        "checkpoints sent at once": senders,
        "MiB each": size,
        "checkpoints stored whole": len(kept.checkpointed()) - len(kept.damaged_checkpoints()),
        "MiB a second": senders * size / took,
        "head, peak MB": peak,
        "reply to a heartbeat meanwhile, slowest ms": max(beats),
    }


@contextmanager
def _head(path: Path, runs: int) -> Iterator[psutil.Process]:
    """The process of a head that serves a new database of this number of runs, in a folder with keys."""
    with closing(database.writer(path)) as connection:
        options: dict[str, Any] = {
            "levels": 0,
            "random": ["none"],
            "replicates": runs,
            "epochs": 1000,
            "profile": "exact",
        }
        adding.add(connection, "load", define(source=["digits-a"], **options), "benchmark")
    listen = ["--db", str(path), "--listen", "tls://127.0.0.1:0", "--keys", str(path.parent / "keys")]
    command = [*processes.python("engine.desk.head"), *listen]
    with path.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(command, env=processes.environment(), stdout=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "listens on" not in path.with_suffix(".log").read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the head does not start")
            time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _clients(path: Path, count: int, work: str) -> Iterator[Callable[[], tuple[list[float], list[float]]]]:
    """Clients that hold a run each. The function lets them work; it returns the times of replies: calls, heartbeats."""
    address = path.with_suffix(".log").read_text().split("listens on ")[1].split()[0]
    shares = [count // PROCESSES + (number < count % PROCESSES) for number in range(PROCESSES)]
    cache = path.with_suffix(".cache")
    place = [address, str(path.parent / "keys"), str(cache)]
    started = [
        subprocess.Popen(
            [*processes.python("benchmarks.cluster"), *place, str(share), work],
            env=processes.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]

    def answers() -> list[str]:
        lines = [process.stdout.readline() for process in started if process.stdout]
        if not all(lines):
            raise RuntimeError("a client failed")
        return lines

    def go() -> tuple[list[float], list[float]]:
        for process in started:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        calls, beats = zip(*map(json.loads, answers()), strict=True)
        return [*chain(*calls)], [*chain(*beats)]

    try:
        answers()
        yield go
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _peak(pid: int) -> float:
    """The peak memory of a process in MB; its present memory on systems that record no peak."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return float(psutil.Process(pid).memory_info().rss / 1e6)


class _Client:
    """A worker without a device: one thread works and another sends heartbeats, as in a real worker."""

    def __init__(self, address: wire.Address, cache: Path, options: argparse.Namespace) -> None:
        self.options = options
        self.calls: list[float] = []
        self.beats: list[float] = []
        self.ready, self.go = threading.Event(), threading.Event()
        self._over = threading.Event()
        self._about = address, remote.greeting("cpu", 1, False, "log"), cache
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        desk = RemoteDesk(*self._about)
        claim = desk.claim((), lambda: Room(0, 0))
        assert claim is not None
        desk.begin(claim, 1, {"device": "cpu"}, [Layer("conv", 1, 2)], 1)
        beating = threading.Thread(target=self._beat, args=(desk, claim))
        beating.start()
        self.ready.set()
        self.go.wait()
        if self.options.checkpoint:
            self._timed(self.calls, lambda: desk.write_checkpoint(claim, self.options.content))
        began = time.monotonic() + random.random()  # not all in one moment
        for number in range(self.options.epochs):
            time.sleep(max(0.0, began + number - time.monotonic()))
            record = Epoch(number, 1.0, 0.5, None, 0.5, 0.1, None)
            self._timed(self.calls, lambda record=record: desk.epoch(claim, 1, record))  # type: ignore[misc]
        self._over.set()
        beating.join()
        desk.close()

    def _beat(self, desk: RemoteDesk, claim: Claim) -> None:
        self._over.wait(BEAT_SECONDS * random.random())
        while not self._over.is_set():
            self._timed(self.beats if self.go.is_set() else [], lambda: desk.hold(claim))
            desk.tell(Report(None, 0, epoch=1, batch=1, batches=2, loss=1.0), lambda: None)
            self._over.wait(BEAT_SECONDS)
        desk.close_beats()

    def _timed(self, times: list[float], call: Callable[[], object]) -> None:
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1000)


def _main() -> None:
    """The main function of a process of clients: report when all hold a run, wait for a line, work, report times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("keys", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--checkpoint", type=int, default=0)
    options = parser.parse_args()
    options.content = bytes(options.checkpoint)
    address = wire.Address.parse(options.address, options.keys)
    clients = [_Client(address, options.cache, options) for _ in range(options.count)]
    for client in clients:
        client.ready.wait()
    print(flush=True)
    input()
    for client in clients:
        client.go.set()
    for client in clients:
        client.thread.join()
    calls, beats = (
        [*chain(*times)] for times in zip(*((client.calls, client.beats) for client in clients), strict=True)
    )
    print(json.dumps([calls, beats]))


if __name__ == "__main__":
    _main()
