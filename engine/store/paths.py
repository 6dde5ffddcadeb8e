"""The paths of a database: the file that the user names, the files next to it, and replacing it in one step."""

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import InputError, OptionName
from engine.machine.paths import given, is_replaceable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_BROKEN = (errno.EIO, errno.EROFS, errno.ESTALE)
LOGS = ("-wal", "-journal")  # SQLite applies these to the database of that name, whichever database wrote them


def named(text: str | os.PathLike[str], option: str = OptionName("db")) -> Path:
    """The database path that the user gave, with `~` expanded. Raises InputError if it cannot name a file."""
    said = os.fspath(text)
    if not said:
        raise InputError(option, " is empty: name a database file, or leave ", option, " out")
    return given(said, option)


def real(path: Path) -> Path:
    """The file that `path` links to, or `path`. SQLite keeps its logs next to that file, and so does cockpit.

    Raises InputError for a link to nothing.
    """
    file = Path(os.path.realpath(path))
    if path.is_symlink() and not file.exists():
        raise InputError(
            f"{path} is a link to {file}, which does not exist: mount or restore that file, or remove the link"
        )
    return file


def beside(path: Path, ending: str) -> Path:
    """The companion file or folder of the database at `path`: the database's name with an ending."""
    file = real(path)
    return file.with_name(file.name + ending)


def logs(path: Path) -> list[Path]:
    """The logs with changes that the database file lacks: it is in use, or its last process was killed."""
    candidates = (beside(path, ending) for ending in LOGS)
    return [log for log in candidates if log.exists() and log.stat().st_size > 0]


@contextmanager
def appearing(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary path for a database, which is renamed to `path` at the end.

    Without `replace`, a database that another process made meanwhile stays. Raises InputError if `path` is no regular
    file, cannot be written, or has the log of another database next to it, which SQLite would apply to the new one.
    """
    from tempfile import TemporaryDirectory

    path = real(path)
    if not is_replaceable(path):
        raise InputError(f"{path} is no file, so no database can take its place: name another file")
    _ensure_no_log(path, replace)
    try:
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            made = Path(folder) / path.name
            yield made
            _ensure_no_log(path, replace)
            if replace:
                made.replace(path)
            else:
                with suppress(FileExistsError):
                    os.link(made, path)
    except OSError as error:
        name_in(error, path)
        if error.errno in DISK_FULL or error.filename != str(path):
            raise
        raise InputError(f"{path} cannot be written ({error.strerror}): name another file") from None


def is_disk_fault(error: OSError, *folders: Path) -> bool:
    """Whether a file in one of these folders, or a disk that is full or broken, caused an error."""
    if error.filename is None:
        return error.errno in DISK_FULL + DISK_BROKEN
    return any(Path(os.fsdecode(error.filename)).is_relative_to(folder) for folder in folders)


def name_in(error: OSError, path: Path) -> None:
    """Make an error name `path` instead of its temporary file, which the user does not know."""
    if error.filename is None or f"{os.sep}.{path.name}." in f"{os.sep}{os.fsdecode(error.filename)}":
        error.filename, error.filename2 = str(path), None


def _ensure_no_log(path: Path, replace: bool) -> None:
    left = logs(path)
    if left and not path.exists():
        names = " ".join(shlex.quote(str(log)) for log in left)
        raise InputError(
            f"{path} cannot be made next to {left[0]}, the log of a database that was moved or removed: it may hold"
            f" the last changes of that database; move it there, or remove it with: rm {names}"
        )
    if replace and (left or (path.exists() and beside(path, "-wal").exists())):
        raise InputError(f"{path} is in use, or was not closed ({path.name}-wal): name another file")
