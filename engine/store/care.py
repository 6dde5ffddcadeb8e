"""Care for a database and its files: checking, repairing, freeing unneeded files, and backups."""

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from engine.errors import InputError, OptionName
from engine.store import damage, leases, queue
from engine.store.database import files_folder, now, snapshot, transaction, writer
from engine.store.files import Folder, StoredFile, is_being_written, is_digest, is_temporary
from engine.store.paths import appearing, real

Progress = Callable[[int, int], None]  # takes the bytes processed and their total
STRAY_SECONDS = 3600.0  # longer than any worker takes between writing a file and recording it
CURABLE = {"queue", "files", "checkpoints"}  # kinds of errors that `repair` corrects

_UNFINISHED = "status NOT IN ('done', 'diverged')"  # failed and blocked runs can be retried
_WANTED = "id IN (SELECT run_id FROM curve_points)"  # an experiment of any state has the run


@dataclass(frozen=True)
class Report:
    """The result of a check: errors by what is wrong, and notes, which are no errors."""

    errors: dict[str, str]
    notes: list[str]
    runs: int = 0
    files: int = 0
    damaged: tuple[str, ...] = ()  # ticket files, by SHA-256
    checkpoints: tuple[str, ...] = ()  # damaged ones, by the digests of their runs
    temporaries: tuple[StoredFile, ...] = ()


def check(connection: sqlite3.Connection, folder: Folder, progress: Progress) -> Report:
    """Verify the database, its derived values, and the SHA-256 of every ticket file and checkpoint.

    Missing files are no error: they are made again when a run needs them (`engine.workers.run.Missing`).
    """
    listed = folder.tickets(), folder.checkpoints()  # before the rows, as a file is written before it is recorded
    connection.execute("BEGIN")  # all rows of one moment; ends before the hashing, during which the log would grow
    try:
        errors, foreign = damage.find(connection)
        if errors.keys() & {"database", "rows"}:
            return Report(errors, [])
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        known = dict(connection.execute("SELECT sha256, bytes FROM files").fetchall())
        strays = _strays(connection, folder, *listed)
        errors["queue"] = _unfit(connection)
        notes = [damage.some("runs of other semantics, kept but never trained", foreign), _silent(connection)]
    finally:
        connection.rollback()
    absent, damaged = _hash_all(folder, {d: size for d, size in known.items() if is_digest(d)}, progress)
    nameless = [str(digest) for digest in known if not is_digest(digest)]
    found_files = (
        damage.some("damaged ticket files", damaged),
        damage.some("ticket files named by no SHA-256", nameless),
    )
    errors["files"] = "; ".join(filter(None, found_files))
    checkpoints = folder.damaged_checkpoints()
    errors["checkpoints"] = damage.some("damaged checkpoints, of the runs", checkpoints)
    notes.append(_describe_strays(strays))
    if absent:
        notes.append(f"absent ticket files: {len(absent)} of {len(known)}; each is made again when a run needs it")
    return Report(
        {what: text for what, text in errors.items() if text},
        [note for note in notes if note],
        runs,
        len(known),
        tuple(damaged),
        tuple(checkpoints),
        tuple(file for file in strays if is_temporary(file.path)),
    )


def repair(connection: sqlite3.Connection, folder: Folder, report: Report) -> list[str]:
    """Correct the errors of a check that can be corrected without losing results; returns what was done, as text."""
    done = []
    with transaction(connection):
        if changed := queue.refit(connection):
            done.append(f"runs whose place in the queue was derived again: {changed}")
        if forgotten := forget_nameless(connection):
            done.append(f"records deleted of ticket files that no SHA-256 names: {forgotten}")
    damaged = [digest for digest in report.damaged if not folder.is_whole(digest)]  # workers may have replaced some
    for digest in damaged:
        folder.ticket(digest).unlink(missing_ok=True)
    if damaged:
        done.append(f"damaged ticket files deleted: {len(damaged)}; each is made again when a run needs it")
    if damaged := sorted(set(report.checkpoints) & set(folder.damaged_checkpoints())):
        for digest in damaged:
            folder.drop_checkpoint(digest)
        done.append(f"damaged checkpoints deleted: {len(damaged)}; their runs start over")
    for file in report.temporaries:
        file.path.unlink(missing_ok=True)
    if report.temporaries:
        done.append(f"files deleted that were never written to the end: {len(report.temporaries)}")
    return done


