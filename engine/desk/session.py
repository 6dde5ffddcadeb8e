"""The head's state of one joined worker, and the operations that the worker may call."""

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec

from engine.datasets.catalog import split_part
from engine.desk.desk import Held, Report, Room
from engine.desk.local import LocalDesk
from engine.desk.starting import Machine
from engine.desk.wire import PIECE, Line, Order, Piece
from engine.errors import InputError
from engine.models import trust, user_model
from engine.recipes import Prunable
from engine.store import leases, records
from engine.store.files import LostFile
from engine.store.leases import Claim
from engine.store.records import Epoch, Layer, Position, StaleClaim

Value = str | int | float | None
Kind = Annotated[str, msgspec.Meta(pattern="^(rewind|final|mask(-[0-9a-f]+)?)$")]
Partial = Annotated[str, msgspec.Meta(pattern=r"^\.[0-9a-f]{64}\.safetensors\.[0-9a-z-]+$")]
ENVIRONMENT = {
    "device_name",
    "dtype",
    "memory_format",
    "threads",
    "torch_version",
    "cudnn_version",
    "cockpit_version",
    "device",
}  # fmt: skip - the columns of a run that a worker may set
GOES_ON = ("release", "lost", "send_back")  # after these a run resumes from its checkpoint
OPERATIONS: dict[
    str, tuple[Callable[..., Any], Any, bool]
] = {}  # name: function, types of its arguments, whether it runs alone


class DataSet(msgspec.Struct, frozen=True):
    """The path of a data set on the head, and the SHA-256 of its file; None if the head cannot send it."""

    location: str
    sha256: str | None


class Model(msgspec.Struct, frozen=True):
    """The source of a user model: its files by their paths relative to `folder`, a folder of the head."""

    folder: str
    files: dict[str, bytes]


