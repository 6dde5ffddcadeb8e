"""A worker process: claims runs for one device, and trains them. See `engine.workers.pool`."""

import argparse
import faulthandler
import gc
import json
import os
import signal
import sqlite3
import sys
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import torch

from engine.desk.desk import Desk, HeldUp, Room, Wish
from engine.desk.local import LocalDesk
from engine.desk.remote import HeadLost, RemoteDesk, greeting
from engine.desk.wire import Address
from engine.errors import InputError
from engine.machine import memory, processes
from engine.models import trust
from engine.store import damage, database, leases, records
from engine.store.waiting import jittered
from engine.training import graphs, profiles
from engine.training.team import RankLost
from engine.workers.heartbeat import Heartbeat
from engine.workers.run import CHECKPOINT_SECONDS, Missing, RunContext, Stopped, execute

IDLE_SECONDS = 0.25  # between two looks at a queue that has nothing to give
BACK_OFF_SECONDS = 5.0  # after the disk was full, or the database locked for longer than is waited
SPENT_SECONDS = 5.0  # that a process which trains no more waits for its heartbeat to end
MIN_FREE = 2**30  # bytes of the disk, below which nothing is claimed


class StorageFault(Exception):
    """The database, its files or their disk cannot be used. The run is not at fault and returns to the queue."""