def forget_nameless(connection: sqlite3.Connection) -> int:
    """Delete the records of files that are named by no SHA-256; returns their number. Runs make the files again."""
    rows = connection.execute("SELECT run_id, kind, sha256 FROM files").fetchall()
    nameless = [(row["run_id"], row["kind"]) for row in rows if not is_digest(row["sha256"])]
    connection.executemany("DELETE FROM files WHERE (run_id, kind) IS (?, ?)", nameless)
    return len(nameless)


@dataclass(frozen=True)
class Plan:
    """What can be freed. `&` gives what is in both of two plans, without files touched between them."""

    tickets: frozenset[StoredFile]
    strays: frozenset[StoredFile]
    runs: frozenset[int]

    def __and__(self, other: "Plan") -> "Plan":
        return Plan(*(getattr(self, field.name) & getattr(other, field.name) for field in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


def plan(connection: sqlite3.Connection, folder: Folder, *, tickets: bool = False, runs: bool = False) -> Plan:
    """What no experiment needs: ticket files, strays, and with `runs` the records of runs on no curve.

    With `tickets`, also the ticket files of runs that have ended. Files and runs that an unfinished run needs, directly
    or not, are always kept.
    """
    listed = folder.tickets()
    needed = _standing(connection, f"{_UNFINISHED} OR {_WANTED}")
    keeps = _standing(connection, _UNFINISHED) if tickets else needed
    rows = connection.execute("SELECT run_id, sha256 FROM files").fetchall()
    free = {row["sha256"] for row in rows} - {row["sha256"] for row in rows if row["run_id"] in keeps}
    known = {folder.ticket(digest) for digest in free if is_digest(digest)}
    everything = {row[0] for row in connection.execute("SELECT id FROM runs")} if runs else set()
    return Plan(
        frozenset(file for file in listed if file.path in known),
        frozenset(_strays(connection, folder, listed, folder.checkpoints())),
        frozenset(everything - needed),
    )


def collect(
    connection: sqlite3.Connection, folder: Folder, planned: Plan, *, tickets: bool = False, runs: bool = False
) -> Plan:
    """Free what was planned and is still not needed; returns what was freed.

    Rows are deleted before files, so that an interruption leaves stray files and never a row without its file. Files
    are deleted while the database is locked, so that no worker records a file that is about to go.
    """
    with transaction(connection):
        freed = planned & plan(connection, folder, tickets=tickets, runs=runs)
        digests = json.dumps([file.path.stem for file in freed.tickets])
        connection.execute("DELETE FROM files WHERE sha256 IN (SELECT value FROM json_each(?))", (digests,))
        queue.forget(connection, freed.runs)
    with transaction(connection):
        known = {folder.ticket(d) for (d,) in connection.execute("SELECT sha256 FROM files") if is_digest(d)}
        tickets_gone, strays_gone = (
            frozenset(folder.take_away(file for file in files if file.path not in known))
            for files in (freed.tickets, freed.strays)
        )
    return replace(freed, tickets=tickets_gone, strays=strays_gone)


@dataclass(frozen=True)
class Backup:
    """The numbers of ticket files and checkpoints in a backup, and of files that were missing or damaged."""

    files: int
    checkpoints: int
    absent: int


def backup(path: Path, target: Path, progress: Progress, *, files: bool = True, force: bool = False) -> Backup:
    """Copy a database of one moment, while workers write, and its files, to `target`. It appears whole or not at all.

    Files are hard links if the file system has them, as they never change. Checkpoints are copied before the database,
    so that the database has all epochs before each. Runs in training are waiting in the copy, and resume there from
    their checkpoints. Raises InputError if `target` cannot or, without `force`, must not be written.
    """
    _ensure_free(path, target, force)
    target = real(target)
    ours, theirs = Folder(files_folder(path)), Folder(files_folder(target))
    sizes = sum(file.bytes for file in ours.tickets() + ours.checkpoints()) if files else 0
    ensure_space(target.parent, path, sizes)
    checkpoints = taken = absent = 0
    with appearing(target, replace=True) as copy:
        if files:
            checkpoints = sum(theirs.take_checkpoint(ours, file.path.stem) for file in ours.checkpoints())
        snapshot(path, copy)
        rows = _settle(copy)
        if files:
            taken, absent = take_tickets(theirs, ours, rows, progress)
            theirs.take_imported(ours)
    return Backup(taken, checkpoints, absent)


def ensure_space(folder: Path, database: Path, files: int) -> None:
    """Raise InputError if a folder's disk has no room for a copy of a database and of its files (`files` bytes)."""
    linked = database.stat().st_dev == folder.stat().st_dev
    needed, free = database.stat().st_size + (0 if linked else files), shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: make room first")


def take_tickets(here: Folder, there: Folder, sizes: dict[str, int], progress: Progress) -> tuple[int, int]:
    """Copy ticket files of another folder; returns how many are here now, and how many are missing or damaged there.

    `sizes` maps the SHA-256 of each file to its bytes.
    """
    done, taken, total = 0, 0, sum(sizes.values())
    for digest, size in sizes.items():
        taken += here.take_ticket(there, digest)
        done += size
        progress(done, total)
    return taken, len(sizes) - taken


def _ensure_free(path: Path, target: Path, force: bool) -> None:
    """Raise InputError if a backup cannot, or must not, be written to `target`."""
    if not path.exists():
        raise InputError(f"database {path} does not exist: name one that exists with ", OptionName("db"))
    if not target.parent.is_dir():
        raise InputError(f"folder {target.parent} for the backup {target.name} does not exist: make it first")
    if target.is_dir():
        raise InputError(f"{target} is a folder: name the file that the backup becomes, as {target / path.name}")
    if not target.exists():
        return
    if not target.is_file():
        raise InputError(f"{target} is no regular file: name another for the backup")
    if target.samefile(path):
        raise InputError(f"{target} is the database itself: name another file for the backup")
    if not force:
        raise InputError(f"{target} exists: name another file, or let it be overwritten with ", OptionName("force"))


def _settle(copy: Path) -> dict[str, int]:
    """Return a copy's running runs to the queue, end its workers and forget its head and what joined workers call it.

    Returns the size of its recorded files by SHA-256.
    """
    connection = writer(copy)
    try:
        with transaction(connection):
            leases.reclaim_all(connection)
            connection.execute("DELETE FROM about WHERE key IN ('cluster', 'head')")
            for table in ("workers", "pools"):
                connection.execute(f"UPDATE {table} SET ended_at = ? WHERE ended_at IS NULL", (now(),))
        return dict(connection.execute("SELECT sha256, bytes FROM files").fetchall())
    finally:
        connection.close()


def _unfit(connection: sqlite3.Connection) -> str:
    count = queue.unfit(connection)
    return f"runs whose place in the queue does not fit what is queued: {count}" if count else ""


def _silent(connection: sqlite3.Connection) -> str:
    count = sum(holder.expired for holder in leases.holders(connection))
    return f"running runs whose worker is silent: {count}; the next `cockpit work` takes them over" if count else ""


def _strays(
    connection: sqlite3.Connection, folder: Folder, tickets: list[StoredFile], checkpoints: list[StoredFile]
) -> list[StoredFile]:
    """The ticket files without a row and the checkpoints without an unfinished run, unless they are young."""
    rows = connection.execute("SELECT sha256 FROM files")
    known = {folder.ticket(row[0]) for row in rows if is_digest(row[0])}
    rows = connection.execute(f"SELECT digest FROM runs WHERE {_UNFINISHED}")
    known |= {folder.checkpoint(row[0]) for row in rows if is_digest(row[0])}
    latest = time.time_ns() - int(STRAY_SECONDS * 1e9)
    return [
        file
        for file in tickets + checkpoints
        if file.path not in known and file.touched < latest and not is_being_written(file.path)
    ]


def _describe_strays(strays: list[StoredFile]) -> str:
    size = sum(file.bytes for file in strays) / 1e6
    return (
        f"stray files, which belong to nothing: {len(strays)} ({size:.1f} MB); `cockpit store gc` frees them"
        if strays
        else ""
    )


def _hash_all(folder: Folder, known: dict[str, int], progress: Progress) -> tuple[list[str], list[str]]:
    """The recorded ticket files that are missing, and those that are damaged."""
    absent: list[str] = []
    damaged: list[str] = []
    done, total = 0, sum(known.values())
    for digest, size in known.items():
        if not folder.is_whole(digest):
            (damaged if folder.has(digest) else absent).append(digest)
        done += size
        progress(done, total)
    return absent, damaged


def _standing(connection: sqlite3.Connection, condition: str) -> set[int]:
    """The ids of the runs that meet a condition, and of all runs that these need."""
    rows = connection.execute(
        f"""
        WITH RECURSIVE standing (id) AS (
          SELECT id FROM runs WHERE {condition}
          UNION SELECT n.needs_id FROM run_needs n JOIN standing ON n.run_id = standing.id)
        SELECT id FROM standing
        """
    )
    return {row[0] for row in rows}
