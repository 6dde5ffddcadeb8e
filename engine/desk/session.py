"""What one worker that joined a head has in hand, and the operations that it may ask for."""

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
from engine.desk.wire import PIECE, Order, Piece
from engine.errors import InputError
from engine.machine import processes
from engine.models import trust, user_model
from engine.recipes import Prunable
from engine.store import leases, records
from engine.store.files import LostFile
from engine.store.leases import Claim
from engine.store.records import Epoch, Layer, Position, StaleClaim

Value = str | int | float | None
Kind = Annotated[str, msgspec.Meta(pattern="^(rewind|final|mask(-[0-9a-f]+)?)$")]
ENVIRONMENT = {
    "device_name",
    "dtype",
    "memory_format",
    "threads",
    "torch_version",
    "cudnn_version",
    "cockpit_version",
    "device",
}  # fmt: skip - the columns of a run that a worker says
GOES_ON = ("release", "lost", "send_back")  # after these a run resumes from its checkpoint
OPERATIONS: dict[str, tuple[Callable[..., Any], Any, bool]] = {}  # by name: what is done, the types, whether alone


class DataSet(msgspec.Struct, frozen=True):
    """Where the head has a data set, and the SHA-256 of its file if it can be sent."""

    location: str
    sha256: str | None


class Model(msgspec.Struct, frozen=True):
    """The source of a person's own model: its files by their place in `folder`, which is the head's."""

    folder: str
    files: dict[str, bytes]


