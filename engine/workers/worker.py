"""A worker process: claims runs for one device, and trains them. See `engine.workers.pool`."""

import argparse
import errno
import faulthandler
import gc
import os
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import NoReturn

import torch

from engine.errors import InputError
from engine.machine import memory, processes
from engine.models import trust
from engine.store import damage, database, leases, records, workers
from engine.store.files import Folder
from engine.store.waiting import jittered
from engine.training import graphs
from engine.training.team import RankLost
from engine.workers import hooks
from engine.workers.heartbeat import Heartbeat
from engine.workers.run import CHECKPOINT_SECONDS, Missing, RunContext, Stopped, execute

IDLE_SECONDS = 0.25  # between two looks at a queue that has nothing to give
BACK_OFF_SECONDS = 5.0  # after the disk was full, or the database locked for longer than is waited
BUSY_SECONDS = 90.0  # that another program may lock the database, and training only waits
SPENT_SECONDS = 5.0  # that a process which trains no more waits for its heartbeat to end
MIN_FREE = 2**30  # bytes of the disk, below which nothing is claimed
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_BROKEN = (errno.EIO, errno.EROFS, errno.ESTALE)


class StorageFault(Exception):
    """The database, its files or their disk cannot be used. That is no run's fault: the run goes back."""


class Worker:
    """Claims and trains until it is stopped, or until nothing is left to do if it `drain`s."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.label = options, options.label or options.device
        device = torch.device(options.device)
        torch.zeros(1, device=device)  # a device that cannot be used ends the worker here, not every run in the queue
        self.connection = database.writer(options.db, BUSY_SECONDS, make=False)
        self.id = workers.open_worker(self.connection, self.label, options.pool, options.log)
        folder = Folder.followed(database.files_folder(options.db))
        self.context = RunContext(
            self.connection, folder, device, self.label, self._must_stop, options.checkpoint_seconds, options.decoders
        )
        self.context.caught = self._caught
        self.heart = Heartbeat(options.db, self.id, self.context, options.parent)
        self.unreleased: leases.Claim | None = None
        self.untrusted: dict[str, trust.Untrusted] = {}  # by model, whose runs are left alone

    def _must_stop(self) -> bool:
        claim, heart = self.heart.claim, self.heart
        if claim is not None and heart.lost is claim:
            raise records.StaleClaim(claim.run.digest)
        return (claim is not None and heart.unwanted is claim) or heart.stop.is_set()

    def work(self) -> None:
        """Train run after run. Raises StorageFault where the database, its files or their disk cannot be used."""
        self.heart.start()
        try:
            while not (self.heart.stop.is_set() or processes.spent()):
                try:
                    if self._train_next():
                        continue
                    if self.options.drain and not leases.unfinished(
                        self.connection, self.options.experiment, self.options.split, self.untrusted
                    ):
                        break
                    self.heart.stop.wait(IDLE_SECONDS)
                except (sqlite3.Error, OSError) as error:
                    self._wait_for_better_times(error)
            if self.heart.gone:
                where = self.context.folder.path
                raise StorageFault(f"{self.heart.gone}: its runs have gone back, with checkpoints in {where}")
        finally:
            with suppress(sqlite3.Error):  # full, locked or lost: its process is gone all the same
                self.connection.execute("UPDATE workers SET ended_at = ? WHERE id = ?", (database.now(), self.id))
            self.heart.end(None if processes.spent() is None else SPENT_SECONDS)

    def _train_next(self) -> bool:
        """Claim a run and train it; False if there is none that can start."""
        if self.unreleased:
            leases.release(self.connection, self.unreleased)
            self.unreleased = None
        take_over(self.connection)
        drop_stale_checkpoints(self.connection, self.context.folder)
        self.heart.message = self._obstacle()
        if self.heart.message:
            return False
        self.untrusted = {model: said for model, said in self.untrusted.items() if not trust.trusted(said.source)}
        claim = self._claim()
        if claim is None:
            self.heart.message = self.heart.message or next(map(str, self.untrusted.values()), None)
            return False
        self.heart.claim = claim
        try:
            self._train(claim)
        finally:
            self.heart.claim = self.context.under_way = None
        if self.options.notify:
            hooks.notify(self.connection, self.options.db, self.options.notify, claim.run_id)
        return True

    def _obstacle(self) -> str | None:
        """Why no run should be claimed now, though one may be ready."""
        free = shutil.disk_usage(self.options.db.parent).free
        if free < self.options.min_free:
            has, needs = (f"{size / 2**30:.1f} GiB" for size in (free, self.options.min_free))
            return f"the disk has {has} left, below the minimum of {needs}: make room, or lower the minimum"
        return self._reason_to_wait() if self.options.shared_device else None

    def _reason_to_wait(self) -> str | None:
        torch.cuda.empty_cache()  # what runs before left to this process is free, too
        free = torch.cuda.mem_get_info(self.context.device)[0]
        return leases.reason_to_wait(
            self.connection, self.id, free, self.options.experiment, self.options.split, self.untrusted
        )

    def _claim(self) -> leases.Claim | None:
        """The next run, on a shared device if there still is room for it: two workers are not told so of the same."""
        with database.transaction(self.connection) if self.options.shared_device else nullcontext():
            if self.options.shared_device:
                self.heart.message = self._reason_to_wait()
                if self.heart.message:
                    return None
                # What the run before took is free, and not taken by the next one yet.
                workers.report(self.connection, self.id, {"device_memory": torch.cuda.memory_reserved()})
            return leases.claim(self.connection, self.id, self.options.experiment, self.options.split, self.untrusted)

    def _wait_for_better_times(self, error: sqlite3.Error | OSError) -> None:
        """The disk is full, or the database is locked: what could not be written will be trained again.

        Raises StorageFault for what time does not mend.
        """
        if not _passes(error):
            self.heart.look_for_database()
            raise StorageFault(self.heart.gone or f"{self.options.db} and its files cannot be used: {error}") from error
        self.heart.message = f"cannot write ({error}): waiting"
        processes.say(self.heart.message)
        self.heart.stop.wait(jittered(BACK_OFF_SECONDS))

    def _train(self, claim: leases.Claim) -> None:
        digest = claim.run.digest
        processes.say(f"{database.now()} run {digest}, claim {claim.number}")
        try:
            execute(claim, self.context)
        except Stopped:
            self._release(claim)
        except records.StaleClaim:
            processes.say(f"run {digest} was taken over by another worker")
        except RankLost as lost:
            self._stop_if_damaged(claim, lost)
            processes.say(f"run {digest} goes back: {lost}")
            records.lost(self.connection, claim.run_id, claim.number)
        except trust.Untrusted as error:
            processes.say(f"run {digest} goes back: {error}")
            self.untrusted[claim.run.training.model] = error
            self._release(claim)
        except Missing as lost:
            processes.say(f"{lost}: training run {lost.producer.digest} again, then {digest}")
            leases.send_back(self.connection, claim, lost.producer.digest)
        except Exception as error:
            if self._is_storage_fault(error):
                self._release(claim)
                raise
            self._stop_if_damaged(claim, error)
            self._fail(claim, error)

    def _stop_if_damaged(self, claim: leases.Claim, error: Exception) -> None:
        """Give the run back and raise Damaged where the database is: whatever the error says, it may be the reason."""
        if not memory.ran_out(error) and (found := damage.first(self.options.db)):
            self._release(claim)
            raise damage.Damaged(self.options.db, found) from error

    def _is_storage_fault(self, error: Exception) -> bool:
        """Whether an error is one of the database, its files or their disk, and not of the run or its data set."""
        if isinstance(error, OSError):
            if error.filename is None:
                return error.errno in DISK_FULL + DISK_BROKEN
            folder, name = self.context.folder, Path(os.fsdecode(error.filename))
            return any(
                name.is_relative_to(known) for known in (folder.path, folder.given)
            )  # it may have moved just now
        return isinstance(error, sqlite3.Error)

    def _release(self, claim: leases.Claim) -> None:
        """Give a run back; if the database cannot be written now, before the next is claimed."""
        self.unreleased = claim
        leases.release(self.connection, claim)
        self.unreleased = None

    def _fail(self, claim: leases.Claim, error: Exception) -> None:
        said = str(error) if isinstance(error, InputError) else traceback.format_exc()
        processes.say(f"run {claim.run.digest} failed: {said}")
        try:
            if memory.ran_out(error):
                self._out_of_memory(self.connection, claim, error)
                for each in memory.wake(error):
                    each.__traceback__ = None  # its frames hold the tensors
                self.context.under_way = None
                if not processes.spent():  # else it may wait for a device for ever
                    self.context.free_memory()
            else:
                records.failed(self.connection, claim, said)
        except records.StaleClaim:
            return
        self.context.folder.drop_checkpoint(claim.run.digest)
        if not processes.spent():
            torch.zeros(1, device=self.context.device)  # after some errors a GPU takes nothing more from a process

    def _out_of_memory(self, connection: sqlite3.Connection, claim: leases.Claim, error: Exception) -> None:
        training = claim.run.training
        records.out_of_memory(
            connection,
            claim,
            f"out of memory on {self.label}, tried once more alone: {training.model} x {training.width:g} with"
            f" batches of {training.batch_size} does not fit; queue it with a smaller batch size or width,"
            f" or on a larger device\n{error}",
        )

    def _caught(self, claim: leases.Claim, error: Exception) -> None:
        """Record what became of a run, in another thread than the one that is caught in a call to its device."""
        with closing(database.writer(self.options.db, BUSY_SECONDS, make=False)) as connection:
            if memory.ran_out(error):
                self._out_of_memory(connection, claim, error)
            else:
                records.lost(connection, claim.run_id, claim.number)


def _passes(error: sqlite3.Error | OSError) -> bool:
    """Whether the cause of an error may go without anybody's help: a full disk, a locked database."""
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in ("locked", "full"))


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


