"""The desk of a worker on another machine. It sends each operation to the head, and opens no database."""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from engine import __version__
from engine.datasets import places
from engine.datasets.npz import file_digest
from engine.desk import wire
from engine.desk.desk import Held, HeldUp, Report, Room
from engine.desk.session import DataSet, Model
from engine.desk.wire import Answer, Call, Hello, Line, Order, Piece, Welcome
from engine.errors import InputError
from engine.machine import processes
from engine.models import trust, user_model
from engine.recipes import Prunable
from engine.store import shared
from engine.store.files import Folder, LostFile, drop_partials
from engine.store.leases import Claim
from engine.store.paths import DISK_FULL, is_disk_fault
from engine.store.records import Epoch, Layer, Position, StaleClaim
from engine.store.waiting import jittered

RETRY_SECONDS = 0.1  # the pause after the first failure; it doubles up to LONGEST_RETRY_SECONDS
LONGEST_RETRY_SECONDS = 5.0
PARTING_SECONDS = 20.0  # a stopping worker still tries to reach the head for this long
CACHE_BYTES = 50 * 10**9  # of ticket files; beyond it the least recently used go
SHARE = 1 / 20  # of the time that sending checkpoints may take
CHECKPOINT_SECONDS = 60.0
LEAST_FREE = 2**26  # bytes of the cache's disk, below which nothing is claimed
SEEN_SECONDS = 90.0  # until a network file system shows what another machine wrote; it may remember for a minute

Value = TypeVar("Value")


class HeadLost(Exception):
    """The head refuses this worker, or does not answer while it should end."""