def operation(alone: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a method as an operation that a worker may call.

    An `alone` operation holds the lock of the database. Each operation that writes to the database is alone.
    """

    def known(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function, include_extras=True)
        hints.pop("return", None)
        types = tuple[*hints.values()] if hints else tuple[()]  # type: ignore[misc]
        OPERATIONS[function.__name__] = function, types, alone
        return function

    return known


class Session:
    """One joined worker. Whoever uses the connection of `desk` holds `lock`."""

    def __init__(self, desk: LocalDesk, lock: threading.RLock) -> None:
        self.desk, self.lock = desk, lock
        self.claim_held: Claim | None = None
        self.held = Held()
        self.report: Report | None = None
        self.heard = time.monotonic()
        self.connected: Line | None = None  # its newest main connection
        self.dropped: float | None = None  # when that ended
        self.machine: Machine = ("", "")
        self.over = False
        self._ended: tuple[str, int] | None = None  # the last claim that it ended, and how
        self._incoming: Path | None = None

    def call(self, name: str, arguments: list[Any]) -> Any:
        """Carry out an operation. Raises ValidationError for an unknown name or invalid arguments."""
        if name not in OPERATIONS:
            raise msgspec.ValidationError(f"{name!r} is not an operation")
        function, types, alone = OPERATIONS[name]
        given = msgspec.convert(arguments, types)
        if not alone:
            return function(self, *given)
        with self.lock:
            return function(self, *given)

    # The queue.
    @operation()
    def claim(self, without: list[str], room: Room) -> Order | None:
        """Claim the next run. Returns the present claim again if the worker missed the answer."""
        if self.over or self.held.stop:
            return None
        if self.claim_held is None or not self._in_force(self.claim_held):
            self.claim_held = self.desk.claim(without, lambda: room)
            self.held, self.report = Held(stop=self.held.stop), None  # the last report was about the run before
        return Order.of(self.claim_held) if self.claim_held else None

    @operation()
    def release(self, number: int) -> None:
        """Return the run to the queue."""
        self._end("release", number, self.desk.release)

    @operation()
    def lost(self, number: int) -> None:
        """Return the run to the queue because a process ended while training it."""
        self._end("lost", number, self.desk.lost)

    @operation()
    def send_back(self, number: int, producer: str) -> None:
        """Queue the run with digest `producer` again, and this run after it."""
        self._end("send_back", number, lambda claim: self.desk.send_back(claim, producer))

    # A run.
    @operation()
    def begin(self, number: int, attempt: int, environment: dict[str, Value], layers: list[Layer], flops: int) -> None:
        """Record that training begins."""
        if not environment.keys() <= ENVIRONMENT:
            raise msgspec.ValidationError("the environment has an unknown column")
        self.desk.begin(self._held(number), attempt, environment, layers, flops)

    @operation()
    def untrained(self, number: int, accuracy: float) -> None:
        """Record the test accuracy before the first step."""
        self.desk.untrained(self._held(number), accuracy)

    @operation()
    def epoch(self, number: int, attempt: int, record: Epoch) -> None:
        """Record an epoch."""
        self.desk.epoch(self._held(number), attempt, record)

    @operation()
    def line(self, number: int, along: list[Position]) -> None:
        """Record the networks on the line between two trained ones."""
        self.desk.line(self._held(number), along)

    @operation()
    def keeps_final(self, number: int) -> bool:
        """Whether the run's final weights are to be stored."""
        return self.desk.keeps_final(self._held(number))

    @operation()
    def epochs(self, number: int, attempt: int) -> list[Epoch]:
        """The recorded epochs of an attempt, in order."""
        return self.desk.epochs(self._held(number), attempt)

    @operation()
    def kept(self, run: str, kind: str) -> str | None:
        """The SHA-256 of the file of `kind` that a run stored; None if it stored none."""
        return self.desk.kept(run, kind)

    @operation(alone=False)
    def is_whole(self, sha256: str | None) -> bool:
        """Whether the file with this SHA-256 exists and is undamaged."""
        return self.desk.is_whole(sha256)

    @operation()
    def layers(self, run: str, rule: Prunable) -> list[str]:
        """The names of the layers of a run that a rule prunes."""
        return self.desk.layers(run, rule)

    @operation()
    def done(self, number: int, accuracy: float, epoch: int | None, seconds: float, device_memory: int | None) -> None:
        """Record the end of the run."""
        self._end("done", number, lambda claim: self.desk.done(claim, accuracy, epoch, seconds, device_memory))

    @operation()
    def diverged(self, number: int, epoch: int, seconds: float) -> None:
        """Record that the loss or a weight was not finite after `epoch`."""
        self._end("diverged", number, lambda claim: self.desk.diverged(claim, epoch, seconds))

    @operation()
    def failed(self, number: int, error: str) -> None:
        """Record that the run ended with an error."""
        self._end("failed", number, lambda claim: self.desk.failed(claim, error))

    @operation()
    def out_of_memory(self, number: int, error: str) -> None:
        """Record that the run ran out of memory."""
        self._end("out_of_memory", number, lambda claim: self.desk.out_of_memory(claim, error))

    # Files.
    @operation(alone=False)
    def send(self, number: int, offset: int, data: bytes) -> None:
        """Receive a piece of a file; offset 0 starts a new file. Raises LostFile if an earlier piece is missing."""
        self._held(number)
        if offset == 0:
            self.forget()
            self._incoming = self.desk.folder.incoming(self.desk.worker)
        if self._incoming is None:
            raise LostFile("a file that was coming in is not whole")
        with self._incoming.open("ab" if offset else "wb") as file:
            if file.tell() != offset:
                raise LostFile("a file that was coming in is not whole")
            file.write(data)

    @operation(alone=False)
    def keep(self, number: int, kind: Kind, sha256: str, size: int, run: str | None, lost: str | None) -> None:
        """Store the received file and record it."""
        claim = self._held(number)
        self.desk.folder.adopt(self._whole(), sha256)
        with self.lock:
            records.file(self.desk.connection, claim, kind, sha256, size, run, lost)

    @operation(alone=False)
    def keep_checkpoint(self, number: int, sha256: str) -> None:
        """Make the received file the run's checkpoint, if nobody else trains the run by now."""
        digest = self._valid(number).run.digest
        self.desk.folder.adopt_checkpoint(self._whole(), sha256, digest)

    @operation(alone=False)
    def settle_checkpoint(self, number: int, name: Partial) -> None:
        """Make a file that the worker wrote to the shared folder the run's checkpoint."""
        self.desk.folder.settle_checkpoint(self._valid(number).run.digest, name)

    @operation(alone=False)
    def checkpoint_hash(self, number: int) -> str | None:
        """The SHA-256 of the run's checkpoint in the shared folder; None if the run has no checkpoint."""
        return self.desk.folder.checkpoint_hash(self._held(number).run.digest)

    @operation(alone=False)
    def fetch(self, sha256: str, offset: int) -> Piece:
        """A piece of the ticket file with this SHA-256. Raises LostFile."""
        return _piece(self.desk.folder.ticket(sha256), offset)

    @operation(alone=False)
    def fetch_checkpoint(self, number: int, offset: int) -> Piece | None:
        """A piece of the run's checkpoint file; None if the run has no checkpoint."""
        place = self.desk.folder.checkpoint(self._held(number).run.digest)
        return _piece(place, offset) if place.exists() else None

    @operation()
    def data_set(self, identity: str) -> DataSet:
        """The path of a data set on the head."""
        base = split_part(identity)[0]
        sha256 = re.fullmatch(r"npz:([0-9a-f]{64})", base)
        return DataSet(self.desk.location(identity), sha256[1] if sha256 else None)

    @operation()
    def fetch_data(self, identity: str, offset: int) -> Piece:
        """A piece of a data set's file."""
        return _piece(Path(self.desk.location(identity)), offset)

    @operation()
    def model(self, name: str) -> Model:
        """The source of the user model of the worker's run. Raises InputError if the source has changed."""
        if self.claim_held is None or not user_model.is_own(name):
            raise InputError(f"model {name} is not the model of a claimed run")
        folder = self.desk.model_folder(name)
        trust.require(name, folder)
        source = user_model.find(name, folder)
        files = {path.relative_to(source.folder).as_posix(): code for path, code in source.code.items()}
        return Model(folder, files)

    # The worker.
    @operation(alone=False)
    def hold(self, number: int | None) -> Held:
        """The state of the worker's claim. The head renews the leases of all workers together."""
        self.heard = time.monotonic()
        if number is None:
            return Held(stop=self.held.stop)
        claim = self.claim_held
        return self.held if claim and claim.number == number else Held(ours=False, stop=self.held.stop)

    @operation(alone=False)
    def tell(self, report: Report) -> None:
        """Take the worker's state, which the head records within a second or so."""
        self.report = report

    @operation()
    def end(self) -> None:
        """Record that the worker has ended."""
        self.leave()

    def leave(self) -> None:
        """Record that the worker has ended, and return the run that it still holds to the queue."""
        self.over = True
        self.forget()
        if claim := self.claim_held:
            self.claim_held = None
            records.lost(self.desk.connection, claim.run_id, claim.number)
        self.desk.end()

    def forget(self) -> None:
        """Remove an incomplete received file."""
        if self._incoming:
            self._incoming.unlink(missing_ok=True)
            self._incoming = None

    def refresh(self) -> None:
        """Read from the database whether the claim is in force and its run is still wanted."""
        if claim := self.claim_held:
            ours = self._in_force(claim)
            self.held = Held(ours, leases.is_wanted(self.desk.connection, claim), self.held.stop)

    def _in_force(self, claim: Claim) -> bool:
        query = "SELECT 1 FROM runs WHERE id = ? AND digest = ? AND claim = ? AND status = 'running'"
        about = claim.run_id, claim.run.digest, claim.number
        return self.desk.connection.execute(query, about).fetchone() is not None

    def _held(self, number: int) -> Claim:
        claim = self.claim_held
        if claim is None or claim.number != number:
            raise StaleClaim(claim.run.digest if claim else "")
        return claim

    def _valid(self, number: int) -> Claim:
        """The claim, if it is in force by the database. Raises StaleClaim."""
        claim = self._held(number)
        with self.lock:
            if not self._in_force(claim):
                raise StaleClaim(claim.run.digest)
        return claim

    def _end(self, how: str, number: int, write: Callable[[Claim], object]) -> None:
        """End the claim. A worker that missed the answer calls again; the second call changes nothing."""
        if self.claim_held is None and self._ended == (how, number):
            return
        claim = self._held(number)
        write(claim)
        self.claim_held, self._ended = None, (how, number)
        if how not in GOES_ON:
            self.desk.drop_checkpoint(claim)
        self.desk.after(claim)

    def _whole(self) -> Path:
        if self._incoming is None:
            raise LostFile("a file that was coming in is not whole")
        place, self._incoming = self._incoming, None
        return place


def _piece(place: Path, offset: int) -> Piece:
    try:
        with place.open("rb") as file:
            file.seek(offset)
            return Piece(file.read(PIECE), place.stat().st_size)
    except FileNotFoundError:
        raise LostFile(f"{place.name} is missing") from None


def is_storage(error: Exception) -> bool:
    """Whether an error means that the head cannot read or write now."""
    return isinstance(error, OSError | sqlite3.Error)