def parser() -> argparse.ArgumentParser:
    """The command line that `engine.workers.pool` starts workers with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=lambda path: Path(path).absolute(), required=True)  # while the folder is there
    parser.add_argument("--device", required=True, help="as torch calls it in this process")
    parser.add_argument("--label", help="what the device is called in the records")
    parser.add_argument("--experiment", type=int)
    parser.add_argument("--parent", type=int, default=0, help="the pid with whose end this process ends")
    parser.add_argument("--pool", type=int)
    parser.add_argument("--log")
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--shared-device", action="store_true", help="claim only what fits beside others' runs")
    parser.add_argument("--min-free", type=int, default=MIN_FREE, help="bytes")
    parser.add_argument("--notify", help="a shell command, called when an experiment has ended")
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    parser.add_argument("--split", type=int, default=1, help="claim only runs whose batches are split over so many")
    parser.add_argument("--decoders", type=int, default=1, help="processes that decode streamed images")
    parser.add_argument("--unrecorded", action="store_true", help="take steps as they are, not as CUDA graphs")
    return parser


def main() -> None:
    """Work for a pool, as its command line says."""
    options = parser().parse_args()
    faulthandler.enable()
    graphs.Cuda.possible = not options.unrecorded
    try:
        worker = begun(options)
    except InputError as error:
        _halt(error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops its workers
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda *_: worker.heart.stop.set())
    with closing(worker.connection):  # the last to close it empties the write-ahead log into the database
        try:
            with damage.explained(options.db):
                worker.work()
        except (StorageFault, damage.Damaged) as fault:
            _halt(fault)
    if (code := processes.spent()) is not None:  # nothing is torn down: what is broken could wait for ever
        sys.stdout.flush()
        os._exit(0 if worker.heart.stop.is_set() else code)
    gc.freeze()  # what Python would look through once more on its way out: all of torch, for half a second


def begun(options: argparse.Namespace) -> Worker:
    """The worker, once the database is free. Raises InputError where it cannot be used."""
    while True:
        try:
            return Worker(options)
        except database.Busy as busy:
            processes.say(f"{busy}: waiting")
        time.sleep(jittered(BACK_OFF_SECONDS))
        if options.parent and os.getppid() != options.parent:
            sys.exit()


def _halt(fault: Exception) -> NoReturn:
    processes.say(f"{processes.HALT}{fault}")
    sys.exit(processes.HALTED)


if __name__ == "__main__":
    main()
