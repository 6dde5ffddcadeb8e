"""Opening the database: which file, whose it is, and how it is read and written."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path

from engine import processes
from engine.errors import InputError

APPLICATION_ID = 0x4C4F5454  # "LOTT": how the file says that it is ours
SCHEMA_VERSION = 3  # the number of migrations in `schema`
BUSY_SECONDS = 30.0
FULL_BYTES = 2**20  # of disk, that SQLite needs beside a database it opens
PATIENCE_SECONDS = 1.0  # that a person waits for a lock without being told


def _wait_silently(said: str) -> None:
    """What is said of a lock goes nowhere, unless a program that talks to a person puts something in its place."""


on_wait: Callable[[str], None] = _wait_silently


def default_path() -> Path:
    """`COCKPIT_DB`, else `experiments.local.db` if it is there, else `experiments.db`, in the current folder."""
    if named := os.environ.get("COCKPIT_DB"):
        return Path(named)
    local = Path("experiments.local.db")
    return local if local.exists() else Path("experiments.db")


def reader(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A read-only connection, which never blocks a writer. Raises InputError if the file is missing or not ours."""
    if not path.exists():
        raise InputError(
            f"there is no database {path}: queue something with `cockpit queue add`, or name one with --db"
        )
    schema = version(path, busy_seconds)
    if schema < SCHEMA_VERSION:
        raise InputError(
            f"{path} is of schema {schema}, this version reads {SCHEMA_VERSION}: any command that writes migrates it,"
            " e.g. `cockpit work --drain`"
        )
    return _connect(path, "ro", busy_seconds)


