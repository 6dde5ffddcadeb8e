"""The files beside the database: states, masks and checkpoints, all safetensors, none ever half-written.

States and masks are immutable and named by the SHA-256 of their bytes. A run has one checkpoint at a time.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from engine.errors import quoted
from engine.machine import processes
from engine.store.paths import name_in


class LostFile(Exception):
    """A file that the database knows is missing or damaged: training the run that made it makes it again."""


WRITTEN_SECONDS = 3600.0  # that no file takes to be written
_DESCRIPTORS = Path("/proc/self/fd")  # links to what this process has open, by its name of today; proc_pid_fd(5)
_SEAL = b"SHA-256:"  # before the 32 bytes of the hash at the end of a checkpoint


class Found(NamedTuple):
    """A file that lies in the folder: its size, and when it was last written, linked, named or wanted (nanoseconds)."""

    path: Path
    bytes: int
    touched: int


def is_digest(text: object) -> bool:
    """Whether a value has the form of a SHA-256, 64 hexadecimal digits: nothing else becomes the name of a file."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


@dataclass(frozen=True)
class Folder:
    """The folder of one database's files."""

    given: Path
    descriptor: int | None = None  # of the folder, by which it is found wherever it is moved

    @classmethod
    def followed(cls, path: Path) -> "Folder":
        """The folder at `path`, wherever it or one above it is moved while this process runs. Makes it if absent."""
        if not _DESCRIPTORS.exists():
            return cls(path)
        path.mkdir(exist_ok=True)
        return cls(path, os.open(path, os.O_RDONLY))

    @property
    def path(self) -> Path:
        """Where it is now; where it was, once it has been deleted."""
        if self.descriptor is None:
            return self.given
        return Path(os.readlink(_DESCRIPTORS / str(self.descriptor)).removesuffix(" (deleted)"))

    def put(self, data: bytes) -> str:
        """Store bytes under their SHA-256, which is returned. Storing the same again changes nothing."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._touch(digest):
            self._write(self.ticket, digest, data)
        _drop_partial(self.ticket(digest))
        return digest

    def _write(self, place: Callable[[str], Path], digest: str, data: bytes) -> None:
        """Write a file of the folder, once more where the folder was moved meanwhile."""
        before = self.path
        try:
            write(place(digest), data)
        except FileNotFoundError:
            if self.path == before:
                raise
            write(place(digest), data)

    def _touch(self, digest: str) -> bool:
        """Mark a file as wanted for `care.collect`, which frees none that is newer than its plan; False without it."""
        try:
            if self.is_whole(digest):
                os.utime(self.ticket(digest))
                return True
        except FileNotFoundError:  # `care.collect` has just taken it away
            pass
        return False

    def take_away(self, files: Iterable[Found]) -> Iterator[Found]:
        """Remove files; those that were removed.

        One that has been touched since it was found is put back: a worker is about to record it.
        """
        for file in files:
            # Not in the way of a later `put`, which writes the file anew.
            aside = file.path.with_name(f".{file.path.name}.freed.{processes.mark()}")
            with suppress(FileNotFoundError):
                before = file.path.stat()
                file.path.rename(aside)
                if before.st_ctime_ns == file.touched and aside.stat().st_mtime_ns == before.st_mtime_ns:
                    yield file
                else:
                    with suppress(FileExistsError):
                        os.link(aside, file.path)
                aside.unlink()

    def get(self, digest: str) -> bytes:
        """The bytes stored under a SHA-256. Raises LostFile if they are missing or damaged."""
        place = self.ticket(digest)
        if not place.exists():
            raise LostFile(f"ticket file {digest[:12]}… is missing from {self.path.name}")
        data = place.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise LostFile(f"ticket file {digest[:12]}… of {self.path.name} is damaged")
        return data

    def checkpoint(self, run_digest: str) -> Path:
        """Where the checkpoint of a run lies while it is under way. Raises LostFile for what is no SHA-256."""
        return self._named("checkpoints", run_digest)

    def checkpointed(self) -> set[str]:
        """The digests of the runs that have a checkpoint, or part of one."""
        return {place.name.lstrip(".").partition(".")[0] for place in (self.path / "checkpoints").glob("*")}

    def write_checkpoint(self, run_digest: str, data: bytes) -> None:
        """Replace the run's checkpoint in one step. Its hash comes last, as its name does not tell its contents."""
        self._write(self.checkpoint, run_digest, data + _SEAL + hashlib.sha256(data).digest())

    def write_partial_checkpoint(self, run_digest: str, data: bytes) -> str:
        """Write a checkpoint that takes effect by `settle_checkpoint`, on this machine or another; its name."""
        place = self.checkpoint(run_digest)
        partial = place.with_name(f".{place.name}.{processes.mark()}")
        try:
            partial.write_bytes(data + _SEAL + hashlib.sha256(data).digest())
            _flush(partial)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        return partial.name

    def settle_checkpoint(self, run_digest: str, partial: str) -> None:
        """Replace the run's checkpoint by one of `write_partial_checkpoint`. Raises LostFile without that file."""
        place = self.checkpoint(run_digest)
        written = place.with_name(partial)
        if not is_temporary(written) or not partial.startswith(f".{place.name}."):
            raise LostFile(f"{quoted(partial)} is no checkpoint of run {run_digest[:12]}…")
        try:
            written.replace(place)
        except FileNotFoundError:
            raise LostFile(f"checkpoint {partial} is not in {place.parent}") from None
        _flush(place.parent)

    def forget_partial(self, run_digest: str, partial: str) -> None:
        """Remove a file of `write_partial_checkpoint` if it did not take effect."""
        self.checkpoint(run_digest).with_name(partial).unlink(missing_ok=True)

    def checkpoint_hash(self, run_digest: str) -> str | None:
        """The SHA-256 with which the run's checkpoint ends; None without a checkpoint."""
        with suppress(FileNotFoundError), self.checkpoint(run_digest).open("rb") as file:
            file.seek(-32, os.SEEK_END)
            return file.read().hex()
        return None

    def adopt(self, partial: Path, digest: str) -> None:
        """Give a file that lies beside the others its name, if that is its SHA-256. Raises LostFile if not."""
        _check(partial, digest)
        _settle(partial, self.ticket(digest))

    def adopt_checkpoint(self, partial: Path, digest: str, run_digest: str) -> None:
        """The same for a checkpoint, whose hash comes last."""
        _check(partial, digest)
        with partial.open("ab") as file:
            file.write(_SEAL + bytes.fromhex(digest))
        _settle(partial, self.checkpoint(run_digest))

    def read_checkpoint(self, run_digest: str) -> bytes | None:
        """The run's checkpoint; None if it left none. Raises LostFile if it is damaged.

        Version 0.1.0 wrote none of these hashes: such a checkpoint is taken as it is.
        """
        try:
            data = self.checkpoint(run_digest).read_bytes()
        except FileNotFoundError:
            return None
        return self.unsealed(data, run_digest)

    @staticmethod
    def unsealed(data: bytes, run_digest: str) -> bytes:
        """The content of a checkpoint file. Raises LostFile if it is damaged."""
        body, seal = data[: -len(_SEAL) - 32], data[-len(_SEAL) - 32 :]
        if not seal.startswith(_SEAL):
            return data
        if seal != _SEAL + hashlib.sha256(body).digest():
            raise LostFile(f"checkpoint of run {run_digest[:12]}… is damaged")
        return body

    def drop_checkpoint(self, run_digest: str) -> None:
        """Remove the run's checkpoint."""
        place = self.checkpoint(run_digest)
        place.unlink(missing_ok=True)
        _drop_partial(place)

    def ticket(self, digest: str) -> Path:
        """Where the bytes of this SHA-256 lie, if they are here. Raises LostFile for what is no SHA-256."""
        return self._named("tickets", digest)

    def has(self, digest: str) -> bool:
        """Whether a file of this SHA-256 is here, damaged or not."""
        return is_digest(digest) and self.ticket(digest).exists()

    def is_whole(self, digest: str) -> bool:
        """Whether the bytes of this SHA-256 are here, and undamaged."""
        try:
            return _hash(self.ticket(digest)) == digest
        except (FileNotFoundError, LostFile):
            return False

    def tickets(self) -> list[Found]:
        """What lies where states and masks do, whatever it is."""
        return _found(self.path / "tickets")

    def checkpoints(self) -> list[Found]:
        """What lies where checkpoints do, whatever it is."""
        return _found(self.path / "checkpoints")

    def damaged_checkpoints(self) -> list[str]:
        """The runs, by digest, whose checkpoint is damaged."""
        damaged = []
        for file in self.checkpoints():
            if is_digest(file.path.stem) and not is_temporary(file.path):
                try:
                    self.read_checkpoint(file.path.stem)
                except LostFile:
                    damaged.append(file.path.stem)
        return damaged

    def imported(self) -> list[Path]:
        """The ticket files from elsewhere that are kept here (`imports.keep`), used by a run or not."""
        return sorted((self.path / "imported").glob("*.safetensors"))

    def take_imported(self, other: "Folder") -> None:
        """Have the ticket files here too that another folder keeps from elsewhere. Their names tell their contents."""
        for source in other.imported():
            _take(source, self.path / "imported" / source.name)

    def take_ticket(self, other: "Folder", digest: str) -> bool:
        """Have a file of another folder here too; False if it is missing or damaged there."""
        return self.is_whole(digest) or (other.has(digest) and _take(other.ticket(digest), self.ticket(digest), digest))

    def take_checkpoint(self, other: "Folder", run_digest: str) -> bool:
        """Have another folder's checkpoint of a run here, in place of one that is; False if there is none."""
        return is_digest(run_digest) and _take(other.checkpoint(run_digest), self.checkpoint(run_digest))

    def _named(self, kind: str, digest: str) -> Path:
        """The one door from a digest, which a foreign database may have made up, to a path."""
        if not is_digest(digest):
            raise LostFile(f"{quoted(digest)} names no file of {self.path.name}: it is no SHA-256")
        return self.path / kind / f"{digest}.safetensors"


