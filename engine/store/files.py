"""The files beside the database: states, masks and checkpoints, all safetensors, none ever half-written.

States and masks are immutable and named by the SHA-256 of their bytes. A run has one checkpoint at a time.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


class LostFile(Exception):
    """A file that the database knows is missing or damaged: training the run that made it makes it again."""


@dataclass(frozen=True)
class Folder:
    """The folder of one database's files."""

    path: Path

    def put(self, data: bytes) -> str:
        """Store bytes under their SHA-256, which is returned. Storing the same again changes nothing."""
        digest = hashlib.sha256(data).hexdigest()
        place = self._artefact(digest)
        if not place.exists() or hashlib.sha256(place.read_bytes()).hexdigest() != digest:
            _write(place, data)
        _drop_partial(place)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes stored under a SHA-256. Raises LostFile if they are missing or damaged."""
        place = self._artefact(digest)
        if not place.exists():
            raise LostFile(f"ticket file {place} is missing")
        data = place.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise LostFile(f"ticket file {place} is damaged")
        return data

    def checkpoint(self, run_digest: str) -> Path:
        """Where the checkpoint of a run lies while it is under way."""
        return self.path / "checkpoints" / f"{run_digest}.safetensors"

    def checkpoints(self) -> set[str]:
        """The digests of the runs that have a checkpoint, or part of one."""
        return {place.name.lstrip(".").partition(".")[0] for place in (self.path / "checkpoints").glob("*")}

    def write_checkpoint(self, run_digest: str, data: bytes) -> None:
        """Replace the run's checkpoint in one step."""
        _write(self.checkpoint(run_digest), data)

    def drop_checkpoint(self, run_digest: str) -> None:
        """Remove the run's checkpoint."""
        place = self.checkpoint(run_digest)
        place.unlink(missing_ok=True)
        _drop_partial(place)

    def _artefact(self, digest: str) -> Path:
        return self.path / "tickets" / f"{digest}.safetensors"


def _write(place: Path, data: bytes) -> None:
    """Write under a temporary name, flush to disk, rename: readers see all of it or nothing."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(place)
        folder = os.open(place.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def _drop_partial(place: Path) -> None:
    """Remove what workers left that were killed while they wrote this file."""
    for partial in place.parent.glob(f".{place.name}.*"):
        partial.unlink(missing_ok=True)
