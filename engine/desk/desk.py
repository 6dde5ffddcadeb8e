"""The operations that a worker asks of its desk, be that the database on this machine or the head of a cluster.

Each write for a run carries the worker's claim. Operations raise StaleClaim once that claim is no longer in force.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import msgspec

from engine.recipes import Prunable
from engine.store.files import Folder
from engine.store.leases import Claim
from engine.store.records import Epoch, Layer, Position


class Wish(msgspec.Struct, frozen=True):
    """The runs that a worker accepts: of which experiment, split over how many devices, with how much free disk.

    On a shared device a worker accepts only a run that fits into the memory that other runs leave.
    """

    experiment: int | None = None  # None: any experiment
    split: int = 1  # devices that share a run
    min_free: int = 0  # bytes
    shared_device: bool = False


class Room(NamedTuple):
    """The free memory of a worker's device."""

    free: int  # bytes
    reserved: int  # bytes that torch holds on the device for this worker


class Report(msgspec.Struct, frozen=True):
    """A worker's state, sent every few seconds; None for a value that the worker does not have."""

    message: str | None  # why nothing is being trained
    memory: int  # bytes of the process
    device_memory: int | None = None  # bytes that torch holds on the device
    epoch: int | None = None
    batch: int | None = None
    batches: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    images_per_second: float | None = None
    checkpoint_seconds: float | None = None  # the least time between two checkpoints


class Held(msgspec.Struct, frozen=True):
    """The desk's reply to a heartbeat: is the claim in force, is its run still wanted, must the worker stop?"""

    ours: bool = True
    wanted: bool = True
    stop: bool = False


class HeldUp(Exception):
    """No run should be claimed now, although one may be ready. The message gives the reason."""


class Sources(Protocol):
    """Where a run reads its inputs: files of other runs, its data set, the source of its model."""

    def read(self, run: str, kind: str) -> bytes:
        """The content of a file of `kind`, stored by the run with digest `run`. Raises LostFile."""

    def location(self, dataset: str) -> str:
        """The path of the data set with this identity on this machine; empty if a library contains the set."""

    def model_folder(self, model: str) -> str:
        """The folder of a user model's source on this machine; empty for a built-in model."""


class Desk(Sources, Protocol):
    """Gives runs to one worker and records their results."""

    worker: int  # its number in the records
    folder: Folder  # the folder of its files on this machine
    checkpoint_seconds: float  # the least time between two checkpoints

    # The queue.
    def claim(self, without: Collection[str], room: Callable[[], Room]) -> Claim | None:
        """Claim the next run whose model is not in `without`; None if none is ready.

        `room` returns the free memory of a shared device. Raises HeldUp.
        """

    def unfinished(self, without: Collection[str]) -> bool:
        """Whether a run that this worker could claim is running or waiting."""

    def release(self, claim: Claim) -> None:
        """Return the run to the queue and keep its checkpoint."""

    def lost(self, claim: Claim) -> None:
        """Return the run to the queue because a process ended while training it. Any thread may call this."""

    def send_back(self, claim: Claim, producer: str) -> None:
        """Queue the run with digest `producer` again, because a file of it is lost, and this run after it."""

    def after(self, claim: Claim) -> None:
        """Call the user's command for each experiment that ended with this run, after its last write."""

    # A run.
    def begin(
        self, claim: Claim, attempt: int, environment: Mapping[str, object], layers: list[Layer], flops: int
    ) -> None:
        """Record that training begins (`records.start`)."""

    def untrained(self, claim: Claim, accuracy: float) -> None:
        """Record the test accuracy before the first step."""

    def epoch(self, claim: Claim, attempt: int, record: Epoch) -> None:
        """Record an epoch."""

    def epochs(self, claim: Claim, attempt: int) -> list[Epoch]:
        """The recorded epochs of an attempt, in order."""

    def keep(self, claim: Claim, kind: str, data: bytes, run: str | None = None, lost: str | None = None) -> None:
        """Store a file of the run and record it (`records.file`)."""

    def kept(self, run: str, kind: str) -> str | None:
        """The SHA-256 of the file of `kind` that the run with digest `run` stored; None if it stored none."""

    def is_whole(self, sha256: str | None) -> bool:
        """Whether the file with this SHA-256 exists and is undamaged."""

    def layers(self, run: str, rule: Prunable) -> list[str]:
        """The names of the layers of a run that a rule prunes (`records.prunable_layers`)."""

    def read_checkpoint(self, claim: Claim) -> bytes | None:
        """The run's checkpoint; None if it has none. Raises LostFile if the checkpoint is damaged."""

    def write_checkpoint(self, claim: Claim, data: bytes) -> None:
        """Replace the run's checkpoint atomically."""

    def drop_checkpoint(self, claim: Claim) -> None:
        """Remove the run's checkpoint."""

    def line(self, claim: Claim, along: list[Position]) -> None:
        """Record the networks on the line between two trained ones."""

    def keeps_final(self, claim: Claim) -> bool:
        """Whether the run's final weights are to be stored (`records.keeps_final`)."""

    def done(self, claim: Claim, accuracy: float, epoch: int | None, seconds: float, device_memory: int | None) -> None:
        """Record the end of the run (`records.done`)."""

    def diverged(self, claim: Claim, epoch: int, seconds: float) -> None:
        """Record that the loss or a weight was not finite after `epoch`."""

    def failed(self, claim: Claim, error: str) -> None:
        """Record that the run ended with an error."""

    def out_of_memory(self, claim: Claim, error: str) -> None:
        """Record that the run ran out of memory (`records.out_of_memory`). Any thread may call this."""

    # The worker. The heartbeat's thread calls hold, tell and close_beats.
    def hold(self, claim: Claim | None) -> Held:
        """Renew the lease of the claim, if the worker has one."""

    def tell(self, report: Report, reserved: Callable[[], int | None]) -> None:
        """Record the worker's state; `reserved` returns the bytes that torch holds on the device."""

    def close_beats(self) -> None:
        """End the heartbeat's use of the desk."""

    def gone(self) -> str | None:
        """Why the desk can no longer accept results; None while it can."""

    def end(self) -> None:
        """Record that the worker has ended."""

    def close(self) -> None:
        """Close the desk. No other operation may follow."""

    # Errors.
    def is_fault(self, error: Exception) -> bool:
        """Whether the desk, its files or their disk caused an error, and not the run or its data set."""

    def passes(self, error: Exception) -> bool:
        """Whether the cause of such an error may pass without help, as a full disk or a locked database may."""

    def damage(self) -> Exception | None:
        """The error to raise if the database is damaged, which may have caused another error; None otherwise."""

    def explained(self) -> AbstractContextManager[None]:
        """A context that raises an error caused by a damaged database as that damage."""
