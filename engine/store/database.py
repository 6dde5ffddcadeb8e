"""Opening the database: finding the file, checking that it is cockpit's, and connecting to it."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path

from engine.errors import InputError, OptionName, command
from engine.machine import processes
from engine.store.paths import appearing, beside, named, real
from engine.store.waiting import Waiting, limit_log

APPLICATION_ID = 0x4C4F5454  # "LOTT": marks a file as cockpit's
SCHEMA_VERSION = 8  # the number of migrations in `schema`
BUSY_SECONDS = 30.0
FULL_BYTES = 2**20  # free disk space that SQLite needs to open a database
COPY_TRIES = 10  # attempts to copy a file that changes meanwhile
PATIENCE_SECONDS = 1.0  # of waiting for a lock before `on_wait` says so

File = tuple[int, int]  # identifies a file under any path: device and inode


class Connection(Waiting):
    """A connection that knows its file. If it reads a copy in memory, `copied` is the state of the file copied."""

    path: Path
    file: File
    copied: tuple[File, int, int, bool] | None = None

    def is_current(self) -> bool:
        """Whether its content is still the file's at its path; not if that was replaced, or changed after a copy."""
        try:
            state = _state(self.path)
        except FileNotFoundError:
            return False
        return state[0] == self.file and self.copied in (None, state)


def _wait_silently(message: str) -> None:
    """Ignore a message about a lock. The command line and the dashboard replace this by setting `on_wait`."""


on_wait: Callable[[str], None] = _wait_silently
opened: dict[Path, None] = {}  # the databases that this process opened, in order (`damage.cause`)


def default_path() -> Path:
    """Return `COCKPIT_DB`, else `experiments.local.db` of this folder if it exists, else `experiments.db`."""
    if (said := os.environ.get("COCKPIT_DB")) is not None:
        return named(said, "COCKPIT_DB")
    local = named("experiments.local.db")
    return local if local.exists() else Path("experiments.db")


_OTHER_FILE = ("name another file with ", OptionName("db"))


def reader(path: Path, busy_seconds: float = BUSY_SECONDS) -> Connection:
    """A read-only connection, which never blocks a writer. Raises InputError if the file is missing or not cockpit's.

    SQLite needs files next to a database that no process has open. If this process may not write them, the connection
    is to a copy in memory: check `is_current` before you read again.
    """
    ensure_exists(path)
    schema = version(path, busy_seconds)
    if schema < SCHEMA_VERSION:
        raise InputError(
            f"{path} is of schema {schema}, this version reads {SCHEMA_VERSION}: any command that writes migrates it,"
            f" e.g. {command('work', drain=True)}"
        )
    return _connect(path, "ro", busy_seconds)


def writer(path: Path, busy_seconds: float = BUSY_SECONDS, *, make: bool = True) -> sqlite3.Connection:
    """A connection that may write, after migrating an older database and, with `make`, creating a missing one.

    If another program has locked the database, this waits up to `busy_seconds`, and calls `on_wait` after
    `PATIENCE_SECONDS`.

    Raises InputError if the file belongs to another program, has a newer schema, or cannot be written; Busy if it
    stays locked.
    """
    file = real(path)
    if not file.parent.is_dir():
        asked = file if path.is_symlink() else path
        raise InputError(
            f"folder {asked.parent} for the database {path.name} does not exist: make it, or name another ",
            OptionName("db"),
        )
    if not make:
        ensure_exists(path)
    for needed in (file, file.parent):
        if needed.exists() and not os.access(needed, os.W_OK):  # SQLite itself fails only at the first change
            raise InputError(
                f"{needed.absolute()} cannot be written, so nothing is changed: results can be read, and"
                f" {command('store backup PLACE', db=path)} makes a copy that you can write to"
            )
    if not file.exists():
        with appearing(file) as made:
            _migrate(made, path)
    elif version(path) < SCHEMA_VERSION:
        _migrate(path)
    try:
        connection = _connect(path, "rw", min(busy_seconds, PATIENCE_SECONDS))
        if not _may_write(connection):
            on_wait(f"waiting for {path}, which another program holds")
        connection.patience = busy_seconds
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":  # changed by another program or a copy
            connection.execute("PRAGMA journal_mode = WAL")
        limit_log(connection)
        with transaction(connection):
            pass
    except sqlite3.OperationalError as error:
        raise _unusable(f"database {path} cannot be written", path, error) from None
    return connection


class Busy(InputError):
    """Another program kept the database locked for the whole wait; trying again later may succeed."""