def writer(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that may write, to a database that is made or migrated first where that is needed.

    Where another program holds the database, it waits so many seconds, and says so to `on_wait` after the first.

    Raises InputError if the file belongs to another program, is newer than this one, or cannot be written.
    """
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent} for the database {path.name}: make it, or name another --db"
        )
    for place in (path, path.parent):
        if place.exists() and not os.access(place, os.W_OK):  # SQLite would find out at the first change only
            raise InputError(
                f"{place.absolute()} cannot be written, so nothing is changed: results can be looked at, and"
                f" `cockpit store backup PLACE --db {path}` makes a copy to go on with"
            )
    if not path.exists():
        _make(path)
    elif version(path) < SCHEMA_VERSION:
        _migrate(path)
    try:
        connection = _connect(path, "rw", min(busy_seconds, PATIENCE_SECONDS))
        if not _may_write(connection):
            on_wait(f"waiting for {path}, which another program holds")
        connection.execute(f"PRAGMA busy_timeout = {round(busy_seconds * 1000)}")
        with transaction(connection):
            pass
    except sqlite3.OperationalError as error:
        raise InputError(f"database {path} cannot be written ({error}): {_fix(path, error)}") from None
    return connection


def snapshot(path: Path, place: Path) -> None:
    """Copy a database, of this version or an older one, as it is at one moment, while others write to it.

    Raises InputError if it is damaged.
    """
    if not path.exists():
        raise InputError(f"there is no database {path}: name one that exists")
    version(path)
    try:
        with closing(_connect(path, "ro")) as source, closing(sqlite3.connect(place)) as copy:
            source.backup(copy)
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise InputError(f"{path} is damaged ({found.splitlines()[-1]}): see `cockpit store check --db {path}`")


def _may_write(connection: sqlite3.Connection) -> bool:
    try:
        with transaction(connection):
            return True
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return False
        raise


def writable_path(path: Path) -> Path:
    """`path`, or for a sample (a read-only record of results) its local copy, made on first use."""
    if not path.exists() or not _is_sample(path):
        return path
    local = path.with_name(f"{path.stem}.local{path.suffix}")
    if not local.exists():
        partial = local.with_name(f"{local.name}.{os.getpid()}")
        try:
            shutil.copyfile(path, partial)
            with closing(sqlite3.connect(partial)) as connection:
                connection.execute("DELETE FROM about WHERE key = 'sample'")
                connection.commit()
                connection.execute("PRAGMA journal_mode = WAL")
            with suppress(FileExistsError):  # another process was faster; its copy may be in use already
                os.link(partial, local)
        finally:
            partial.unlink(missing_ok=True)
    return local


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. It takes the write lock at once: a deferred one could fail half way, ignoring the timeout.

    Within another it is a part of that one.
    """
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def now(seconds_ahead: float = 0.0) -> str:
    """The time in UTC as ISO 8601 text with milliseconds, which sorts as it reads."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds_ahead)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(moment: str) -> float:
    """How many seconds ago `now` gave this text."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def model_folder(connection: sqlite3.Connection, model: str) -> str:
    """Where the source of a person's own model lay when it was queued last; empty for a model that comes along."""
    row = connection.execute("SELECT value FROM about WHERE key = ?", (f"model {model}",)).fetchone()
    return str(row[0]) if row else ""


def keep_model_folder(connection: sqlite3.Connection, model: str, folder: str) -> None:
    """Remember where the source of a person's own model lies; where it has moved, where it lies now."""
    if folder:
        connection.execute(
            "INSERT INTO about (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (f"model {model}", folder),
        )


def path_of(connection: sqlite3.Connection) -> Path:
    """The file that a connection is to."""
    return Path(connection.execute("PRAGMA database_list").fetchone()["file"])


def files_folder(path: Path) -> Path:
    """Where the tickets, checkpoints and worker logs of the database at `path` lie."""
    return path.with_name(f"{path.name}.files")


def _read_only(path: Path) -> str:
    """How a file is opened to be read. In a folder that cannot be written, WAL works only if nothing is in the log."""
    uri = f"file:{_quoted(path)}?mode=ro"
    if os.access(path, os.R_OK) and not os.access(path.parent, os.W_OK) and not has_log(path):
        return f"{uri}&immutable=1"
    return uri


def has_log(path: Path) -> bool:
    """Whether a database is in use, or was left by a process that was killed: not all of it is in the file."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _connect(path: Path, mode: str, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < (3, 37):
        raise InputError(f"this Python's SQLite is {sqlite3.sqlite_version}: 3.37 (November 2021) or newer is needed")
    uri = _read_only(path) if mode == "ro" else f"file:{_quoted(path)}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # Some builds of SQLite lack the mathematical functions that the view `curves` needs.
    connection.create_function("sqrt", 1, lambda x: None if x is None else sqrt(x), deterministic=True)
    return connection


def version(path: Path, busy_seconds: float = BUSY_SECONDS) -> int:
    """The schema version of a file. Raises InputError where it is no database of ours, or of a newer version."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: --db names a database file")
        with closing(sqlite3.connect(_read_only(path), uri=True, timeout=busy_seconds)) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            found: int = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path} cannot be opened as a database ({error}): {_fix(path, error)}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}): name another file with --db") from None
    if tables and application != APPLICATION_ID:
        raise InputError(f"{path} is a database of another program: name another file with --db")
    if found > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a newer cockpit (schema {found}, this one knows {SCHEMA_VERSION}):"
            " upgrade lottery-cockpit, or name another file with --db"
        )
    return found


def _is_sample(path: Path) -> bool:
    if version(path) == 0:
        return False
    with closing(_connect(path, "ro")) as connection:  # of any version: what writes migrates it next
        return connection.execute("SELECT 1 FROM about WHERE key = 'sample'").fetchone() is not None


def _make(path: Path) -> None:
    """Make a database under another name first, so that none is there by half, where the disk is full or a key pressed.

    Another process may be doing the same; the first one's stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _migrate(partial)
        with suppress(FileExistsError):
            os.link(partial, path)
    except InputError as error:
        raise InputError(str(error).replace(str(partial), str(path))) from None
    finally:
        for behind in ("", "-wal", "-shm", "-journal"):
            partial.with_name(partial.name + behind).unlink(missing_ok=True)


def _fix(path: Path, error: sqlite3.Error) -> str:
    """What to do where SQLite cannot use a file."""
    if "locked" in str(error):
        return "wait for the program that holds it"
    if shutil.disk_usage(path.parent).free < FULL_BYTES:
        return f"the disk of {path.parent.absolute()} is full: make room there"
    return "name another file with --db"


def _migrate(path: Path) -> None:
    """Make or migrate the file in a process of its own: sqlite-utils drags in numpy, which the rest does without."""
    command = [*processes.python("engine.store.schema"), str(path)]
    done = subprocess.run(command, env=processes.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["unknown error"])[-1]
        fix = _fix(path, sqlite3.OperationalError(reason))
        raise InputError(f"database {path} cannot be made or migrated ({reason}): {fix}")


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))
