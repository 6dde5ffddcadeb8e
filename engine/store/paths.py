"""Where a database lies: the file that a person names, what lies beside it, and how a new one takes its place."""

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import InputError, OptionName
from engine.machine.paths import given, is_replaceable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
LOGS = ("-wal", "-journal")  # what SQLite reads into the database of that name, whichever wrote it


def named(text: str | os.PathLike[str], option: str = OptionName("db")) -> Path:
    """The database that a person names, `~` expanded. Raises InputError for what cannot be the name of a file."""
    said = os.fspath(text)
    if not said:
        raise InputError(option, " is empty: name a database file, or leave ", option, " out")
    return given(said, option)


def real(path: Path) -> Path:
    """The file itself where `path` is a link: SQLite keeps its logs beside that one, so all else lies there, too.

    Raises InputError for a link to nothing.
    """
    found = Path(os.path.realpath(path))
    if path.is_symlink() and not found.exists():
        raise InputError(
            f"{path} is a link to {found}, which does not exist: mount or restore that file, or remove the link"
        )
    return found


def beside(path: Path, ending: str) -> Path:
    """The file or folder that belongs to the database at `path`, as SQLite names it: its name and an ending."""
    found = real(path)
    return found.with_name(found.name + ending)


def logs(path: Path) -> list[Path]:
    """The logs that hold changes which are not in the database's file yet: it is in use, or its process was killed."""
    found = (beside(path, ending) for ending in LOGS)
    return [log for log in found if log.exists() and log.stat().st_size > 0]


@contextmanager
def appearing(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary path for a database that gets the name `path` once it is complete.

    Without `replace`, one that another process has put there meanwhile stays. Raises InputError where the log of
    another database lies beside `path`: SQLite would write what that holds into the new one.
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


def name_in(error: OSError, path: Path) -> None:
    """Let the error of a file name `path` where it names the temporary file beside it, which nobody asked for."""
    if error.filename is None or f"{os.sep}.{path.name}." in f"{os.sep}{os.fsdecode(error.filename)}":
        error.filename, error.filename2 = str(path), None


def _ensure_no_log(path: Path, replace: bool) -> None:
    found = logs(path)
    if found and not path.exists():
        names = " ".join(shlex.quote(str(log)) for log in found)
        raise InputError(
            f"{path} cannot be made next to {found[0]}, the log of a database that was moved or removed: it may hold"
            f" the last changes of that database; move it there, or remove it with: rm {names}"
        )
    if replace and (found or (path.exists() and beside(path, "-wal").exists())):
        raise InputError(f"{path} is in use, or was not closed ({path.name}-wal): name another file")