def _unusable(problem: str, path: Path, error: sqlite3.Error) -> InputError:
    """The error to raise when SQLite cannot use a file."""
    return (Busy if "locked" in str(error) else InputError)(f"{problem} ({error}): ", _fix(path, error))


def ensure_exists(path: Path) -> None:
    """Raise InputError if no database exists at `path`."""
    if not real(path).exists():
        raise InputError(
            f"database {path} does not exist: queue something with `cockpit queue add`, or name one with ",
            OptionName("db"),
        )


def snapshot(path: Path, target: Path) -> None:
    """Copy a database of this or an older version to `target`, at one moment, while others write to it.

    Raises InputError if it is missing or damaged.
    """
    if not real(path).exists():
        raise InputError(f"database {path} does not exist: name one that exists")
    version(path)
    try:
        with closing(_connect(path, "ro")) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise InputError(f"{path} is damaged ({verdict.splitlines()[-1]}): see {command('store check', db=path)}")


def _may_write(connection: sqlite3.Connection) -> bool:
    try:
        with transaction(connection):
            return True
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return False
        raise


def writable_path(path: Path) -> Path:
    """Return `path`, or for a sample (a read-only record of results) its local copy, made on first use."""
    if not real(path).exists() or not _is_sample(path):
        return path
    from engine.store.files import Folder, is_digest  # imports hashlib, which reading does not need

    local = path.with_name(f"{path.stem}.local{path.suffix}")
    if not real(local).exists():
        with appearing(local) as made:  # the first of two processes wins: its copy may be in use already
            snapshot(path, made)
            with closing(sqlite3.connect(made)) as connection:
                connection.execute("DELETE FROM about WHERE key = 'sample'")
                connection.commit()
            ours, theirs = Folder(files_folder(local)), Folder(files_folder(path))
            for digest in filter(is_digest, (file.path.stem for file in theirs.tickets())):
                ours.take_ticket(theirs, digest)
    return local


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that takes the write lock at once: a deferred one could fail half way, ignoring the timeout.

    Within another transaction it is part of that one.
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
    """The time in UTC as ISO 8601 text with milliseconds, so that text order is time order."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds_ahead)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def insert(connection: sqlite3.Connection, table: str, row: Mapping[str, object]) -> int:
    """Add a row, given as values by column; returns its id."""
    marks = ", ".join(f":{column}" for column in row)
    added = connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row).lastrowid
    assert added is not None
    return added


def age(moment: str) -> float:
    """Seconds since a moment, given as text of `now`."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def model_folder(connection: sqlite3.Connection, model: str) -> str:
    """The folder of a user model's source when it was last queued; empty for a built-in model."""
    row = connection.execute("SELECT value FROM about WHERE key = ?", (f"model {model}",)).fetchone()
    return str(row[0]) if row else ""


def keep_model_folder(connection: sqlite3.Connection, model: str, folder: str) -> None:
    """Record the folder of a user model's source, in place of an earlier one; an empty folder changes nothing."""
    if folder:
        connection.execute(
            "INSERT INTO about (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (f"model {model}", folder),
        )


def file_of(connection: sqlite3.Connection) -> File:
    """The file, by device and inode, of a connection from `reader` or `writer`."""
    assert isinstance(connection, Connection)
    return connection.file


def lies_at(path: Path, file: File) -> bool:
    """Whether the path leads to this file. True if the file system fails: the failure may pass."""
    try:
        return _which(path) == file
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def path_of(connection: sqlite3.Connection) -> Path:
    """The path of a connection from `reader` or `writer`."""
    assert isinstance(connection, Connection)
    return connection.path


def files_folder(path: Path) -> Path:
    """The folder of tickets, checkpoints and worker logs of the database at `path`."""
    return beside(path, ".files")


def join_file(path: Path) -> Path:
    """The file with which other machines join the head of the database at `path`, while a head runs."""
    return files_folder(path) / "cluster.toml"


def _open(path: Path, mode: str, busy_seconds: float = BUSY_SECONDS) -> Connection:
    """A bare connection of mode `rw` or `ro`. `ro` leaves no file that the database's owner could not write."""
    if sqlite3.sqlite_version_info < (3, 37):
        raise InputError(f"this Python's SQLite is {sqlite3.sqlite_version}: 3.37 (November 2021) or newer is needed")
    file = real(path)
    foreign = mode == "ro" and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))
    if foreign and _is_wal(file) and not beside(path, "-wal").exists():
        return _copy(path, busy_seconds)
    uri = f"file:{_quoted(file)}?mode={mode}{'&readonly_shm=1' if foreign else ''}"
    # check_same_thread: threads may close each other's connections (`engine.results`).
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=busy_seconds if mode == "ro" else 0,
        isolation_level=None,
        factory=Connection,
        check_same_thread=False,
    )
    connection.patience = busy_seconds
    connection.path, connection.file = path, _which(file)
    opened[path] = None
    return connection