def operation(alone: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A method that a worker may ask for; `alone` while no other is served, as all that writes to the database is."""

    def known(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function, include_extras=True)
        hints.pop("return", None)
        types = tuple[*hints.values()] if hints else tuple[()]  # type: ignore[misc]
        OPERATIONS[function.__name__] = function, types, alone
        return function

    return known


class Session:
    """One worker. Its database is `desk`; `lock` is held while that is used."""

    def __init__(self, desk: LocalDesk, lock: threading.RLock) -> None:
        self.desk, self.lock = desk, lock
        self.claim_held: Claim | None = None
        self.held = Held()
        self.report: Report | None = None
        self.heard = time.monotonic()
        self.dropped: float | None = None  # when its connection ended
        self.over = False
        self._ended: tuple[str, int] | None = None  # the last claim that it ended, and how
        self._incoming: Path | None = None

    def call(self, name: str, arguments: list[Any]) -> Any:
        """Do what is asked. Raises ValidationError for what is no operation."""
        if name not in OPERATIONS:
            raise msgspec.ValidationError(f"{name!r} is no operation")
        function, types, alone = OPERATIONS[name]
        given = msgspec.convert(arguments, types)
        if not alone:
            return function(self, *given)
        with self.lock:
            return function(self, *given)

    # The queue.
    @operation()
    def claim(self, without: list[str], room: Room) -> Order | None:
        """The next run; the one that it has, where it did not hear so."""
        if self.over or self.held.stop:
            return None
        if self.claim_held is None or not self._in_force(self.claim_held):
            self.claim_held = self.desk.claim(without, lambda: room)
            self.held, self.report = Held(stop=self.held.stop), None  # which spoke of the run before
        return Order.of(self.claim_held) if self.claim_held else None

    @operation()
    def release(self, number: int) -> None:
        """Give the run back."""
        self._end("release", number, self.desk.release)

    @operation()
    def lost(self, number: int) -> None:
        """Give the run back because a process ended in it."""
        self._end("lost", number, self.desk.lost)

    @operation()
    def send_back(self, number: int, producer: str) -> None:
        """Have another run trained again, then this one."""
        self._end("send_back", number, lambda claim: self.desk.send_back(claim, producer))

    # A run.
    @operation()
    def begin(self, number: int, attempt: int, environment: dict[str, Value], layers: list[Layer], flops: int) -> None:
        """Record that training begins."""
        if not environment.keys() <= ENVIRONMENT:
            raise msgspec.ValidationError("an environment has other columns")
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
        """Record the networks on a line."""
        self.desk.line(self._held(number), along)

    @operation()
    def keeps_final(self, number: int) -> bool:
        """Whether the run's final weights are wanted."""
        return self.desk.keeps_final(self._held(number))

    @operation()
    def epochs(self, number: int, attempt: int) -> list[Epoch]:
        """The epochs that an attempt has recorded so far."""
        return self.desk.epochs(self._held(number), attempt)

    @operation()
    def kept(self, run: str, kind: str) -> str | None:
        """The SHA-256 of the file of a kind that a run left."""
        return self.desk.kept(run, kind)

    @operation(alone=False)
    def is_whole(self, sha256: str | None) -> bool:
        """Whether the file of this SHA-256 is there, and undamaged."""
        return self.desk.is_whole(sha256)

    @operation()
    def layers(self, run: str, rule: Prunable) -> list[str]:
        """The layers of a run that a rule prunes."""
        return self.desk.layers(run, rule)

    @operation()
    def done(self, number: int, accuracy: float, epoch: int | None, seconds: float, device_memory: int | None) -> None:
        """Record the end of the run."""
        self._end("done", number, lambda claim: self.desk.done(claim, accuracy, epoch, seconds, device_memory))

    @operation()
    def diverged(self, number: int, epoch: int, seconds: float) -> None:
        """Record that loss or weights were not finite."""
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
        """A piece of a file that comes in; the first is at 0."""
        self._held(number)
        if offset == 0:
            self.forget()
            place = self.desk.folder.path / "tickets"
            place.mkdir(parents=True, exist_ok=True)
            self._incoming = place / f".incoming-{self.desk.worker}.{processes.mark()}"
        if self._incoming is None:
            raise LostFile("a file that was coming in is not whole")
        with self._incoming.open("ab" if offset else "wb") as file:
            if file.tell() != offset:
                raise LostFile("a file that was coming in is not whole")
            file.write(data)

    @operation(alone=False)
    def keep(self, number: int, kind: Kind, sha256: str, size: int, run: str | None, lost: str | None) -> None:
        """Keep the file that came in, and record it."""
        claim = self._held(number)
        self.desk.folder.adopt(self._whole(), sha256)
        with self.lock:
            records.file(self.desk.connection, claim, kind, sha256, size, run, lost)

    @operation(alone=False)
    def keep_checkpoint(self, number: int, sha256: str) -> None:
        """Make the file that came in the run's checkpoint."""
        self.desk.folder.adopt_checkpoint(self._whole(), sha256, self._held(number).run.digest)

    @operation(alone=False)
    def fetch(self, sha256: str, offset: int) -> Piece:
        """A piece of a file that a run left."""
        return _piece(self.desk.folder.ticket(sha256), offset)

    @operation(alone=False)
    def fetch_checkpoint(self, number: int, offset: int) -> Piece | None:
        """A piece of the run's checkpoint as it lies on the disk; None if it has none."""
        place = self.desk.folder.checkpoint(self._held(number).run.digest)
        return _piece(place, offset) if place.exists() else None

    @operation()
    def data_set(self, identity: str) -> DataSet:
        """Where the head has a data set."""
        base = split_part(identity)[0]
        sha256 = re.fullmatch(r"npz:([0-9a-f]{64})", base)
        return DataSet(self.desk.location(identity), sha256[1] if sha256 else None)

    @operation()
    def fetch_data(self, identity: str, offset: int) -> Piece:
        """A piece of the file of a data set."""
        return _piece(Path(self.desk.location(identity)), offset)

    @operation()
    def model(self, name: str) -> Model:
        """The source of a model of the run that the worker has. Raises InputError where it is another by now."""
        if self.claim_held is None or not user_model.is_own(name):
            raise InputError(f"model {name} is not asked for")
        folder = self.desk.model_folder(name)
        trust.require(name, folder)
        source = user_model.find(name, folder)
        files = {path.relative_to(source.folder).as_posix(): code for path, code in source.code.items()}
        return Model(folder, files)

    # The worker.
    @operation(alone=False)
    def hold(self, number: int | None) -> Held:
        """What there is to know; the lease is renewed for all at once."""
        self.heard = time.monotonic()
        if number is None:
            return Held(stop=self.held.stop)
        claim = self.claim_held
        return self.held if claim and claim.number == number else Held(ours=False, stop=self.held.stop)

    @operation(alone=False)
    def tell(self, report: Report) -> None:
        """What the worker does, to be recorded soon."""
        self.report = report

    @operation()
    def end(self) -> None:
        """The worker ends."""
        self.leave()

    def leave(self) -> None:
        """The worker has ended: what it still had goes back, as its process is gone."""
        self.over = True
        self.forget()
        if claim := self.claim_held:
            self.claim_held = None
            records.lost(self.desk.connection, claim.run_id, claim.number)
        self.desk.end()

    def forget(self) -> None:
        """Remove what came in of a file and was not kept."""
        if self._incoming:
            self._incoming.unlink(missing_ok=True)
            self._incoming = None

    def refresh(self) -> None:
        """Find out whether the claim is in force and wanted."""
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

    def _end(self, how: str, number: int, write: Callable[[Claim], object]) -> None:
        """The run leaves this worker's hands. What it says twice, as it heard no answer, is done once."""
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
    """Whether the head cannot read or write now."""
    return isinstance(error, OSError | sqlite3.Error)
