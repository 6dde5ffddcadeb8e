"""The desk of workers on the machine of the database."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path

from msgspec import structs

from engine.desk import hooks
from engine.desk.desk import Held, HeldUp, Report, Room, Wish
from engine.errors import InputError
from engine.machine import processes
from engine.recipes import Prunable
from engine.store import damage, database, leases, paths, records, workers
from engine.store.files import Folder
from engine.store.leases import Claim
from engine.store.records import Epoch, Layer, Position
from engine.store.waiting import shorten_log

BUSY_SECONDS = 90.0  # how long training waits while another program locks the database


class LocalDesk:
    """Implements `Desk` for one worker.

    The thread that made it uses `connection`; other threads open connections of their own.
    """

    checkpoint_seconds = 0.0

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Folder,
        worker: int = 0,
        wish: Wish = Wish(),  # noqa: B008 - frozen
        notify: str | None = None,
    ) -> None:
        self.connection, self.folder, self.worker, self.wish, self.command = connection, folder, worker, wish, notify
        self.path = database.path_of(connection)
        self._thread = threading.get_ident()
        self._unreleased: Claim | None = None
        self._beating: sqlite3.Connection | None = None  # the connection of the heartbeat's thread
        self._renewed = time.monotonic()

    @classmethod
    def of_worker(
        cls,
        path: Path,
        wish: Wish,
        device: str,
        pool: int | None,
        log: str | None,
        notify: str | None,
        device_name: str | None = None,
    ) -> "LocalDesk":
        """The desk of this process, which is recorded as a worker. Raises InputError if the database cannot be used."""
        connection = database.writer(path, BUSY_SECONDS, make=False)
        worker = workers.open_worker(connection, device, pool, log, device_name=device_name)
        return cls(connection, Folder.followed(database.files_folder(path)), worker, wish, notify)

    def claim(self, without: Collection[str], room: Callable[[], Room]) -> Claim | None:
        """Claim the next run; None if none is ready. Raises HeldUp.

        Workers on one device never count the same free memory twice.
        """
        if self._unreleased:
            self.release(self._unreleased)
        take_over(self.connection)
        drop_stale_checkpoints(self.connection, self.folder)
        self._check_disk()
        with database.transaction(self.connection) if self.wish.shared_device else nullcontext():
            if self.wish.shared_device:
                self._check_device(without, room())
            return leases.claim(self.connection, self.worker, self.wish.experiment, self.wish.split, without)

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < self.wish.min_free:
            has, needs = (f"{size / 2**30:.1f} GiB" for size in (free, self.wish.min_free))
            raise HeldUp(f"the disk has {has} left, below the minimum of {needs}: make room, or lower the minimum")

    def _check_device(self, without: Collection[str], room: Room) -> None:
        about = self.wish.experiment, self.wish.split, without
        if why := leases.reason_to_wait(self.connection, self.worker, room.free, *about):
            raise HeldUp(why)
        # The memory of the run before is free; the next run has not taken any yet.
        workers.report(self.connection, self.worker, {"device_memory": room.reserved})

    def unfinished(self, without: Collection[str]) -> bool:
        """Whether a run that this worker could claim is running or waiting."""
        return leases.unfinished(self.connection, self.wish.experiment, self.wish.split, without)

    def release(self, claim: Claim) -> None:
        """Return the run to the queue. If the database cannot be written now, `claim` tries again first."""
        self._unreleased = claim
        leases.release(self.connection, claim)
        self._unreleased = None

    def lost(self, claim: Claim) -> None:
        """Return the run to the queue because a process ended while training it."""
        with self._here() as connection:
            records.lost(connection, claim.run_id, claim.number)

    def send_back(self, claim: Claim, producer: str) -> None:
        """Queue the run with digest `producer` again, and this run after it."""
        leases.send_back(self.connection, claim, producer)

    def after(self, claim: Claim) -> None:
        """Call the user's command for each experiment that ended with this run."""
        if self.command:
            hooks.notify(self.connection, self.path, self.command, claim.run_id)

    def begin(
        self, claim: Claim, attempt: int, environment: Mapping[str, object], layers: list[Layer], flops: int
    ) -> None:
        """Record that training begins."""
        records.start(self.connection, claim, attempt, environment, layers, flops)

    def untrained(self, claim: Claim, accuracy: float) -> None:
        """Record the test accuracy before the first step."""
        records.untrained(self.connection, claim, accuracy)

    def epoch(self, claim: Claim, attempt: int, record: Epoch) -> None:
        """Record an epoch."""
        records.epoch(self.connection, claim, attempt, record)

    def line(self, claim: Claim, along: list[Position]) -> None:
        """Record the networks on the line between two trained ones."""
        records.line(self.connection, claim, along)

    def keeps_final(self, claim: Claim) -> bool:
        """Whether the run's final weights are to be stored."""
        return records.keeps_final(self.connection, claim)

    def epochs(self, claim: Claim, attempt: int) -> list[Epoch]:
        """The recorded epochs of an attempt, in order."""
        return records.epochs(self.connection, claim, attempt)

    def keep(self, claim: Claim, kind: str, data: bytes, run: str | None = None, lost: str | None = None) -> None:
        """Store a file of the run and record it."""
        records.file(self.connection, claim, kind, self.folder.put(data), len(data), run, lost)

    def kept(self, run: str, kind: str) -> str | None:
        """The SHA-256 of the file of `kind` that a run stored; None if it stored none."""
        return records.file_of(self.connection, run, kind)

    def is_whole(self, sha256: str | None) -> bool:
        """Whether the file with this SHA-256 exists and is undamaged."""
        return self.folder.is_whole(sha256 or "")

    def layers(self, run: str, rule: Prunable) -> list[str]:
        """The names of the layers of a run that a rule prunes."""
        return records.prunable_layers(self.connection, run, rule)

    def read(self, run: str, kind: str) -> bytes:
        """The content of a file of `kind` of another run. Raises LostFile."""
        return self.folder.get(self.kept(run, kind) or "")

    def location(self, dataset: str) -> str:
        """The path of the data set with this identity."""
        return records.location_of(self.connection, dataset)

    def model_folder(self, model: str) -> str:
        """The folder of a user model's source; empty for a built-in model."""
        return database.model_folder(self.connection, model)

    def read_checkpoint(self, claim: Claim) -> bytes | None:
        """The run's checkpoint; None if it has none. Raises LostFile if the checkpoint is damaged."""
        return self.folder.read_checkpoint(claim.run.digest)

    def write_checkpoint(self, claim: Claim, data: bytes) -> None:
        """Replace the run's checkpoint."""
        self.folder.write_checkpoint(claim.run.digest, data)

    def drop_checkpoint(self, claim: Claim) -> None:
        """Remove the run's checkpoint."""
        self.folder.drop_checkpoint(claim.run.digest)

    def done(self, claim: Claim, accuracy: float, epoch: int | None, seconds: float, device_memory: int | None) -> None:
        """Record the end of the run."""
        records.done(self.connection, claim, accuracy, epoch, seconds, device_memory)

    def diverged(self, claim: Claim, epoch: int, seconds: float) -> None:
        """Record that the loss or a weight was not finite after `epoch`."""
        records.diverged(self.connection, claim, epoch, seconds)

    def failed(self, claim: Claim, error: str) -> None:
        """Record that the run ended with an error."""
        records.failed(self.connection, claim, error)

    def out_of_memory(self, claim: Claim, error: str) -> None:
        """Record that the run ran out of memory."""
        with self._here() as connection:
            records.out_of_memory(connection, claim, error)

    def hold(self, claim: Claim | None) -> Held:
        """Renew the lease if it is due; report the state of the claim."""
        connection = self._for_beats()
        if claim is None:
            return Held()
        wanted, ours = leases.is_wanted(connection, claim), True
        if time.monotonic() - self._renewed >= leases.RENEWAL_SECONDS:
            ours = leases.renew(connection, claim)
            self._renewed = time.monotonic()
        return Held(ours, wanted)

    def tell(self, report: Report, reserved: Callable[[], int | None]) -> None:
        """Record the worker's state. A transaction prevents a claim between reading the memory and recording it."""
        connection = self._for_beats()
        with database.transaction(connection):
            found = structs.asdict(structs.replace(report, device_memory=reserved()))
            workers.report(connection, self.worker, {**found, "heartbeat_at": database.now()})
        shorten_log(connection, paths.beside(self.path, "-wal"))

    def gone(self) -> str | None:
        """Why the database file is no longer at its path, so that nobody would find what is written; None if it is."""
        if database.lies_at(self.path, database.file_of(self.connection)):
            return None
        return f"{self.path} was renamed, deleted or replaced while workers had it open"

    def end(self) -> None:
        """Record that the worker has ended."""
        with suppress(sqlite3.Error):  # full, locked or lost; the ended process shows it too
            workers.close_worker(self.connection, self.worker)

    def close(self) -> None:
        """Close the connection. The last one to close moves the write-ahead log into the database."""
        self.connection.close()

    def is_fault(self, error: Exception) -> bool:
        """Whether the database, its files or their disk caused an error, and not the run or its data set."""
        if isinstance(error, OSError):
            return paths.is_disk_fault(error, self.folder.path, self.folder.given)  # it may have moved just now
        return isinstance(error, sqlite3.Error)

    def passes(self, error: Exception) -> bool:
        """Whether a full disk or a locked database caused an error."""
        if isinstance(error, OSError):
            return error.errno in paths.DISK_FULL
        return isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in ("locked", "full"))

    def damage(self) -> Exception | None:
        """The error for the first damage found in the database; None if it has none."""
        found = damage.first(self.path)
        return damage.Damaged(self.path, found) if found else None

    def explained(self) -> AbstractContextManager[None]:
        """A context that raises an error caused by a damaged database as that damage."""
        return damage.explained(self.path)

    def _for_beats(self) -> sqlite3.Connection:
        """The connection of the heartbeat. It does not sync: its records need not survive a power cut."""
        if self._beating is None:
            if gone := self.gone():
                raise InputError(gone)
            self._beating = database.writer(self.path, make=False)
            self._beating.execute("PRAGMA synchronous = NORMAL")
        return self._beating

    def close_beats(self) -> None:
        """Close the heartbeat's connection; called in its thread."""
        if self._beating:
            self._beating.close()

    @contextmanager
    def _here(self) -> Iterator[sqlite3.Connection]:
        """The connection of this thread."""
        if threading.get_ident() == self._thread:
            yield self.connection
            return
        with closing(database.writer(self.path, BUSY_SECONDS, make=False)) as connection:
            yield connection


def take_over(connection: sqlite3.Connection) -> None:
    """Return runs to the queue whose worker's process has ended or whose lease has run out."""
    for holder in leases.holders(connection):
        if processes.alive(holder) is False:
            records.lost(connection, holder.run_id, holder.claim)
        elif holder.expired:
            leases.reclaim(connection, holder.run_id, holder.claim, lost=False)


def drop_stale_checkpoints(connection: sqlite3.Connection, folder: Folder) -> None:
    """Remove checkpoints of finished runs, which a killed or late worker left."""
    for digest in folder.checkpointed():
        if records.is_over(connection, digest):
            folder.drop_checkpoint(digest)