def write(place: Path, data: bytes) -> None:
    """Give a file this content in one step: readers see what was there before, or all of it."""
    try:
        with _complete(place) as partial:
            partial.write_bytes(data)
    except OSError as error:
        error.filename, error.filename2 = str(place), None  # not the temporary file, which nobody asked for
        raise


def _take(source: Path, place: Path, digest: str | None = None) -> bool:
    """Link or, between file systems, copy a file, which is never changed once it has its name. False without it.

    With a `digest`, only if that is its SHA-256.
    """
    try:
        with _complete(place) as partial:
            try:
                os.link(source, partial)
            except FileNotFoundError:
                raise
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, partial)
            if digest is not None and _hash(partial) != digest:
                raise LostFile(f"ticket file {source} is damaged")
    except (FileNotFoundError, LostFile):
        return False
    return True


@contextmanager
def _complete(place: Path) -> Iterator[Path]:
    """A temporary name for a file, to be given its own when it is on the disk: readers see all of it or nothing."""
    partial = place.with_name(f".{place.name}.{processes.mark()}")
    try:
        for folder in (place.parent.parent, place.parent):  # no more: that of a database which was moved stays away
            folder.mkdir(exist_ok=True)
        yield partial
        _settle(partial, place)
    except OSError as error:
        name_in(error, place)
        raise
    finally:
        with suppress(OSError):  # said already
            partial.unlink(missing_ok=True)