class RemoteDesk:
    """Implements `Desk` for a worker that joined the head at `address`. Each thread has a connection of its own.

    Operations raise HeadLost if the head refuses the worker, or if it does not answer a stopping worker or the
    heartbeat. Otherwise they wait for the head.
    """

    def __init__(
        self,
        address: wire.Address,
        hello: Hello,
        cache: Path,
        *,
        paths: Mapping[str, str] | None = None,
        trust_models: bool = False,
    ) -> None:
        self.address, self.hello, self.paths, self.trust_models = address, hello, paths or {}, trust_models
        cache.mkdir(parents=True, exist_ok=True)
        self.folder, self.cache = Folder(cache), cache
        self.checkpoint_seconds = CHECKPOINT_SECONDS
        self.stopping: Callable[[], bool] = lambda: False
        self.worker = 0
        self.shared: Folder | None = None  # where checkpoints lie that all machines see
        self._claim: Claim | None = None
        self._refused: str | None = None
        self._deadline: float | None = None  # when a stopping worker gives up waiting for the head
        self._lines = threading.local()
        self._main = threading.get_ident()
        self._ask(Held, "hold", None)  # raises HeadLost if the head refuses this worker

    # The queue.
    def claim(self, without: Collection[str], room: Callable[[], Room]) -> Claim | None:
        """Claim the next run; None if none is ready. Raises HeldUp."""
        self._claim = None
        if (free := shutil.disk_usage(self.cache).free) < LEAST_FREE:
            raise HeldUp(
                f"the disk of {self.cache} has {free / 2**20:.0f} MiB left: make room, or join with another folder"
            )
        order = self._ask(Order | None, "claim", [*without], room() if self.hello.shared_device else Room(0, 0))
        self._claim = order.claim() if order else None
        return self._claim

    def unfinished(self, without: Collection[str]) -> bool:
        """Always True: the head stops its workers when no run is left."""
        return True

    def release(self, claim: Claim) -> None:
        """Return the run to the queue. The head does so itself if this call fails and the worker ends."""
        with suppress(StaleClaim, HeadLost):
            self._ask(None, "release", claim.number)

    def lost(self, claim: Claim) -> None:
        """Return the run to the queue because a process ended while training it."""
        with suppress(StaleClaim):
            self._ask(None, "lost", claim.number)

    def send_back(self, claim: Claim, producer: str) -> None:
        """Queue the run with digest `producer` again, and this run after it."""
        with suppress(StaleClaim):
            self._ask(None, "send_back", claim.number, producer)

    def after(self, claim: Claim) -> None:
        """Forget the claim. The head has already called the user's command."""
        self._claim = None

    # A run.
    def begin(
        self, claim: Claim, attempt: int, environment: Mapping[str, object], layers: list[Layer], flops: int
    ) -> None:
        """Record that training begins."""
        self._ask(None, "begin", claim.number, attempt, environment, layers, flops)

    def untrained(self, claim: Claim, accuracy: float) -> None:
        """Record the test accuracy before the first step."""
        self._ask(None, "untrained", claim.number, accuracy)

    def epoch(self, claim: Claim, attempt: int, record: Epoch) -> None:
        """Record an epoch."""
        self._ask(None, "epoch", claim.number, attempt, record)

    def line(self, claim: Claim, along: list[Position]) -> None:
        """Record the networks on the line between two trained ones."""
        self._ask(None, "line", claim.number, along)

    def keeps_final(self, claim: Claim) -> bool:
        """Whether the run's final weights are to be stored."""
        found: bool = self._ask(bool, "keeps_final", claim.number)
        return found

    def epochs(self, claim: Claim, attempt: int) -> list[Epoch]:
        """The recorded epochs of an attempt, in order."""
        found: list[Epoch] = self._ask(list[Epoch], "epochs", claim.number, attempt)
        return found

    def keep(self, claim: Claim, kind: str, data: bytes, run: str | None = None, lost: str | None = None) -> None:
        """Store a file of the run on the head and in the cache here, and record it."""
        with suppress(OSError):  # the cache is full: the file is fetched when needed
            self.folder.put(data)
        sha256 = hashlib.sha256(data).hexdigest()
        self._send(claim, data, "keep", kind, sha256, len(data), run, lost)

    def kept(self, run: str, kind: str) -> str | None:
        """The SHA-256 of the file of `kind` that a run stored; None if it stored none."""
        found: str | None = self._ask(str | None, "kept", run, kind)
        return found

    def is_whole(self, sha256: str | None) -> bool:
        """Whether the head has the file with this SHA-256, undamaged."""
        found: bool = self._ask(bool, "is_whole", sha256)
        return found

    def layers(self, run: str, rule: Prunable) -> list[str]:
        """The names of the layers of a run that a rule prunes."""
        found: list[str] = self._ask(list[str], "layers", run, rule)
        return found

    def read(self, run: str, kind: str) -> bytes:
        """The content of a file of `kind` of another run, from the cache or the head. Raises LostFile."""
        sha256 = self.kept(run, kind)
        if sha256 is None:
            raise LostFile(f"run {run[:12]}… left no {kind}")
        with suppress(LostFile):
            return self.folder.get(sha256)
        data = self._fetch("fetch", sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise LostFile(f"ticket file {sha256[:12]}… of the head is damaged")
        with suppress(OSError):
            self.folder.put(data)
            self._make_room()
        return data

    def location(self, dataset: str) -> str:
        """The path of the data set on this machine; the head sends a file that this machine lacks.

        Looks at the mapped path (the head's own if none maps it), in the data folders and in the cache. Raises
        InputError if the head's file has changed.
        """
        there = self._ask(DataSet, "data_set", dataset)
        if not there.location:
            return ""
        mapped = wire.mapped(there.location, self.paths)
        if there.sha256 is None:
            return mapped
        name = Path(there.location).name
        kept = self.cache / "data" / f"{there.sha256}.npz"
        for place in (Path(mapped), *(folder / name for folder in places.folders()), kept):
            if place.is_file() and file_digest(place) == there.sha256:
                return str(place)
        processes.say(f"fetching {name} from the head")
        self._download(dataset, name, there.sha256, kept)
        return str(kept)

    def _download(self, dataset: str, name: str, sha256: str, place: Path) -> None:
        """Fetch the file of a data set. Raises InputError if the head's file has changed since it was queued."""
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{processes.mark()}")
        try:
            with partial.open("wb") as file:
                while file.write((piece := self._ask(Piece, "fetch_data", dataset, file.tell())).data):
                    if file.tell() >= piece.total:
                        break
            if file_digest(partial) != sha256:
                raise InputError(
                    f"data set file {name} of the head has changed since it was queued: restore it, or queue it as"
                    " a new set"
                )
            partial.replace(place)
            drop_partials(place)
        except LostFile:
            raise InputError(f"data set file {name} is missing on the head: restore it there, then retry") from None
        finally:
            partial.unlink(missing_ok=True)

    def model_folder(self, model: str) -> str:
        """The folder in the cache with the source of a user model, as the head sent it; empty for a built-in model."""
        if not user_model.is_own(model):
            return ""
        folder = self.cache / "models" / hashlib.sha256(model.encode()).hexdigest()[:16]
        if not folder.is_dir():
            source = self._ask(Model, "model", model)
            partial = folder.with_name(f".{folder.name}.{processes.mark()}")
            try:
                for name, code in source.files.items():
                    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
                        raise InputError(
                            f"the head sends a file {name!r} of model {model}, which lies outside of its folder"
                        )
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    (partial / name).write_bytes(code)
                with suppress(OSError):  # another worker was faster
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        if self.trust_models:
            trust.record(user_model.find(model, str(folder)))
        return str(folder)

    def read_checkpoint(self, claim: Claim) -> bytes | None:
        """The run's checkpoint; None if it has none. Raises LostFile if the checkpoint is damaged.

        The checkpoint of a split run stays in the cache, where its followers read it.
        """
        digest = claim.run.digest
        data = self._shared_checkpoint(claim) if self.shared else self._fetched_checkpoint(claim)
        if data is not None and claim.run.training.split > 1:
            self.folder.write_checkpoint(digest, data)
        return data

    def _fetched_checkpoint(self, claim: Claim) -> bytes | None:
        data = self._fetch("fetch_checkpoint", claim.number)
        return Folder.unsealed(data, claim.run.digest) if data else None

    def _shared_checkpoint(self, claim: Claim) -> bytes | None:
        """The checkpoint in the shared folder, when this machine sees what the head sees there."""
        assert self.shared
        sha256, deadline = self._ask(str | None, "checkpoint_hash", claim.number), time.monotonic() + SEEN_SECONDS
        while sha256 is not None and self.shared.checkpoint_hash(claim.run.digest) != sha256:
            if time.monotonic() > deadline:
                raise LostFile(f"{self.shared.path} does not show the checkpoint that the head sees there")
            time.sleep(RETRY_SECONDS)
        return None if sha256 is None else self.shared.read_checkpoint(claim.run.digest)

    def write_checkpoint(self, claim: Claim, data: bytes) -> None:
        """Replace the run's checkpoint, and delay the next so that this takes at most SHARE of the time."""
        began = time.monotonic()
        if self.shared:
            self._share(self.shared, claim, data)
        else:
            self._send(claim, data, "keep_checkpoint", hashlib.sha256(data).hexdigest())
        self.checkpoint_seconds = max(CHECKPOINT_SECONDS, (time.monotonic() - began) / SHARE)

    def _share(self, there: Folder, claim: Claim, data: bytes) -> None:
        """Write a checkpoint to the shared folder; the head makes it the run's, unless the claim is stale."""
        sha256, deadline = hashlib.sha256(data).hexdigest(), time.monotonic() + SEEN_SECONDS
        while True:
            name = there.write_partial_checkpoint(claim.run.digest, data)
            try:
                self._ask(None, "settle_checkpoint", claim.number, name)
                return
            except LostFile:  # the answer was lost, and the file has its name; or the head does not see it yet
                if self._ask(str | None, "checkpoint_hash", claim.number) == sha256:
                    return
                if time.monotonic() > deadline:
                    self._refuse(f"the head does not see what this machine writes to {there.path}")
                time.sleep(jittered(LONGEST_RETRY_SECONDS))
            finally:
                there.forget_partial(claim.run.digest, name)

    def drop_checkpoint(self, claim: Claim) -> None:
        """Remove the copy of the checkpoint here. The head removes its own when the run ends."""
        self.folder.drop_checkpoint(claim.run.digest)

    def done(self, claim: Claim, accuracy: float, epoch: int | None, seconds: float, device_memory: int | None) -> None:
        """Record the end of the run."""
        self._ask(None, "done", claim.number, accuracy, epoch, seconds, device_memory)

    def diverged(self, claim: Claim, epoch: int, seconds: float) -> None:
        """Record that the loss or a weight was not finite after `epoch`."""
        self._ask(None, "diverged", claim.number, epoch, seconds)

    def failed(self, claim: Claim, error: str) -> None:
        """Record that the run ended with an error."""
        self._ask(None, "failed", claim.number, error)

    def out_of_memory(self, claim: Claim, error: str) -> None:
        """Record that the run ran out of memory."""
        self._ask(None, "out_of_memory", claim.number, error)

    # The worker.
    def hold(self, claim: Claim | None) -> Held:
        """Tell the head that the worker is alive. The head renews the lease."""
        found: Held = self._ask(Held, "hold", claim.number if claim else None)
        return found

    def tell(self, report: Report, reserved: Callable[[], int | None]) -> None:
        """Send the worker's state to the head."""
        self._ask(None, "tell", structs.replace(report, device_memory=reserved()))

    def gone(self) -> str | None:
        """Why the head refuses this worker; None while it accepts it."""
        return self._refused

    def end(self) -> None:
        """Tell the head that the worker ends."""
        with suppress(HeadLost):
            self._ask(None, "end")

    def close(self) -> None:
        """Close the connection of this thread."""
        self._hang_up()

    close_beats = close

    # Errors.
    def is_fault(self, error: Exception) -> bool:
        """Whether the head or the disk of the cache caused an error."""
        if isinstance(error, OSError):
            return is_disk_fault(error, self.cache)
        return isinstance(error, HeadLost)

    def passes(self, error: Exception) -> bool:
        """Whether the disk of the cache is full; operations of the head already wait for what passes there."""
        return isinstance(error, OSError) and error.errno in DISK_FULL

    def damage(self) -> Exception | None:
        """Always None: only the head can find damage of its database."""
        return None

    def explained(self) -> AbstractContextManager[None]:
        """A context that does nothing: only the head can find damage of its database."""
        return nullcontext()

    # Files in pieces.
    def _send(self, claim: Claim, data: bytes, name: str, *about: object) -> None:
        """Send a file in pieces that the head acknowledges; start again if the head lost earlier pieces."""
        while True:
            try:
                for offset, piece in wire.pieces(data):
                    self._ask(None, "send", claim.number, offset, piece)
                self._ask(None, name, claim.number, *about)
                return
            except LostFile as lost:  # the head has restarted
                processes.say(f"sending the file again: {lost}")

    def _fetch(self, name: str, about: object) -> bytes:
        data = bytearray()
        while piece := self._ask(Piece | None, name, about, len(data)):
            data += piece.data
            if len(data) >= piece.total or not piece.data:
                break
        return bytes(data)

    def _make_room(self) -> None:
        found = sorted(self.folder.tickets(), key=lambda file: file.touched, reverse=True)
        taken = 0
        for file in found:
            taken += file.bytes
            if taken > CACHE_BYTES:
                file.path.unlink(missing_ok=True)

    # The connection.
    def _ask(self, kind: Any, name: str, *arguments: object) -> Any:
        """The head's answer as a `kind`. The main thread retries until the head answers; a stopping worker gives up."""
        is_main = threading.get_ident() == self._main
        pause = RETRY_SECONDS
        while True:
            try:
                line = self._line()
                line.send(Call(name, list(arguments)))
                answer = line.receive(Answer)
                if answer.problem != "wait":
                    return msgspec.convert(_valued(answer, self), kind)
                why = str(answer.said)
            except OSError as error:
                self._hang_up()
                if refused := wire.refusal(error, self.address):
                    self._refuse(refused)
                why = f"the head at {self.address} does not answer ({error})"
            if not is_main:
                raise HeadLost(why)
            if self.stopping():
                self._deadline = self._deadline or time.monotonic() + PARTING_SECONDS
                if time.monotonic() > self._deadline:
                    raise HeadLost(why)
            processes.say(f"{why}: waiting")
            time.sleep(jittered(pause))
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)

    def _line(self) -> Line:
        """The connection of this thread; a new one sends Hello first."""
        line: Line | None = getattr(self._lines, "line", None)
        if line:
            return line
        if self._refused:
            raise HeadLost(self._refused)
        role = "work" if threading.get_ident() == self._main else "beat"
        hello = self.hello
        if self.worker:
            order = Order.of(self._claim) if self._claim else None
            hello = structs.replace(hello, worker=self.worker, claim=order)
        line = self.address.connect()
        try:
            line.send(structs.replace(hello, role=role))
            answer = line.receive(Answer)
            if answer.problem:
                self._refuse(str(answer.said))
            welcome = msgspec.convert(answer.value, Welcome)
        except msgspec.DecodeError:
            line.close()
            self._refuse(wire.no_head(self.address))
            raise
        except BaseException:
            line.close()
            raise
        self._look_for_shared(welcome)
        self.worker, self.hello = welcome.worker, structs.replace(self.hello, database=welcome.database)
        self._lines.line = line
        return line

    def _look_for_shared(self, welcome: Welcome) -> None:
        """Use the shared folder for checkpoints, if the head has one. Raises HeadLost if this machine cannot."""
        place = Path(wire.mapped(welcome.checkpoints, self.paths)) if welcome.checkpoints else None
        if place and not shared.is_visible(place, welcome.database):
            self._refuse(
                f"this machine cannot write to {place}, the head's folder for checkpoints: mount it here, or say in"
                " [paths] where it is"
            )
        self.shared = Folder(place) if place else None

    def _refuse(self, why: str) -> None:
        if threading.get_ident() == self._main:
            self._refused = why
        raise HeadLost(why)

    def _hang_up(self) -> None:
        line: Line | None = getattr(self._lines, "line", None)
        if line:
            line.close()
            self._lines.line = None


def greeting(device: str, split: int, shared_device: bool, log: str, device_name: str | None = None) -> Hello:
    """The Hello of this process: of a worker, or of a pool if `device` is empty."""
    about = device, device_name, split, shared_device, log
    return Hello(__version__, wire.torch_version(), processes.identity(), "pool", *about)


def _valued(answer: Answer, desk: RemoteDesk) -> Any:
    """The value of an answer. Raises its problem as the exception that it stands for."""
    match answer.problem:
        case "":
            return answer.value
        case "stale":
            raise StaleClaim
        case "held up":
            raise HeldUp(answer.said)
        case "lost":
            raise LostFile(answer.said)
        case "input":
            raise InputError.from_json(answer.said)
    raise HeadLost(answer.said)
