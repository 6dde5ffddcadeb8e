"""Checkpoints in a folder that several machines see. The database's own folder of checkpoints is a link to it."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from engine.machine import processes

MARKER = "cluster"  # a file with the identity of the database, by which machines tell that they see the folder
_ASIDE = ".checkpoints."  # before the mark of the head that moves them


def folder(shared: Path, identity: str) -> Path:
    """The part of a shared folder that belongs to one database; made if absent, with its marker."""
    found = shared / f"cockpit-{identity}"
    (found / "checkpoints").mkdir(parents=True, exist_ok=True)
    (found / MARKER).write_text(identity)
    return found


def is_visible(found: Path, identity: str) -> bool:
    """Whether this machine sees the `folder` of a database, and may write to it."""
    with suppress(OSError):
        return (found / MARKER).read_text() == identity and os.access(found / "checkpoints", os.W_OK)
    return False


def place(files: Path, there: Path | None) -> None:
    """Have the checkpoints of a database lie in `there`, a `folder`, or (None) among its own files; moves them."""
    here, wanted = files / "checkpoints", (there / "checkpoints").resolve() if there else None
    if here.is_symlink() and here.resolve() != wanted:
        before = here.resolve()
        here.unlink()
        _move(before, wanted or here)
    if wanted and not here.is_symlink():
        if here.exists():
            here.rename(here.with_name(f"{_ASIDE}{processes.mark()}"))
        here.symlink_to(wanted, target_is_directory=True)
    for aside in files.glob(f"{_ASIDE}*"):  # also one that a killed head left
        _move(aside, here)
        shutil.rmtree(aside)


def _move(before: Path, after: Path) -> None:
    after.mkdir(exist_ok=True)
    for file in before.glob("*.safetensors"):
        shutil.move(file, after / file.name)