def _copy(path: Path, busy_seconds: float) -> Connection:
    """A connection to a copy in memory, of one moment, of a database that no process has open.

    SQLite reads such a file only as `immutable`, without locks. The copy is therefore discarded if another process
    opened or changed the file meanwhile.
    """
    for _ in range(COPY_TRIES):
        copy = sqlite3.connect(":memory:", isolation_level=None, factory=Connection, check_same_thread=False)
        copy.path, copy.copied = path, _state(path)
        opened[path] = None
        copy.file = copy.copied[0]
        if not copy.copied[3]:
            uri = f"file:{_quoted(real(path))}?mode=ro&immutable=1"
            with closing(sqlite3.connect(uri, uri=True)) as source:
                source.backup(copy)
        if copy.is_current():
            return copy
        copy.close()
        if beside(path, "-wal").exists():
            return _open(path, "ro", busy_seconds)
    raise InputError(f"{path} changes while it is read: try again")


def _which(path: Path) -> File:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _state(path: Path) -> tuple[File, int, int, bool]:
    """The file, its size and time of change, and whether its log exists, which means that a process has it open."""
    file = real(path)
    stat = file.stat()
    return _which(file), stat.st_size, stat.st_mtime_ns, beside(path, "-wal").exists()


def _is_wal(file: Path) -> bool:
    """Whether a database's header says that it uses a write-ahead log (https://sqlite.org/fileformat.html)."""
    with file.open("rb") as opened:
        return opened.read(20)[18:] == b"\2\2"


def _connect(path: Path, mode: str, busy_seconds: float = BUSY_SECONDS) -> Connection:
    connection = _open(path, mode, busy_seconds)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # Some builds of SQLite lack the mathematical functions that the view `curves` needs.
    connection.create_function("sqrt", 1, lambda x: None if x is None else sqrt(x), deterministic=True)
    return connection


def version(path: Path, busy_seconds: float = BUSY_SECONDS) -> int:
    """The schema version of a file, 0 for an empty one. Raises InputError if it is not cockpit's, or newer."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: ", OptionName("db"), " names a database file")
        if path.exists() and not path.is_file():  # opening a pipe would block for ever
            raise InputError(f"{path} is a pipe or a device: ", OptionName("db"), " names a database file")
        with closing(_open(path, "ro", busy_seconds)) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            schema: int = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise _unusable(f"{path} cannot be opened as a database", path, error) from None
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}): ", *_OTHER_FILE) from None
    if tables and application != APPLICATION_ID:
        raise InputError(f"{path} is a database of another program: ", *_OTHER_FILE)
    if schema > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a newer cockpit (schema {schema}, this one knows {SCHEMA_VERSION}):"
            " upgrade lottery-cockpit, or ",
            *_OTHER_FILE,
        )
    return schema


def _is_sample(path: Path) -> bool:
    if version(path) == 0:
        return False
    with closing(_connect(path, "ro")) as connection:  # not `reader`: the sample may be of an older version
        return connection.execute("SELECT 1 FROM about WHERE key = 'sample'").fetchone() is not None


def _fix(path: Path, error: sqlite3.Error) -> str | tuple[str, ...]:
    """What the user can do when SQLite cannot use a file."""
    if "locked" in str(error):
        return "wait for the program that holds it"
    folder = real(path).parent
    if shutil.disk_usage(folder).free < FULL_BYTES:
        return f"the disk of {folder} is full: make room there"
    if beside(path, "-wal").exists() and not beside(path, "-shm").exists():
        return f"its last changes lie in {path.name}-wal; open it once where its folder can be written"
    return _OTHER_FILE


def _migrate(file: Path, asked: Path | None = None) -> None:
    """Create or migrate a file in a separate process; errors name `asked`, the path that the file gets later.

    sqlite-utils imports numpy, which most commands do not need.
    """
    command = [*processes.python("engine.store.schema"), str(file)]
    done = subprocess.run(command, env=processes.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        path, reason = asked or file, (done.stderr.strip().splitlines() or ["unknown error"])[-1]
        raise _unusable(f"database {path} cannot be made or migrated", path, sqlite3.OperationalError(reason))


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path.absolute()))
