"""A worker process: claims runs for one device, trains them, and keeps its leases. See `engine.pool`."""

import argparse
import faulthandler
import os
import signal
import socket
import sqlite3
import threading
import time
import traceback
from contextlib import closing
from pathlib import Path

import psutil
import torch

from engine.errors import InputError
from engine.run import CHECKPOINT_SECONDS, Missing, Stopped, Workplace, execute
from engine.store import claims, database, records
from engine.store.files import Folder

IDLE_SECONDS = 0.25  # between two looks at a queue that has nothing to give
BACK_OFF_SECONDS = 5.0  # after the database was locked by someone else for longer than SQLite waits


class Worker:
    """Claims and trains until it is stopped, or until nothing is left to do if it `drain`s."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.path, self.experiment, self.parent = options.db, options.experiment, options.parent
        self.stopping = threading.Event()
        # Set by the thread that renews the lease, each to the claim of which it found that out.
        self.lost: claims.Claim | None = None  # gone to another worker
        self.unwanted: claims.Claim | None = None  # no active experiment wants its run any more
        self.current: claims.Claim | None = None
        device = torch.device(options.device)
        torch.zeros(1, device=device)  # a device that cannot be used ends the worker here, not every run in the queue
        self.connection = database.writer(self.path)
        self.id = self._register(options.label or options.device)
        self.place = Workplace(
            self.connection,
            Folder(database.files_folder(self.path)),
            device,
            options.label or options.device,
            self._must_stop,
            options.checkpoint_seconds,
        )

    def _must_stop(self) -> bool:
        claim = self.current
        if claim is not None and self.lost is claim:
            raise records.StaleClaim(claim.run.digest)
        return (claim is not None and self.unwanted is claim) or self.stopping.is_set()

    def _register(self, device: str) -> int:
        me = psutil.Process()
        row = (me.pid, me.create_time(), socket.gethostname(), device, database.now(), database.now())
        worker = self.connection.execute(
            "INSERT INTO workers (pid, process_started, host, device, started_at, heartbeat_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            row,
        ).lastrowid
        assert worker is not None
        return worker

    def work(self, drain: bool) -> None:
        """Train run after run."""
        threading.Thread(target=self._keep_lease, daemon=True).start()
        while not self.stopping.is_set():
            try:
                if self._train_next():
                    continue
                if drain and not claims.unfinished(self.connection, self.experiment):
                    return
                self.stopping.wait(IDLE_SECONDS)
            except sqlite3.OperationalError as error:
                print(f"the database cannot be used now: {error}", flush=True)
                self.stopping.wait(BACK_OFF_SECONDS)

    def _train_next(self) -> bool:
        """Claim a run and train it; False if there is none that can start."""
        take_over(self.connection)
        self.current = claims.claim(self.connection, self.id, self.experiment)
        if self.current is None:
            return False
        try:
            self._train(self.current)
        finally:
            self.current = None
        return True

    def _train(self, claim: claims.Claim) -> None:
        digest = claim.run.digest
        try:
            execute(claim, self.place)
        except Stopped:
            claims.release(self.connection, claim)
        except records.StaleClaim:
            print(f"run {digest} was taken over by another worker", flush=True)
        except Missing as lost:
            print(f"{lost}: training run {lost.producer.digest} again, then {digest}", flush=True)
            claims.send_back(self.connection, claim, lost.producer.digest)
        except sqlite3.OperationalError:
            claims.release(self.connection, claim)
            raise
        except Exception as error:
            said = str(error) if isinstance(error, InputError) else traceback.format_exc()
            print(f"run {digest} failed: {said}", flush=True)
            self._record_failure(claim, said)
            torch.zeros(1, device=self.place.device)  # after some errors a GPU takes nothing more from this process

    def _record_failure(self, claim: claims.Claim, said: str) -> None:
        try:
            records.failed(self.connection, claim, said)
        except records.StaleClaim:
            return
        self.place.folder.checkpoint(claim.run.digest).unlink(missing_ok=True)

    def _keep_lease(self) -> None:
        """Renew the lease in hand and watch for the end of the parent process, until this process ends."""
        renewed = 0.0
        while True:
            time.sleep(1.0)
            if self.parent and os.getppid() != self.parent:
                self.stopping.set()
            if time.monotonic() - renewed >= claims.RENEWAL_SECONDS:
                try:
                    self._renew()
                    renewed = time.monotonic()
                except (sqlite3.Error, InputError) as error:  # locked by someone else; the lease outlasts some of that
                    print(f"the lease could not be renewed: {error}", flush=True)

    def _renew(self) -> None:
        claim = self.current
        with closing(database.writer(self.path)) as connection:
            connection.execute("UPDATE workers SET heartbeat_at = ? WHERE id = ?", (database.now(), self.id))
            if claim is None:
                return
            if not claims.renew(connection, claim):
                self.lost = claim
            elif not claims.wanted(connection, claim):
                self.unwanted = claim


def take_over(connection: sqlite3.Connection) -> None:
    """Put runs back into the queue whose worker's process is gone, or whose lease has run out."""
    host = socket.gethostname()
    for holder in claims.holders(connection):
        if holder["expired"] or (holder["host"] == host and _gone(holder)):
            claims.reclaim(connection, holder["run_id"], holder["claim"])


def _gone(holder: sqlite3.Row) -> bool:
    """Whether a worker's process has ended. Its pid may be another's by now, which started at another time.

    A start time that differs is believed only of a worker that is silent too: start times are told relative to the
    clock, and move with it when that is set.
    """
    try:
        process = psutil.Process(holder["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return bool(abs(process.create_time() - holder["process_started"]) >= 1.0 and holder["silent"])
    except psutil.NoSuchProcess:
        return True


def main() -> None:
    """The command line that `engine.pool` starts workers with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--device", required=True, help="as torch calls it in this process")
    parser.add_argument("--label", help="what the device is called in the records")
    parser.add_argument("--experiment", type=int)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    options = parser.parse_args()
    faulthandler.enable()
    worker = Worker(options)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops its workers
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda *_: worker.stopping.set())
    with closing(worker.connection):  # the last to close it empties the write-ahead log into the database
        worker.work(options.drain)


if __name__ == "__main__":
    main()
