"""Care for a database and its files: check and repair them, free what nothing needs, copy all of it."""

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
from engine.store.files import Folder, Found, is_being_written, is_digest, is_temporary
from engine.store.paths import appearing, real

Progress = Callable[[int, int], None]  # how many bytes are dealt with, and of how many
STRAY_SECONDS = 3600.0  # no worker takes so long between writing a file and recording it
CURABLE = {"queue", "files", "checkpoints"}  # what `repair` puts right

_UNFINISHED = "status NOT IN ('done', 'diverged')"  # what failed or is blocked can be retried
_WANTED = "id IN (SELECT run_id FROM curve_points)"  # of an experiment of whatever state


@dataclass(frozen=True)
class Report:
    """What a check found: errors by what they concern, and what is worth knowing but is no error."""

    errors: dict[str, str]
    notes: list[str]
    runs: int = 0
    files: int = 0
    damaged: tuple[str, ...] = ()  # ticket files, by SHA-256
    checkpoints: tuple[str, ...] = ()  # damaged ones, by the digests of their runs
    temporaries: tuple[Found, ...] = ()


def check(connection: sqlite3.Connection, folder: Folder, progress: Progress) -> Report:
    """Verify the database, what it says of itself, and the SHA-256 of every ticket file and checkpoint.

    Absent files are no error: they are made again when a run needs them (see `engine.workers.run.Missing`).
    """
    found = folder.tickets(), folder.checkpoints()  # before the rows: a file lies there first, then it is recorded
    connection.execute("BEGIN")  # one moment for all rows; not kept for the hashing, in which the log would grow
    try:
        errors, foreign = damage.find(connection)
        if errors.keys() & {"database", "rows"}:
            return Report(errors, [])
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        known = dict(connection.execute("SELECT sha256, bytes FROM files").fetchall())
        strays = _strays(connection, folder, *found)
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
    """Put right what a check found and nothing is lost by; says what was done."""
    done = []
    with transaction(connection):
        if changed := queue.refit(connection):
            done.append(f"runs whose place in the queue was derived again: {changed}")
        if forgotten := forget_nameless(connection):
            done.append(f"records deleted of ticket files that no SHA-256 names: {forgotten}")
    damaged = [digest for digest in report.damaged if not folder.is_whole(digest)]  # a worker may have made it again
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
    """Delete the records of ticket files that name none, as they are no SHA-256; how many. Runs make them again."""
    rows = connection.execute("SELECT run_id, kind, sha256 FROM files").fetchall()
    nameless = [(row["run_id"], row["kind"]) for row in rows if not is_digest(row["sha256"])]
    connection.executemany("DELETE FROM files WHERE (run_id, kind) IS (?, ?)", nameless)
    return len(nameless)


