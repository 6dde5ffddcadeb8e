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

from engine.errors import InputError
from engine.run import CHECKPOINT_SECONDS, Stopped, Workplace, execute
from engine.store import database, queue, records
from engine.store.files import Folder

IDLE_SECONDS = 0.25  # between two looks at a queue that has nothing to give
RENEWAL_SECONDS = queue.LEASE_SECONDS / 4


class Worker:
    """Claims and trains until it is stopped, or until nothing is left to do if it `drain`s."""

    def __init__(self, path: Path, device: str, experiment: int | None, parent: int, checkpoint_seconds: float) -> None:
        import torch

        self.path, self.experiment, self.parent = path, experiment, parent
        self.stopping = threading.Event()
        self.lost = False  # the claim in hand has gone to someone else
        self.current: queue.Claim | None = None
        self.connection = database.writer(path)
        self.id = self._register(device)
        folder = Folder(database.files_folder(path))
        self.place = Workplace(
            self.connection,
            folder,
            torch.device(device),
            self._must_stop,
            checkpoint_seconds=checkpoint_seconds,
        )

    def _must_stop(self) -> bool:
        if self.lost and self.current is not None:
            raise records.StaleClaim(self.current.run.digest)
        return self.stopping.is_set()

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
            take_over(self.connection)
            self.current = queue.claim(self.connection, self.id, self.experiment)
            if self.current is not None:
                self._train(self.current)
                self.current = None
            elif drain and not queue.unfinished(self.connection, self.experiment):
                return
            else:
                self.stopping.wait(IDLE_SECONDS)

    def _train(self, claim: queue.Claim) -> None:
        self.lost = False
        try:
            execute(claim, self.place)
        except Stopped:
            queue.release(self.connection, claim)
        except records.StaleClaim:
            print(f"run {claim.run.digest} was taken over by another worker", flush=True)
        except Exception as error:
            said = str(error) if isinstance(error, InputError) else traceback.format_exc()
            print(f"run {claim.run.digest} failed: {said}", flush=True)
            records.failed(self.connection, claim, said)
            self.place.folder.checkpoint(claim.run.digest).unlink(missing_ok=True)

    def _keep_lease(self) -> None:
        """Renew the lease in hand and watch for the end of the parent process, until this process ends."""
        with closing(database.writer(self.path)) as connection:
            renewed = 0.0
            while True:
                time.sleep(1.0)
                if self.parent and os.getppid() != self.parent:
                    self.stopping.set()
                if time.monotonic() - renewed >= RENEWAL_SECONDS:
                    renewed = time.monotonic()
                    self._renew(connection)

    def _renew(self, connection: sqlite3.Connection) -> None:
        claim = self.current
        try:
            connection.execute("UPDATE workers SET heartbeat_at = ? WHERE id = ?", (database.now(), self.id))
            if claim is not None and not queue.renew(connection, claim):
                self.lost = self.current is claim
        except sqlite3.OperationalError:
            pass  # the database is locked by someone else; the lease outlasts several renewals


def take_over(connection: sqlite3.Connection) -> None:
    """Put runs back into the queue whose worker's process is gone, or whose lease has run out."""
    host = socket.gethostname()
    for holder in queue.holders(connection):
        gone = holder["host"] == host and not _alive(holder["pid"], holder["process_started"])
        if gone or holder["expired"]:
            queue.reclaim(connection, holder["run_id"], holder["claim"])


def _alive(pid: int, started: float) -> bool:
    """Whether the process of this pid and start time still runs: the pid alone may be another's by now."""
    try:
        process = psutil.Process(pid)
        return bool(abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """The command line that `engine.pool` starts workers with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--experiment", type=int)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    options = parser.parse_args()
    faulthandler.enable()
    worker = Worker(options.db, options.device, options.experiment, options.parent, options.checkpoint_seconds)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops its workers
    signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
    worker.work(options.drain)


if __name__ == "__main__":
    main()
