"""A worker that is hit by a signal at a named point: `engine.workers.worker` with traps around its steps.

The engine has no code for this: the functions before and after a point are wrapped.
"""

import functools
import itertools
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Any

import psutil

from engine.desk.wire import Address
from engine.store import database, files, leases, records
from tests.waiting import wait_until
from tests.workers import SERVER, be_worker

POINTS = (
    "after claim",
    "mid epoch",
    "checkpoint half written",
    "between checkpoint and record",
    "before a commit",
    "between record and ticket",
    "ticket half written",
    "between ticket and its row",
    "between ticket and done",
    "after done",
)
OF_THE_HEAD = ("before a commit", "between ticket and its row")  # which a worker that joined one does not come to
_CACHES = itertools.count(1)


@dataclass
class Trap:
    """Where and how a worker is hit: by a signal to itself when it passes `point` for the given time.

    `lease` sets the seconds of its leases; `room` limits the bytes of address space that it may take in addition.
    """

    point: str = ""  # nowhere
    times: int = 1
    signal: Signals = SIGKILL
    lease: float | None = None
    room: int | None = None

    def passing(self, point: str, harm: Callable[[], object] = lambda: None) -> None:
        """Called at `point`: send the signal if it is time, after `harm`, further damage of a death there."""
        if point == self.point:
            self.times -= 1
            if self.times == 0:
                if self.signal is SIGKILL:
                    harm()
                os.kill(os.getpid(), self.signal)


@dataclass
class Victim:
    """A worker process that reports each run that it claims."""

    process: BaseProcess
    reports: Connection
    run: str = field(default="no run", init=False)

    def claimed(self) -> bool:
        """Whether it has claimed a run."""
        while self.reports.poll():
            try:
                self.run = self.reports.recv()
            except EOFError:  # it has ended, and everything was read
                break
        return self.run != "no run"

    def signal(self, what: Signals) -> None:
        """Send it a signal from outside."""
        assert self.process.pid is not None
        os.kill(self.process.pid, what)

    def wait_until_stopped(self) -> None:
        """Wait until its trap has stopped it."""
        wait_until(lambda: psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    def end(self, seconds: float = 120.0) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"a worker does not end: {self.run}"
        return self.process.exitcode


def start(path: Path, *options: object, trap: Trap | None = None, head: Address | None = None) -> Victim:
    """Start a worker that drains the database at `path`; what it prints goes to `log_of(path)`.

    With a `head` it opens no database, has a cache of its own, and works until it is asked to end.
    """
    reports, reporter = SERVER.Pipe(duplex=False)
    cache = path.with_suffix(f".{next(_CACHES)}.cache")
    place = ["--head", head, "--cache", cache] if head else ["--db", path, "--drain"]
    arguments = [*place, "--device", "cpu", *options]
    process = SERVER.Process(target=_work, args=(list(map(str, arguments)), log_of(path), trap or Trap(), reporter))
    process.start()
    reporter.close()
    return Victim(process, reports)


def log_of(path: Path) -> Path:
    """The log of a database's workers, next to its folder, which may be on a full disk."""
    return path.parent.with_name(f"{path.parent.name}-{path.name}.log")


def _work(arguments: list[str], log: Path, trap: Trap, reporter: Connection) -> None:
    """The main function: set the trap, then run as `python -m engine.workers.worker`."""
    (_lay_afar if "--head" in arguments else _lay)(trap, reporter)
    if trap.room is not None:
        _limit(trap.room)
    be_worker(arguments, log)


def _limit(room: int) -> None:
    import torch._dynamo  # noqa: F401 - which it would else import within that room, where the server has not

    most = psutil.Process().memory_info().vms + room
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _lay(trap: Trap, reporter: Connection) -> None:
    def renaming(partial: Path, place: Path) -> None:
        kind = place.parent.name.removesuffix("s")
        trap.passing(f"{kind} half written", harm=lambda: os.truncate(partial, partial.stat().st_size // 2))

    here = _lay_common(trap, reporter, leases)
    _before(Path, "replace", renaming)
    _before(records, "epoch", here("between checkpoint and record"))
    _before(files.Folder, "put", here("between record and ticket"))
    _before(records, "file", here("between ticket and its row"))
    _before(records, "done", here("between ticket and done"))
    _after(records, "done", here("after done"))
    setattr(records, "transaction", _uncommitted(trap))  # noqa: B010 - not exported


def _lay_afar(trap: Trap, reporter: Connection) -> None:
    """Set the trap in a worker that joins a head; files are half written while their pieces are sent."""
    from engine.desk import remote
    from tests.heads import be_joined

    be_joined()
    points = {"keep_checkpoint": "checkpoint half written", "keep": "ticket half written"}
    points |= {"epoch": "between checkpoint and record", "done": "between ticket and done"}

    def asking(_: object, __: object, name: str, *___: object) -> None:
        if name in points:
            trap.passing(points[name])

    here = _lay_common(trap, reporter, remote.RemoteDesk)
    _before(remote.RemoteDesk, "_ask", asking)
    _before(remote.RemoteDesk, "keep", here("between record and ticket"))
    _after(remote.RemoteDesk, "done", here("after done"))


def _lay_common(trap: Trap, reporter: Connection, claims: Any) -> Callable[[str], Callable[..., None]]:
    """Set the trap where `claims` returns runs, and in epochs; returns a function that sets it elsewhere."""
    from engine.workers import heartbeat, run

    if trap.lease:
        leases.LEASE_SECONDS, leases.RENEWAL_SECONDS = trap.lease, trap.lease / 10
        heartbeat.BEAT_SECONDS = trap.lease / 10

    def claimed(claim: leases.Claim | None, *_: object) -> None:
        if claim:
            reporter.send(f"{claim.run.ticket.name} {claim.run.ticket.level} on {claim.run.training.dataset}")
            trap.passing("after claim")

    def here(point: str) -> Callable[..., None]:
        return lambda *_: trap.passing(point)

    _after(claims, "claim", claimed)
    _after(run._Clock, "after_batch", here("mid epoch"))
    return here


def _before(owner: Any, name: str, call: Callable[..., None]) -> None:
    """Call `call` with the arguments of a function before it."""
    plain = getattr(owner, name)

    @functools.wraps(plain)
    def wrapped(*arguments: Any) -> Any:
        call(*arguments)
        return plain(*arguments)

    setattr(owner, name, wrapped)


def _after(owner: Any, name: str, call: Callable[..., None]) -> None:
    """Call `call` with the result of a function after it."""
    plain = getattr(owner, name)

    @functools.wraps(plain)
    def wrapped(*arguments: Any) -> Any:
        result = plain(*arguments)
        call(result)
        return result

    setattr(owner, name, wrapped)


def _uncommitted(trap: Trap) -> Callable[[sqlite3.Connection], Any]:
    @contextmanager
    def transaction(connection: sqlite3.Connection) -> Iterator[None]:
        with database.transaction(connection):
            yield
            trap.passing("before a commit")

    return transaction
