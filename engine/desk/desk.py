"""What a worker asks of the desk that it works for, whether that is the database itself or a way to it.

Whatever a worker writes for a run carries its claim. Raises StaleClaim where that is no longer in force.
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
    """Which runs a worker takes: of one experiment or all, split over so many devices, with so much disk left.

    On a shared device it takes only what fits beside the runs of others.
    """

    experiment: int | None = None
    split: int = 1
    min_free: int = 0  # bytes
    shared_device: bool = False


class Room(NamedTuple):
    """What is free on a worker's device."""

    free: int  # bytes
    reserved: int  # bytes that torch holds there for this worker


class Report(msgspec.Struct, frozen=True):
    """What a worker says of itself every few seconds; None for what there is not."""

    message: str | None  # why nothing is being trained
    memory: int  # bytes of the process
    device_memory: int | None = None  # bytes that torch holds on the device
    epoch: int | None = None
    batch: int | None = None
    batches: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    images_per_second: float | None = None


class Held(msgspec.Struct, frozen=True):
    """What a worker is told every few seconds: whether its claim is in force and its run wanted, and whether to end."""

    ours: bool = True
    wanted: bool = True
    stop: bool = False


class HeldUp(Exception):
    """A run may be ready, but none should be claimed now: why."""


class Sources(Protocol):
    """Where a run gets from what it stands on."""

    def read(self, run: str, kind: str) -> bytes:
        """The file of a kind that the run of this digest left. Raises LostFile."""

    def location(self, dataset: str) -> str:
        """Where the data set of this identity lies on this machine; empty for one that a library brings along."""

    def model_folder(self, model: str) -> str:
        """Where the source of a person's own model lies on this machine; empty for a model that comes along."""


class Desk(Sources, Protocol):
    """Gives runs to one worker, and takes what it yields."""

    worker: int  # its number in the records
    folder: Folder  # where its files lie on this machine
    checkpoint_seconds: float  # the least time between two checkpoints

    # The queue.
    def claim(self, without: Collection[str], room: Callable[[], Room]) -> Claim | None:
        """The next run, of other models than those `without`; `room` tells what is free on a shared device.

        Raises HeldUp.
        """

    def unfinished(self, without: Collection[str]) -> bool:
        """Whether a run that this worker could take is running, or waiting to be."""

    def release(self, claim: Claim) -> None:
        """Give the run back, to be claimed again; its checkpoint stays."""

    def lost(self, claim: Claim) -> None:
        """Give the run back because a process ended in it. From any thread."""

    def send_back(self, claim: Claim, producer: str) -> None:
        """Have the run of digest `producer` trained again, because a file that it left is lost, then this one."""

    def after(self, claim: Claim) -> None:
        """The run is out of this worker's hands: call the command of who wants to know of experiments' ends."""

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
        """The epochs that an attempt has recorded so far, in order."""

    def keep(self, claim: Claim, kind: str, data: bytes, run: str | None = None, lost: str | None = None) -> None:
        """Store a file that the run leaves, and record it (`records.file`)."""

    def kept(self, run: str, kind: str) -> str | None:
        """The SHA-256 of the file of a kind that a run left, or None."""

    def is_whole(self, sha256: str | None) -> bool:
        """Whether the file of this SHA-256 is there, and undamaged."""

    def layers(self, run: str, rule: Prunable) -> list[str]:
        """The layers of a run that a rule prunes (`records.prunable_layers`)."""

    def read_checkpoint(self, claim: Claim) -> bytes | None:
        """The run's checkpoint; None if it left none. Raises LostFile if it is damaged."""

    def write_checkpoint(self, claim: Claim, data: bytes) -> None:
        """Replace the run's checkpoint in one step."""

    def drop_checkpoint(self, claim: Claim) -> None:
        """Remove the run's checkpoint."""

    def line(self, claim: Claim, along: list[Position]) -> None:
        """Record the networks on a line."""

    def keeps_final(self, claim: Claim) -> bool:
        """Whether the run's final weights are wanted (`records.keeps_final`)."""

    def done(self, claim: Claim, accuracy: float, epoch: int | None, seconds: float, device_memory: int | None) -> None:
        """Record the end of the run (`records.done`)."""

    def diverged(self, claim: Claim, epoch: int, seconds: float) -> None:
        """Record that loss or weights were not finite after `epoch`."""

    def failed(self, claim: Claim, error: str) -> None:
        """Record that the run ended with an error."""

    def out_of_memory(self, claim: Claim, error: str) -> None:
        """Record that the run ran out of memory (`records.out_of_memory`). From any thread."""

    # The worker. Its heartbeat calls these in a thread of its own.
    def hold(self, claim: Claim | None) -> Held:
        """Keep the claim in force."""

    def tell(self, report: Report, reserved: Callable[[], int | None]) -> None:
        """Record what the worker does; `reserved` tells the bytes that torch holds on the device."""

    def close_beats(self) -> None:
        """The heartbeat is over."""

    def gone(self) -> str | None:
        """Why nothing that is handed in here is of use to anybody any more; None while it is."""

    def end(self) -> None:
        """Record that the worker ends."""

    def close(self) -> None:
        """Let go of the desk, once nothing is asked of it any more."""

    # What goes wrong.
    def is_fault(self, error: Exception) -> bool:
        """Whether an error is one of the desk, its files or their disk, and not of the run or its data set."""

    def passes(self, error: Exception) -> bool:
        """Whether the cause of such an error may go without anybody's help: a full disk, a locked database."""

    def damage(self) -> Exception | None:
        """The damage of the database that may be why something else failed, to be raised."""

    def explained(self) -> AbstractContextManager[None]:
        """Within it, an error that comes of damage is raised as that damage."""