@dataclass(frozen=True)
class Plan:
    """What can be freed. Of two plans, `&` is what is in both: what was touched between them is not."""

    tickets: frozenset[Found]
    strays: frozenset[Found]
    runs: frozenset[int]

    def __and__(self, other: "Plan") -> "Plan":
        return Plan(*(getattr(self, field.name) & getattr(other, field.name) for field in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


def plan(connection: sqlite3.Connection, folder: Folder, *, tickets: bool = False, runs: bool = False) -> Plan:
    """What no experiment needs: ticket files, strays, and with `runs` the records of runs on no curve.

    With `tickets`, also the ticket files of experiments whose runs have ended. What an unfinished run stands on,
    directly or not, is needed in any case.
    """
    found = folder.tickets()
    needed = _standing(connection, f"{_UNFINISHED} OR {_WANTED}")
    keeps = _standing(connection, _UNFINISHED) if tickets else needed
    rows = connection.execute("SELECT run_id, sha256 FROM files").fetchall()
    free = {row["sha256"] for row in rows} - {row["sha256"] for row in rows if row["run_id"] in keeps}
    known = {folder.ticket(digest) for digest in free if is_digest(digest)}
    everything = {row[0] for row in connection.execute("SELECT id FROM runs")} if runs else set()
    return Plan(
        frozenset(file for file in found if file.path in known),
        frozenset(_strays(connection, folder, found, folder.checkpoints())),
        frozenset(everything - needed),
    )


def collect(
    connection: sqlite3.Connection, folder: Folder, planned: Plan, *, tickets: bool = False, runs: bool = False
) -> Plan:
    """Free what was planned and is still not needed; returns it.

    Rows go before files: what is interrupted leaves strays, never a row without its file. Files go while the database
    is locked, so that no worker records one meanwhile that it has just found here.
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
    """What a backup holds: how many ticket files and checkpoints, and how many files were absent or damaged."""

    files: int
    checkpoints: int
    absent: int


def backup(path: Path, place: Path, progress: Progress, *, files: bool = True, force: bool = False) -> Backup:
    """Copy a database as it is at one moment, while workers write, and its files. It appears whole or not at all.

    Files are hard links where the file system has them: they are never changed. Checkpoints are copied before the
    database, which then holds everything before them, so that runs under way resume; in the copy they are waiting,
    as the workers that train them do so in the original.
    """
    _ensure_free(path, place, force)
    place = real(place)
    ours, theirs = Folder(files_folder(path)), Folder(files_folder(place))
    sizes = sum(file.bytes for file in ours.tickets() + ours.checkpoints()) if files else 0
    ensure_space(place.parent, path, sizes)
    checkpoints = taken = absent = 0
    with appearing(place, replace=True) as copy:
        if files:
            checkpoints = sum(theirs.take_checkpoint(ours, file.path.stem) for file in ours.checkpoints())
        snapshot(path, copy)
        rows = _settle(copy)
        if files:
            taken, absent = take_tickets(theirs, ours, rows, progress)
            theirs.take_imported(ours)
    return Backup(taken, checkpoints, absent)


def ensure_space(folder: Path, database: Path, files: int) -> None:
    """Raise InputError if a folder's disk has no room for a copy of a database and so many bytes of its files."""
    linked = database.stat().st_dev == folder.stat().st_dev
    needed, free = database.stat().st_size + (0 if linked else files), shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: make room first")


def take_tickets(here: Folder, there: Folder, sizes: dict[str, int], progress: Progress) -> tuple[int, int]:
    """Have ticket files of another folder here too; how many are here now, and how many are absent or damaged there."""
    done, taken, total = 0, 0, sum(sizes.values())
    for digest, size in sizes.items():
        taken += here.take_ticket(there, digest)
        done += size
        progress(done, total)
    return taken, len(sizes) - taken


def _ensure_free(path: Path, place: Path, force: bool) -> None:
    """Raise InputError if a backup cannot, or must not, be written to `place`."""
    if not path.exists():
        raise InputError(f"database {path} does not exist: name one that exists with ", OptionName("db"))
    if not place.parent.is_dir():
        raise InputError(f"folder {place.parent} for the backup {place.name} does not exist: make it first")
    if place.is_dir():
        raise InputError(f"{place} is a folder: name the file that the backup becomes, as {place / path.name}")
    if not place.exists():
        return
    if not place.is_file():
        raise InputError(f"{place} is no regular file: name another for the backup")
    if place.samefile(path):
        raise InputError(f"{place} is the database itself: name another file for the backup")
    if not force:
        raise InputError(f"{place} exists: name another file, or let it be overwritten with ", OptionName("force"))


def _settle(copy: Path) -> dict[str, int]:
    """Make a copy a database without workers; the SHA-256 and size of the files that it knows."""
    connection = writer(copy)
    try:
        with transaction(connection):
            leases.reclaim_all(connection)
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
    connection: sqlite3.Connection, folder: Folder, tickets: list[Found], checkpoints: list[Found]
) -> list[Found]:
    """The files that nothing knows: no row, or no unfinished run. Young ones may be about to be recorded."""
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


def _describe_strays(strays: list[Found]) -> str:
    size = sum(file.bytes for file in strays) / 1e6
    return (
        f"stray files, which belong to nothing: {len(strays)} ({size:.1f} MB); `cockpit store gc` frees them"
        if strays
        else ""
    )


def _hash_all(folder: Folder, known: dict[str, int], progress: Progress) -> tuple[list[str], list[str]]:
    """Which of the ticket files that the database knows are absent, and which are damaged."""
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
    """The runs that a condition holds for, and all that those stand on."""
    rows = connection.execute(
        f"""
        WITH RECURSIVE standing (id) AS (
          SELECT id FROM runs WHERE {condition}
          UNION SELECT n.needs_id FROM run_needs n JOIN standing ON n.run_id = standing.id)
        SELECT id FROM standing
        """
    )
    return {row[0] for row in rows}