class Worker:
    """Claims and trains runs until it is stopped or, with `drain`, until no run is left."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.label = options, options.label or options.device
        device = torch.device(options.device)
        torch.zeros(1, device=device)  # a device that cannot be used ends the worker here, not every run in the queue
        self.desk = _desk(options, self.label, profiles.device_name(device))
        self.context = RunContext(
            self.desk, device, options.decoders, self.label, self._must_stop, options.checkpoint_seconds, self._caught
        )
        self.heart = Heartbeat(self.context, options.parent)
        if isinstance(self.desk, RemoteDesk):
            self.desk.stopping = self.heart.stop.is_set
        self.untrusted: dict[str, trust.Untrusted] = {}  # by model, whose runs are left alone

    def _must_stop(self) -> bool:
        claim, heart = self.heart.claim, self.heart
        if claim is not None and heart.lost is claim:
            raise records.StaleClaim(claim.run.digest)
        return (claim is not None and heart.unwanted is claim) or heart.stop.is_set()

    def work(self) -> None:
        """Train run after run. Raises StorageFault if the database, its files or their disk cannot be used."""
        self.heart.start()
        try:
            while not (self.heart.stop.is_set() or processes.spent()):
                try:
                    if self._train_next():
                        continue
                    if self.options.drain and not self.desk.unfinished(self.untrusted):
                        break
                    self.heart.stop.wait(IDLE_SECONDS)
                except (sqlite3.Error, OSError) as error:
                    self._wait_for_better_times(error)
            if self.heart.gone:
                where = self.desk.folder.path
                raise StorageFault(f"{self.heart.gone}: its runs have gone back, with checkpoints in {where}")
        finally:
            self.desk.end()
            self.heart.end(None if processes.spent() is None else SPENT_SECONDS)

    def _train_next(self) -> bool:
        """Claim a run and train it; False if no run can start."""
        self.untrusted = {model: said for model, said in self.untrusted.items() if not trust.trusted(said.source)}
        self.heart.message = None
        try:
            claim = self.desk.claim(self.untrusted, self._room)
        except HeldUp as why:
            self.heart.message = str(why)
            return False
        if claim is None:
            self.heart.message = next(map(str, self.untrusted.values()), None)
            return False
        self.heart.claim = claim
        try:
            self._train(claim)
        finally:
            self.heart.claim = self.context.under_way = None
        self.desk.after(claim)
        return True

    def _room(self) -> Room:
        """The free memory of the device."""
        torch.cuda.empty_cache()  # what runs before left to this process is free, too
        free: int = torch.cuda.mem_get_info(self.context.device)[0]
        return Room(free, torch.cuda.memory_reserved())

    def _wait_for_better_times(self, error: sqlite3.Error | OSError) -> None:
        """Wait after a full disk or a locked database. Results that could not be written are trained again.

        Raises StorageFault for errors that do not pass.
        """
        if not self.desk.passes(error):
            self.heart.look_for_desk()
            where = self.options.db or self.desk.folder.path
            raise StorageFault(self.heart.gone or f"{where} and its files cannot be used: {error}") from error
        self.heart.message = f"cannot write ({error}): waiting"
        processes.say(self.heart.message)
        self.heart.stop.wait(jittered(BACK_OFF_SECONDS))

    def _train(self, claim: leases.Claim) -> None:
        digest = claim.run.digest
        processes.say(f"{database.now()} run {digest}, claim {claim.number}")
        try:
            execute(claim, self.context)
        except Stopped:
            self.desk.release(claim)
        except records.StaleClaim:
            processes.say(f"run {digest} was taken from this worker")
        except RankLost as lost:
            self._stop_if_damaged(claim, lost)
            processes.say(f"run {digest} goes back: {lost}")
            self.desk.lost(claim)
        except trust.Untrusted as error:
            processes.say(f"run {digest} goes back: {error}")
            self.untrusted[claim.run.training.model] = error
            self.desk.release(claim)
        except Missing as lost:
            processes.say(f"{lost}: training run {lost.producer.digest} again, then {digest}")
            self.desk.send_back(claim, lost.producer.digest)
        except Exception as error:
            if self.desk.is_fault(error):
                self.desk.release(claim)
                raise
            self._stop_if_damaged(claim, error)
            self._fail(claim, error)

    def _stop_if_damaged(self, claim: leases.Claim, error: Exception) -> None:
        """If the database is damaged, which may explain the error, return the run to the queue and raise Damaged."""
        if not memory.ran_out(error) and (damaged := self.desk.damage()):
            self.desk.release(claim)
            raise damaged from error

    def _fail(self, claim: leases.Claim, error: Exception) -> None:
        said = str(error) if isinstance(error, InputError) else traceback.format_exc()
        processes.say(f"run {claim.run.digest} failed: {said}")
        try:
            if memory.ran_out(error):
                self._out_of_memory(claim, error)
                for each in memory.causes(error):
                    each.__traceback__ = None  # its frames hold the tensors
                self.context.under_way = None
                if not processes.spent():  # else it may wait for a device for ever
                    self.context.free_memory()
            else:
                self.desk.failed(claim, said)
        except records.StaleClaim:
            return
        self.desk.drop_checkpoint(claim)
        if not processes.spent():
            torch.zeros(1, device=self.context.device)  # after some errors a GPU takes nothing more from a process

    def _out_of_memory(self, claim: leases.Claim, error: Exception) -> None:
        training = claim.run.training
        self.desk.out_of_memory(
            claim,
            f"out of memory on {self.label}, tried once more alone: {training.model} x {training.width:g} with"
            f" batches of {training.batch_size} does not fit; queue it with a smaller batch size or width,"
            f" or on a larger device\n{error}",
        )

    def _caught(self, claim: leases.Claim, error: Exception) -> None:
        """Record the end of a run while the main thread hangs in a call to its device; runs in another thread."""
        if memory.ran_out(error):
            self._out_of_memory(claim, error)
        else:
            self.desk.lost(claim)


def _desk(options: argparse.Namespace, label: str, name: str) -> Desk:
    if options.head:
        address = Address.parse(options.head, options.keys)
        hello = greeting(label, options.split, options.shared_device, options.log or "", name)
        return RemoteDesk(address, hello, options.cache, paths=options.paths, trust_models=options.trust_models)
    wish = Wish(options.experiment, options.split, options.min_free, options.shared_device)
    return LocalDesk.of_worker(options.db, wish, label, options.pool, options.log, options.notify, name)


def parser() -> argparse.ArgumentParser:
    """The command line with which `engine.workers.pool` starts workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=lambda path: Path(path).absolute())  # while the folder is there
    parser.add_argument("--head", help="the address of the head of a cluster, in place of a database")
    parser.add_argument("--keys", type=Path, help="the folder of keys for it")
    parser.add_argument("--cache", type=Path, help="the folder for what comes from it")
    parser.add_argument("--paths", type=json.loads, default={}, help="JSON: paths there, and what they are here")
    parser.add_argument("--trust-models", action="store_true", help="run models that it sends")
    parser.add_argument("--device", required=True, help="as torch calls it in this process")
    parser.add_argument("--label", help="what the device is called in the records")
    parser.add_argument("--experiment", type=int)
    parser.add_argument("--parent", type=int, default=0, help="the pid with whose end this process ends")
    parser.add_argument("--pool", type=int)
    parser.add_argument("--log")
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--shared-device", action="store_true", help="claim only runs that fit next to those of others")
    parser.add_argument("--min-free", type=int, default=MIN_FREE, help="bytes")
    parser.add_argument("--notify", help="a shell command, called when an experiment has ended")
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    parser.add_argument("--split", type=int, default=1, help="claim only runs whose batches are split over N devices")
    parser.add_argument("--decoders", type=int, default=1, help="processes that decode streamed images")
    parser.add_argument("--unrecorded", action="store_true", help="take steps as they are, not as CUDA graphs")
    return parser


def main() -> None:
    """Run a worker as the command line describes."""
    options = parser().parse_args()
    faulthandler.enable()
    graphs.Cuda.possible = not options.unrecorded
    try:
        worker = begun(options)
    except (InputError, HeadLost) as error:
        _halt(error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops its workers
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda *_: worker.heart.stop.set())
    with closing(worker.desk):
        try:
            with worker.desk.explained():
                worker.work()
        except (StorageFault, HeadLost, damage.Damaged) as fault:
            _halt(fault)
    if (code := processes.spent()) is not None:  # nothing is torn down: what is broken could wait for ever
        sys.stdout.flush()
        os._exit(0 if worker.heart.stop.is_set() else code)
    gc.freeze()  # what Python would look through once more on its way out: all of torch, for half a second


def begun(options: argparse.Namespace) -> Worker:
    """Make the worker once the database is unlocked. Raises InputError if the database cannot be used."""
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
