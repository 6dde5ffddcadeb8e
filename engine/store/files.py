"""The files next to the database: states, masks and checkpoints as safetensors, each written whole or not at all.

States and masks, called ticket files, are immutable and named by the SHA-256 of their bytes. A run has one checkpoint.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.errors import quoted
from engine.machine import processes
from engine.store.paths import name_in


class LostFile(Exception):
    """A recorded file is missing or damaged. Training the run that left it makes it again."""


WRITTEN_SECONDS = 3600.0  # longer than writing any file takes
_DESCRIPTORS = Path("/proc/self/fd")  # links to the present paths of this process's open files; proc_pid_fd(5)
_SEAL = b"SHA-256:"  # precedes the 32 bytes of the hash at the end of a checkpoint


class StoredFile(NamedTuple):
    """A file in the folder; `touched` is its time of status change in nanoseconds (written, linked, named, marked)."""

    path: Path
    bytes: int
    touched: int


def is_digest(text: object) -> bool:
    """Whether a value is a SHA-256 of 64 hexadecimal digits. No other value becomes a file name."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


class Folder(msgspec.Struct, frozen=True):
    """The folder of one database's files."""

    given: Path
    descriptor: int | None = None  # of the opened folder, which leads to it after a move

    @classmethod
    def followed(cls, path: Path) -> "Folder":
        """The folder at `path`, followed if it or a parent is moved while this process runs. Creates it if missing."""
        if not _DESCRIPTORS.exists():
            return cls(path)
        path.mkdir(exist_ok=True)
        return cls(path, os.open(path, os.O_RDONLY))

    @property
    def path(self) -> Path:
        """The folder's present path, or its last one if it was deleted."""
        if self.descriptor is None:
            return self.given
        return Path(os.readlink(_DESCRIPTORS / str(self.descriptor)).removesuffix(" (deleted)"))

    def put(self, data: bytes) -> str:
        """Store bytes under their SHA-256, and return that. Storing the same bytes again changes nothing."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._touch(digest):
            self._write(self.ticket, digest, data)
        drop_partials(self.ticket(digest))
        return digest

    def _write(self, path_of: Callable[[str], Path], digest: str, data: bytes) -> None:
        """Write a file of the folder; again if the folder was moved meanwhile."""
        before = self.path
        try:
            write(path_of(digest), data)
        except FileNotFoundError:
            if self.path == before:
                raise
            write(path_of(digest), data)

    def _touch(self, digest: str) -> bool:
        """Set a whole file's time to now, so that `care.collect` keeps it; False if it is missing or damaged."""
        try:
            if self.is_whole(digest):
                os.utime(self.ticket(digest))
                return True
        except FileNotFoundError:  # `care.collect` has just removed it
            pass
        return False

    def take_away(self, files: Iterable[StoredFile]) -> Iterator[StoredFile]:
        """Remove files, and yield those that were removed.

        A file that was touched since it was listed stays, because a worker is about to record it.
        """
        for file in files:
            # Renamed first, so that a `put` meanwhile writes the file anew.
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
        path = self.ticket(digest)
        if not path.exists():
            raise LostFile(f"ticket file {digest[:12]}… is missing from {self.path.name}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise LostFile(f"ticket file {digest[:12]}… of {self.path.name} is damaged")
        return data

    def checkpoint(self, run_digest: str) -> Path:
        """The path of a run's checkpoint. Raises LostFile if `run_digest` is no SHA-256."""
        return self._named("checkpoints", run_digest)

    def checkpointed(self) -> set[str]:
        """The digests of the runs that have a checkpoint, whole or partly written."""
        return {file.name.lstrip(".").partition(".")[0] for file in (self.path / "checkpoints").glob("*")}

    def write_checkpoint(self, run_digest: str, data: bytes) -> None:
        """Replace the run's checkpoint in one step. Its SHA-256 is appended, because its name is the run's digest."""
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

    def incoming(self, sender: int) -> Path:
        """The path of a new temporary file for what a sender sends; see `adopt` and `adopt_checkpoint`."""
        partial = self.path / "tickets" / f".incoming-{sender}.{processes.mark()}"
        partial.parent.mkdir(parents=True, exist_ok=True)
        return partial

    def drop_incoming(self) -> None:
        """Delete incomplete received files whose receiver was killed."""
        _drop_left((self.path / "tickets").glob(".incoming-*"))

    def adopt(self, partial: Path, digest: str) -> None:
        """Store a file of this folder as a ticket file. Raises LostFile, and deletes it, if its SHA-256 differs."""
        _check(partial, digest)
        _settle(partial, self.ticket(digest))

    def adopt_checkpoint(self, partial: Path, digest: str, run_digest: str) -> None:
        """Store a file of this folder as a run's checkpoint; LostFile, and deletion, as with `adopt`."""
        _check(partial, digest)
        with partial.open("ab") as file:
            file.write(_SEAL + bytes.fromhex(digest))
        _settle(partial, self.checkpoint(run_digest))

    def read_checkpoint(self, run_digest: str) -> bytes | None:
        """The bytes of the run's checkpoint; None if it has none. Raises LostFile if it is damaged.

        A checkpoint of version 0.1.0, which appended no hash, is not verified.
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
        path = self.checkpoint(run_digest)
        path.unlink(missing_ok=True)
        drop_partials(path)

    def ticket(self, digest: str) -> Path:
        """The path of the ticket file of this SHA-256, which may be missing. Raises LostFile if it is no SHA-256."""
        return self._named("tickets", digest)

    def has(self, digest: str) -> bool:
        """Whether a ticket file of this name exists, damaged or not."""
        return is_digest(digest) and self.ticket(digest).exists()

    def is_whole(self, digest: str) -> bool:
        """Whether the ticket file of this SHA-256 exists undamaged."""
        try:
            return _hash(self.ticket(digest)) == digest
        except (FileNotFoundError, LostFile):
            return False

    def tickets(self) -> list[StoredFile]:
        """All files in the folder of ticket files, whatever their names."""
        return _files_in(self.path / "tickets")

    def checkpoints(self) -> list[StoredFile]:
        """All files in the folder of checkpoints, whatever their names."""
        return _files_in(self.path / "checkpoints")

    def damaged_checkpoints(self) -> list[str]:
        """The digests of the runs whose checkpoint is damaged."""
        damaged = []
        for file in self.checkpoints():
            if is_digest(file.path.stem) and not is_temporary(file.path):
                try:
                    self.read_checkpoint(file.path.stem)
                except LostFile:
                    damaged.append(file.path.stem)
        return damaged

    def imported(self) -> list[Path]:
        """The imported ticket files (`imports.keep`), used by a run or not."""
        return sorted((self.path / "imported").glob("*.safetensors"))

    def take_imported(self, other: "Folder") -> None:
        """Copy or link the imported ticket files of another folder to this one."""
        for source in other.imported():
            _take(source, self.path / "imported" / source.name)

    def take_ticket(self, other: "Folder", digest: str) -> bool:
        """Copy or link a ticket file of another folder to this one; False if it is missing or damaged there."""
        return self.is_whole(digest) or (other.has(digest) and _take(other.ticket(digest), self.ticket(digest), digest))

    def take_checkpoint(self, other: "Folder", run_digest: str) -> bool:
        """Copy or link a checkpoint of another folder over this one's; False if that folder has none."""
        return is_digest(run_digest) and _take(other.checkpoint(run_digest), self.checkpoint(run_digest))

    def _named(self, kind: str, digest: str) -> Path:
        """The only way from a digest to a path, because a database from elsewhere may hold anything as a digest."""
        if not is_digest(digest):
            raise LostFile(f"{quoted(digest)} names no file of {self.path.name}: it is no SHA-256")
        return self.path / kind / f"{digest}.safetensors"


def write(path: Path, data: bytes) -> None:
    """Write a file in one step: readers see the old content or all of the new."""
    try:
        with _complete(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not the temporary file, which the user does not know
        raise


def _take(source: Path, target: Path, digest: str | None = None) -> bool:
    """Link a file or, between file systems, copy it. Links are safe, as these files never change.

    False if the source is missing or, with a `digest`, has another SHA-256.
    """
    try:
        with _complete(target) as partial:
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
def _complete(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file, which is flushed to disk and renamed to `path` at the end."""
    partial = path.with_name(f".{path.name}.{processes.mark()}")
    try:
        for folder in (path.parent.parent, path.parent):  # no further up, where a moved database may have been
            folder.mkdir(exist_ok=True)
        yield partial
        _settle(partial, path)
    except OSError as error:
        name_in(error, path)
        raise
    finally:
        with suppress(OSError):  # the first error counts
            partial.unlink(missing_ok=True)


def _check(partial: Path, digest: str) -> None:
    """Raise LostFile, and delete the file, if its SHA-256 is another than `digest`."""
    if _hash(partial) != digest:
        partial.unlink(missing_ok=True)
        raise LostFile(f"a file of SHA-256 {digest[:12]}… came in damaged")


def _settle(partial: Path, path: Path) -> None:
    """Flush a file to the disk, then rename it to `path`."""
    path.parent.mkdir(exist_ok=True)
    _flush(partial)
    partial.replace(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_in(folder: Path) -> list[StoredFile]:
    files = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # a worker has just renamed or removed it
                if entry.is_file():
                    about = entry.stat()
                    files.append(StoredFile(Path(entry.path), about.st_size, about.st_ctime_ns))
    return files


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def drop_partials(path: Path) -> None:
    """Delete the temporary files of `path` that killed processes left."""
    _drop_left(path.parent.glob(f".{path.name}.*"))


def _drop_left(files: Iterable[Path]) -> None:
    """Delete those of some temporary files whose writers have ended."""
    for file in files:
        if is_temporary(file) and not is_being_written(file):
            file.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a name is one that `_complete` gives to an unfinished file: a dot, the name, and the writer's mark."""
    return path.name.startswith(".") and processes.is_mark(path.suffix[1:])


def is_being_written(path: Path) -> bool:
    """Whether a file is temporary and its writer lives; a writer on another machine may, if the file is young."""
    if not is_temporary(path):
        return False
    alive = processes.marked_alive(path.suffix[1:])
    try:
        return time.time() - path.stat().st_ctime < WRITTEN_SECONDS if alive is None else alive
    except FileNotFoundError:
        return False
