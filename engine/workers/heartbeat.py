"""The heartbeat of a worker: every few seconds it reports the worker's state and renews the lease."""

import os
import threading
import time
from typing import Any

import psutil
import torch

from engine.desk.desk import Report
from engine.machine import processes
from engine.store import leases
from engine.workers.run import RunContext, UnderWay

BEAT_SECONDS = 2.0


class Heartbeat(threading.Thread):
    """Keeps `claim` in force and reports what `context` trains, until the process ends.

    `stop` is set when the worker must end: on request, when the process that started it has ended, or when its desk no
    longer accepts results (`gone` has the reason).
    """

    def __init__(self, context: RunContext, parent: int) -> None:
        super().__init__(daemon=True)
        self.context, self.desk, self.parent = context, context.desk, parent
        self.claim: leases.Claim | None = None
        self.message: str | None = None  # why nothing is being trained
        self.gone: str | None = None  # why nothing that is handed in is of use any more
        self.stop = threading.Event()
        self._over = threading.Event()
        # Each is set to the claim of which this was found out.
        self.lost: leases.Claim | None = None  # gone to another worker
        self.unwanted: leases.Claim | None = None  # no active experiment wants its run any more
        self._looked: tuple[UnderWay | None, float, int] = (None, 0.0, 0)  # at what, when, and its images then

    def run(self) -> None:
        """Beat until the end. Waits for a locked database, because the lease lasts longer."""
        while not self._over.wait(BEAT_SECONDS):
            if self.parent and os.getppid() != self.parent:
                self.stop.set()
            self.look_for_desk()
            try:
                self._hold()
                self._tell()
            except Exception as error:  # locked, or a device that does not answer: the next beat may succeed
                processes.say(f"no heartbeat: {error}")
        self.desk.close_beats()

    def end(self, seconds: float | None = None) -> None:
        """Stop the heartbeat and close its connection.

        Waits at most this many seconds, because a beat may be reading from a device that never answers.
        """
        self._over.set()
        self.join(seconds)

    def look_for_desk(self) -> None:
        """Set `gone` if the desk no longer accepts results."""
        if not self.gone and (gone := self.desk.gone()):
            self.gone = gone
            self.stop.set()

    def _hold(self) -> None:
        claim = self.claim
        held = self.desk.hold(claim)
        if held.stop:
            self.stop.set()
        if not held.wanted:
            self.unwanted = claim
        if not held.ours:
            self.lost = claim

    def _tell(self) -> None:
        memory, seconds = psutil.Process().memory_info().rss, self.context.seconds_between
        self.desk.tell(Report(self.message, memory, checkpoint_seconds=seconds, **self._progress()), self._reserved)

    def _reserved(self) -> int | None:
        return torch.cuda.memory_reserved() if self.context.device.type == "cuda" else None

    def _progress(self) -> dict[str, Any]:
        """The progress of the present training, and its images per second since the last call."""
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