def _check(partial: Path, digest: str) -> None:
    """Remove a file that came in damaged, and raise LostFile."""
    if _hash(partial) != digest:
        partial.unlink(missing_ok=True)
        raise LostFile(f"a file of SHA-256 {digest[:12]}… came in damaged")


def _settle(partial: Path, place: Path) -> None:
    """Give a file its name when it is on the disk."""
    place.parent.mkdir(exist_ok=True)
    _flush(partial)
    partial.replace(place)
    _flush(place.parent)


def _flush(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _found(folder: Path) -> list[Found]:
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # a worker has just renamed or removed it
                if entry.is_file():
                    about = entry.stat()
                    found.append(Found(Path(entry.path), about.st_size, about.st_ctime_ns))
    return found


def _hash(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _drop_partial(place: Path) -> None:
    """Remove what processes left that were killed while they wrote this file."""
    for partial in place.parent.glob(f".{place.name}.*"):
        if not is_being_written(partial):
            partial.unlink(missing_ok=True)


def is_temporary(place: Path) -> bool:
    """Whether a file has the name that it is given while it is written: a dot before, the writer's mark behind it."""
    return place.name.startswith(".") and processes.is_mark(place.suffix[1:])


def is_being_written(place: Path) -> bool:
    """Whether a file has a temporary name, and its process lives; or may live, elsewhere, as the file is young."""
    if not is_temporary(place):
        return False
    alive = processes.marked_alive(place.suffix[1:])
    try:
        return time.time() - place.stat().st_ctime < WRITTEN_SECONDS if alive is None else alive
    except FileNotFoundError:
        return False
