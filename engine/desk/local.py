"""The desk that is the database itself, on a disk of this machine."""

import errno
import os
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

BUSY_SECONDS = 90.0  # that another program may lock the database, and training only waits
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_BROKEN = (errno.EIO, errno.EROFS, errno.ESTALE)


class LocalDesk:
    """What `Desk` says, for one worker, by `connection` in the thread that made it and by others elsewhere."""

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
        cls, path: Path, wish: Wish, device: str, pool: int | None, log: str | None, notify: str | None
    ) -> "LocalDesk":
        """The desk of this process, which is recorded as a worker. Raises InputError where the database is no use."""
        connection = database.writer(path, BUSY_SECONDS, make=False)
        worker = workers.open_worker(connection, device, pool, log)
        return cls(connection, Folder.followed(database.files_folder(path)), worker, wish, notify)

    def claim(self, without: Collection[str], room: Callable[[], Room]) -> Claim | None:
        """The next run. Two workers on one device are not told of the same room there."""
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
        # What the run before took is free, and not taken by the next one yet.
        workers.report(self.connection, self.worker, {"device_memory": room.reserved})

    def unfinished(self, without: Collection[str]) -> bool:
        """Whether a run that this worker could take is running, or waiting to be."""
        return leases.unfinished(self.connection, self.wish.experiment, self.wish.split, without)

    def release(self, claim: Claim) -> None:
        """Give a run back; if the database cannot be written now, before the next is claimed."""
        self._unreleased = claim
        leases.release(self.connection, claim)
        self._unreleased = None

    def lost(self, claim: Claim) -> None:
        """Give the run back because a process ended in it."""
        with self._here() as connection:
            records.lost(connection, claim.run_id, claim.number)

    def send_back(self, claim: Claim, producer: str) -> None:
        """Have another run trained again, then this one."""
        leases.send_back(self.connection, claim, producer)

    def after(self, claim: Claim) -> None:
        """Call the command of who wants to know of experiments' ends."""
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
        """Record the networks on a line."""
        records.line(self.connection, claim, along)

    def keeps_final(self, claim: Claim) -> bool:
        """Whether the run's final weights are wanted."""
        return records.keeps_final(self.connection, claim)

    def epochs(self, claim: Claim, attempt: int) -> list[Epoch]:
        """The epochs that an attempt has recorded so far."""
        return records.epochs(self.connection, claim, attempt)

    def keep(self, claim: Claim, kind: str, data: bytes, run: str | None = None, lost: str | None = None) -> None:
        """Store a file that the run leaves, and record it."""
        records.file(self.connection, claim, kind, self.folder.put(data), len(data), run, lost)

    def kept(self, run: str, kind: str) -> str | None:
        """The SHA-256 of the file of a kind that a run left, or None."""
        return records.file_of(self.connection, run, kind)

    def is_whole(self, sha256: str | None) -> bool:
        """Whether the file of this SHA-256 is there, and undamaged."""
        return self.folder.is_whole(sha256 or "")

    def layers(self, run: str, rule: Prunable) -> list[str]:
        """The layers of a run that a rule prunes."""
        return records.prunable_layers(self.connection, run, rule)

    def read(self, run: str, kind: str) -> bytes:
        """The file of a kind that a run left. Raises LostFile."""
        return self.folder.get(self.kept(run, kind) or "")

    def location(self, dataset: str) -> str:
        """Where the data set of this identity lies."""
        return records.location_of(self.connection, dataset)

    def model_folder(self, model: str) -> str:
        """Where the source of a person's own model lies."""
        return database.model_folder(self.connection, model)

    def read_checkpoint(self, claim: Claim) -> bytes | None:
        """The run's checkpoint; None if it left none. Raises LostFile."""
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
        """Record that loss or weights were not finite after `epoch`."""
        records.diverged(self.connection, claim, epoch, seconds)

    def failed(self, claim: Claim, error: str) -> None:
        """Record that the run ended with an error."""
        records.failed(self.connection, claim, error)

    def out_of_memory(self, claim: Claim, error: str) -> None:
        """Record that the run ran out of memory."""
        with self._here() as connection:
            records.out_of_memory(connection, claim, error)

    def hold(self, claim: Claim | None) -> Held:
        """Renew the lease, when it is time."""
        connection = self._for_beats()
        if claim is None:
            return Held()
        wanted, ours = leases.is_wanted(connection, claim), True
        if time.monotonic() - self._renewed >= leases.RENEWAL_SECONDS:
            ours = leases.renew(connection, claim)
            self._renewed = time.monotonic()
        return Held(ours, wanted)

    def tell(self, report: Report, reserved: Callable[[], int | None]) -> None:
        """Record what the worker does. No claim comes between reading the memory and telling of it."""
        connection = self._for_beats()
        with database.transaction(connection):
            found = structs.asdict(structs.replace(report, device_memory=reserved()))
            workers.report(connection, self.worker, {**found, "heartbeat_at": database.now()})
        shorten_log(connection, paths.beside(self.path, "-wal"))

    def gone(self) -> str | None:
        """Whether the database is gone from its path: what is written to it then is lost to others."""
        if database.lies_at(self.path, database.file_of(self.connection)):
            return None
        return f"{self.path} was renamed, deleted or replaced while workers had it open"

    def end(self) -> None:
        """Record that the worker ends."""
        with suppress(sqlite3.Error):  # full, locked or lost: its process is gone all the same
            workers.close_worker(self.connection, self.worker)

    def close(self) -> None:
        """The last to close the database empties the write-ahead log into it."""
        self.connection.close()

    def is_fault(self, error: Exception) -> bool:
        """Whether an error is one of the database, its files or their disk, and not of the run or its data set."""
        if isinstance(error, OSError):
            if error.filename is None:
                return error.errno in DISK_FULL + DISK_BROKEN
            name = Path(os.fsdecode(error.filename))
            known = self.folder.path, self.folder.given  # it may have moved just now
            return any(name.is_relative_to(folder) for folder in known)
        return isinstance(error, sqlite3.Error)

    def passes(self, error: Exception) -> bool:
        """Whether a full disk, or a locked database, is why."""
        if isinstance(error, OSError):
            return error.errno in DISK_FULL
        return isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in ("locked", "full"))

    def damage(self) -> Exception | None:
        """The first damage of the database, if there is some."""
        found = damage.first(self.path)
        return damage.Damaged(self.path, found) if found else None

    def explained(self) -> AbstractContextManager[None]:
        """Within it, an error that comes of damage is raised as that damage."""
        return damage.explained(self.path)

    def _for_beats(self) -> sqlite3.Connection:
        """The connection of the heartbeat. What it writes outlives no power cut anyway."""
        if self._beating is None:
            if gone := self.gone():
                raise InputError(gone)
            self._beating = database.writer(self.path, make=False)
            self._beating.execute("PRAGMA synchronous = NORMAL")
        return self._beating

    def close_beats(self) -> None:
        """Close the connection of the heartbeat, in its thread."""
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
    """Put runs back into the queue whose worker's process is gone, or whose lease has run out."""
    for holder in leases.holders(connection):
        if processes.alive(holder) is False:
            records.lost(connection, holder.run_id, holder.claim)
        elif holder.expired:
            leases.reclaim(connection, holder.run_id, holder.claim, lost=False)


def drop_stale_checkpoints(connection: sqlite3.Connection, folder: Folder) -> None:
    """Remove those of runs that are over: a worker was killed before it could, or wrote one late."""
    for digest in folder.checkpointed():
        if records.is_over(connection, digest):
            folder.drop_checkpoint(digest)
