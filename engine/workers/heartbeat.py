"""What a worker tells the database every few seconds: that it lives, what it does, and that its claim is still held."""

import os
import sqlite3
import threading
import time
from pathlib import Path

import psutil
import torch

from engine.errors import InputError
from engine.machine import processes
from engine.store import database, leases, paths, workers
from engine.store.waiting import shorten_log
from engine.workers.run import RunContext, UnderWay

BEAT_SECONDS = 2.0


class Heartbeat(threading.Thread):
    """Renews the lease of `claim` and reports what `context` trains, until the process ends.

    A worker has to `stop` when it was asked to, when the process that started it has ended, and when the database is no
    longer where it was: `gone` says so.
    """

    def __init__(self, path: Path, worker: int, context: RunContext, parent: int) -> None:
        super().__init__(daemon=True)
        self.path, self.worker, self.context, self.parent = path, worker, context, parent
        self.claim: leases.Claim | None = None
        self.message: str | None = None  # why nothing is being trained
        self.gone: str | None = None  # that another file, or none, has the place of the database
        self.stop = threading.Event()
        self._over = threading.Event()
        # Each is set to the claim of which this was found out.
        self.lost: leases.Claim | None = None  # gone to another worker
        self.unwanted: leases.Claim | None = None  # no active experiment wants its run any more
        self._renewed = time.monotonic()
        self._looked: tuple[UnderWay | None, float, int] = (None, 0.0, 0)  # at what, when, and its images then

    def run(self) -> None:
        """Beat until the end. A database that is locked for a while is waited for: the lease is longer."""
        connection: sqlite3.Connection | None = None
        while not self._over.wait(BEAT_SECONDS):
            if self.parent and os.getppid() != self.parent:
                self.stop.set()
            self.look_for_database()
            try:
                connection = connection or self._open()
                self._hold(connection)
                self._tell(connection)
                shorten_log(connection, paths.beside(self.path, "-wal"))
            except Exception as error:  # locked, or a device that does not answer: the next beat may succeed
                processes.say(f"no heartbeat: {error}")
        if connection:
            connection.close()

    def end(self, seconds: float | None = None) -> None:
        """Beat no more, and leave the database: the last to do so empties the write-ahead log into it.

        Wait no longer than so many seconds, for a beat that may be reading from a device which never answers.
        """
        self._over.set()
        self.join(seconds)

    def look_for_database(self) -> None:
        """Find out whether the database is `gone` from its path: what is written to it then is lost to others."""
        if not self.gone and not database.lies_at(self.path, database.file_of(self.context.connection)):
            self.gone = f"{self.path} was renamed, deleted or replaced while workers had it open"
            self.stop.set()

    def _open(self) -> sqlite3.Connection:
        if self.gone:
            raise InputError(self.gone)
        connection = database.writer(self.path, make=False)
        connection.execute("PRAGMA synchronous = NORMAL")  # nothing here outlives a power cut anyway
        return connection

    def _hold(self, connection: sqlite3.Connection) -> None:
        claim = self.claim
        if claim is None:
            return
        if not leases.is_wanted(connection, claim):
            self.unwanted = claim
        if time.monotonic() - self._renewed >= leases.RENEWAL_SECONDS:
            if not leases.renew(connection, claim):
                self.lost = claim
            self._renewed = time.monotonic()

    def _tell(self, connection: sqlite3.Connection) -> None:
        row = {
            **dict.fromkeys(("epoch", "batch", "batches", "loss", "accuracy", "images_per_second")),
            **self._progress(),
            "message": self.message,
            "memory": psutil.Process().memory_info().rss,
            "heartbeat_at": database.now(),
        }
        with database.transaction(connection):  # no claim comes between reading the memory and telling of it
            row["device_memory"] = torch.cuda.memory_reserved() if self.context.device.type == "cuda" else None
            workers.report(connection, self.worker, row)

    def _progress(self) -> dict[str, float | None]:
        """How far the training under way is, and its images per second since the last look."""
        under_way, moment = self.context.under_way, time.monotonic()
        if under_way is None:
            self._looked = None, 0.0, 0  # or a run that is over would keep its memory on the device until the next
            return {}
        images = under_way.seen()
        before, when, counted = self._looked
        if before is not under_way:
            when, counted = under_way.began, under_way.first
        self._looked = under_way, moment, images
        return {**under_way.progress(), "images_per_second": (images - counted) / (moment - when)}
