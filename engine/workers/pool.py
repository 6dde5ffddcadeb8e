"""A pool of worker processes, one or more for each device. Imports no torch."""

import os
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputError
from engine.machine import devices, processes
from engine.store import database, leases, workers
from engine.store.files import Folder

if TYPE_CHECKING:
    from engine.desk.wire import Address

TEND_SECONDS = 0.5
CRASHES_ALLOWED = 3  # of a worker that had just been started; then its slot stays empty
YOUNG_SECONDS = 30.0


@dataclass
class _Slot:
    """A device that one worker trains on, and that worker."""

    command: list[str]
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"
    started: float
    crashes: int = 0


class Pool:
    """Worker processes, one for each of `slots`, and a `head` with the options `leading`. They end with this process.

    The pool restarts a worker that crashes. Its run resumes from its checkpoint and counts the crashes.
    """

    def __init__(
        self,
        path: Path,
        slots: list[devices.Device],
        *,
        experiment: int | None = None,
        drain: bool = True,
        min_free: int | None = None,
        notify: str | None = None,
        head: "Address | None" = None,
        leading: Sequence[str] = (),
    ) -> None:
        self.path = path.absolute()
        self._loading: sqlite3.Connection | None = None  # of the thread that records loads
        self._name = f"pool-{processes.mark()}.log"
        with closing(database.writer(self.path, make=False)) as connection:
            self._file = database.file_of(connection)
            self._folder = Folder.followed(database.files_folder(self.path))
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.id = workers.open_pool(connection, str(self.log))
        wishes = ["--drain"] if drain else []
        wishes += ["--min-free", str(min_free)] if min_free is not None else []
        wishes += ["--notify", notify] if notify else []
        common = ["--db", str(self.path), "--pool", str(self.id), *wishes]
        lead = [*processes.python("engine.desk.head"), *common, *naming("--listen", head), *leading] if head else []
        common += ["--log", str(self.log)] + (["--experiment", str(experiment)] if experiment is not None else [])
        self._begin(common, slots, [lead] if lead else [])

    def _begin(self, options: list[str], slots: list[devices.Device], others: Iterable[list[str]] = ()) -> None:
        """Start a worker with these options on each of the slots, and other processes, and look after them."""
        self.devices, self.restarts = slots, 0
        self._ending, self._changing = False, threading.Lock()  # held while processes are started or told to end
        parent, environment = ["--parent", str(os.getpid())], processes.environment()
        self._slots = [self._launched([*command, *parent], environment) for command in others]
        if slots:
            decoders = devices.decoders(len(slots), slots[0].split)
            command = [*processes.python("engine.workers.worker"), *options, *parent, "--decoders", str(decoders)]
            self._slots += [self._open(command, device) for device in slots]
        threading.Thread(target=self._tend, daemon=True).start()

    def _open(self, command: list[str], device: devices.Device) -> _Slot:
        environment = {**processes.environment(), "OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        name = devices.APPLE if device.name == devices.APPLE else "cpu"
        if device.visible is not None:  # each process sees its own cards, the first of which it calls cuda:0
            environment[device.variable], name = device.visible, "cuda:0"
        command = [*command, "--device", name, "--label", device.name, "--split", str(device.split)]
        if device.visible is not None and self.devices.count(device) > 1:
            command += ["--shared-device"]
        return self._launched(command, environment)

    def _launched(self, command: list[str], environment: dict[str, str]) -> _Slot:
        return _Slot(command, environment, self._start(command, environment), time.monotonic())

    def _start(self, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def log(self) -> Path:
        """The file with its workers' output."""
        return self._folder.path / "logs" / self._name

    @property
    def running(self) -> int:
        """The number of slots whose process runs or will be restarted."""
        return sum(slot.process.poll() is None or self._replaceable(slot) for slot in self._slots)

    @property
    def crashed(self) -> int:
        """The number of slots that are empty because their workers crashed repeatedly."""
        ended = (slot for slot in self._slots if slot.process.poll() not in (None, 0, processes.HALTED))
        return sum(not self._replaceable(slot) for slot in ended)

    @property
    def halted(self) -> str | None:
        """Why workers ended that could not use the database, its files or their disk; None if none did."""
        if not any(slot.process.poll() == processes.HALTED for slot in self._slots):
            return None
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        said = (line.removeprefix(processes.HALT) for line in reversed(lines) if line.startswith(processes.HALT))
        return next(said, f"see {self.log}")

    def _replaceable(self, slot: _Slot) -> bool:
        ended = slot.process.poll()
        if ended in (None, 0, processes.HALTED) or self._ending or slot.crashes >= CRASHES_ALLOWED:
            return False
        return self._usable()

    def _usable(self) -> bool:
        """Whether the database is still at its path, so that a new worker would use the same one."""
        return database.lies_at(self.path, self._file)

    def _tend(self) -> None:
        """Restart crashed workers and record the load of the host and its cards, until all workers have ended."""
        meter, sampled = devices.Meter(self.devices), 0.0
        while self.running and not self._ending:
            time.sleep(TEND_SECONDS)
            for slot in self._slots:
                with self._changing, suppress(OSError):  # no memory for another process
                    if self._replaceable(slot):
                        self._replace(slot)
            if time.monotonic() - sampled >= workers.LOAD_SECONDS and self._usable():
                sampled = time.monotonic()
                with suppress(sqlite3.Error, InputError, OSError):  # locked: the next sample comes soon
                    self._record(meter.read())
        self._leave()

    def _record(self, loads: list[devices.Load]) -> None:
        """Record a sample of the host's load."""
        self._loading = self._loading or database.writer(self.path, make=False)
        workers.record_loads(self._loading, socket.gethostname(), loads)

    def _leave(self) -> None:
        if self._loading:
            self._loading.close()

    def _replace(self, slot: _Slot) -> None:
        ended = slot.process.poll()
        if ended in (processes.RENEWED, processes.UNRECORDED):
            if ended == processes.UNRECORDED:
                slot.command = [*slot.command, "--unrecorded"]
            slot.process, slot.started = self._start(slot.command, slot.environment), time.monotonic()
            return
        young = time.monotonic() - slot.started < YOUNG_SECONDS
        slot.crashes = slot.crashes + 1 if young else 1
        if slot.crashes < CRASHES_ALLOWED:
            self.restarts += 1
            slot.process, slot.started = self._start(slot.command, slot.environment), time.monotonic()

    def stop(self) -> None:
        """Ask all workers to save a checkpoint and end, and wait for them: at most one step of training."""
        with self._changing:
            self._ending = True
            for slot in self._slots:
                slot.process.terminate()
        self.close()

    def kill(self) -> None:
        """Kill all workers. Their work since the last checkpoint is lost."""
        with self._changing:
            self._ending = True
            for slot in self._slots:
                slot.process.kill()
        self.close()

    def close(self) -> None:
        """Wait for the processes to end, then record the end of the pool."""
        for slot in self._slots:
            slot.process.wait()
        if not self._usable():  # its workers have said so, to the one that they had open
            return
        with closing(database.writer(self.path, make=False)) as connection:
            workers.close_pool(connection, self.id)
            leases.give_back(connection, self.id)


def naming(option: str, head: "Address") -> list[str]:
    """The command-line options that give a process the address of a head."""
    return [option, str(head), *(["--keys", str(head.keys)] if head.keys else [])]
