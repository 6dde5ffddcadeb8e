"""Merging another database into one: runs with equal digests are the same run."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.errors import InputError, command, quoted
from engine.store import labels, leases, queue
from engine.store.care import Progress, ensure_space, forget_nameless, take_tickets
from engine.store.database import files_folder, insert, now, snapshot, transaction, writer
from engine.store.files import Folder

# The columns of `runs` with the results of training and its environment, taken from the database that trained the run.
RECORD = (
    "status", "attempt", "claim", "worker", "device", "device_name", "dtype", "memory_format", "threads",
    "torch_version", "cudnn_version", "cockpit_version", "started_at", "finished_at", "seconds", "weights_total",
    "weights_remaining", "test_accuracy", "test_epoch", "diverged_epoch", "error", "device_memory",
    "untrained_accuracy", "flops",
)  # fmt: skip
# The columns with a run's place in the queue of its database: never taken from the other.
PLACE = ("id", "priority", "unmet", "dependents", "lease_expires_at", "alone", "lost")

# The runs taken from the other database, during a merge: the id there and here; the attempt taken (NULL: all, as the
# run is new here); and how much its number and its claims are raised, so that they follow the attempts and claims here.
_BROUGHT = """
CREATE TEMP TABLE brought AS
SELECT t.id AS theirs, r.id AS ours, t.attempt,
       max(0, 1 - t.attempt + max(r.attempt, coalesce((SELECT max(attempt) FROM main.epochs WHERE run_id = r.id), 0),
                                  coalesce((SELECT max(attempt) FROM main.attempts WHERE run_id = r.id), 0))) AS later,
       max(r.claim, coalesce((SELECT max(claim) FROM main.attempts WHERE run_id = r.id), 0)) AS claims
FROM other.runs t JOIN main.runs r ON r.digest = t.digest
WHERE t.status = 'done' AND r.status NOT IN ('done', 'running')
UNION ALL
SELECT t.id, NULL, NULL, 0, 0 FROM other.runs t WHERE t.digest NOT IN (SELECT digest FROM main.runs)
"""
_HANDS = "(SELECT ours FROM temp.hands WHERE theirs = {})"  # the id here of a worker of the other database


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    `running` is the number of runs left unchanged because they train here; `differing` the number done in both
    databases in the profile `exact`, with different accuracies. `experiments` maps the new ones from their name there
    to their name here, which differs if the name was taken; `known` maps those that were here under another name.
    """

    new: int
    finished: int
    running: int
    differing: int
    experiments: dict[str, str]
    paused: list[str]
    known: dict[str, str]
    files: int
    absent: int


def merge(connection: sqlite3.Connection, path: Path, other: Path, progress: Progress) -> Merged:
    """Add runs, results, experiments and ticket files of another database to the one at `path`.

    The other database is only read, and may be of an older version. A run in training there waits here; an experiment
    that would start training here is paused. Raises InputError if the other is damaged or is the database at `path`,
    or if the disk has no room.
    """
    if other.exists() and other.samefile(path):
        raise InputError(f"{other} is the database itself: name another one, to be merged into it")
    here, there = Folder(files_folder(path)), Folder(files_folder(other))
    with _attached(connection, path, other):
        wanted = {digest: size for digest, size in _files(connection) if not here.has(digest)}
        ensure_space(path.parent, other, sum(wanted.values()))
        files, absent = take_tickets(here, there, wanted, progress)
        here.take_imported(there)
        with transaction(connection):
            running, differing = connection.execute(
                """
                SELECT count(*) FILTER (WHERE r.status = 'running'),
                       count(*) FILTER (WHERE r.status = 'done' AND r.profile = 'exact'
                                          AND r.test_accuracy IS NOT t.test_accuracy)
                FROM other.runs t JOIN main.runs r ON r.digest = t.digest WHERE t.status = 'done'
                """
            ).fetchone()
            new, finished = _bring_runs(connection)
            leases.unblock(connection)
            experiments, paused, known = _bring_experiments(connection, other.name)
            queue.refit(connection)
    return Merged(new, finished, running, differing, experiments, paused, known, files, absent)


@contextmanager
def _attached(connection: sqlite3.Connection, path: Path, other: Path) -> Iterator[None]:
    """Attach a copy of another database, migrated to this version, to the connection as `other`."""
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        copy = Path(folder) / "other.db"
        snapshot(other, copy)
        with closing(writer(copy)) as theirs:  # migrates it
            forget_nameless(theirs)
            _refuse_altered(theirs, other)
        connection.execute("ATTACH ? AS other", (str(copy.absolute()),))
        try:
            yield
        finally:
            connection.execute("DETACH other")


def _refuse_altered(theirs: sqlite3.Connection, other: Path) -> None:
    """Raise InputError for a recipe that does not have its digest: its results would count for another run."""
    for digest, recipe in theirs.execute("SELECT digest, recipe FROM runs"):
        if hashlib.sha256(recipe.encode()).hexdigest() != digest:
            raise InputError(
                f"{other}: the recipe of run {quoted(digest[:12])} does not have its digest, so nothing is merged:"
                f" see {command('store check', db=other)}"
            )


def _files(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """SHA-256 and bytes of the other's files that the merge records here, or that are recorded here already."""
    rows = connection.execute(
        """
        SELECT DISTINCT f.sha256, f.bytes FROM other.files f JOIN other.runs t ON t.id = f.run_id
        LEFT JOIN main.runs r ON r.digest = t.digest
        WHERE r.id IS NULL OR (r.status <> 'done' AND t.status = 'done') OR f.sha256 IN (SELECT sha256 FROM main.files)
        """
    )
    return [(row["sha256"], row["bytes"]) for row in rows]


def _bring_runs(connection: sqlite3.Connection) -> tuple[int, int]:
    """Add unknown runs, and the results of runs that are not done here; returns the number of each.

    Triggers update `unmet`, as they do for runs that are added and trained here.
    """
    connection.execute(_BROUGHT)
    connection.execute("INSERT OR IGNORE INTO main.datasets SELECT * FROM other.datasets")
    connection.execute("INSERT OR IGNORE INTO main.data_titles SELECT * FROM other.data_titles")
    connection.execute("INSERT OR IGNORE INTO main.about SELECT * FROM other.about WHERE key LIKE 'model %'")
    _bring_workers(connection)
    ended = "t.status IN ('done', 'failed', 'diverged')"
    record = {name: f"t.{name}" for name in RECORD} | {
        "attempt": "t.attempt + b.later",
        "claim": "t.claim + b.claims",
        "status": f"iif({ended}, t.status, 'waiting')",
        "error": f"iif({ended}, t.error, NULL)",
        "worker": f"iif({ended}, {_HANDS.format('t.worker')}, NULL)",
    }
    new = _add_runs(connection, record)
    finished = connection.execute(
        f"""
        UPDATE main.runs SET {", ".join(f"{name} = {value}" for name, value in record.items())}
        FROM other.runs t JOIN temp.brought b ON b.theirs = t.id AND b.attempt IS NOT NULL WHERE runs.id = b.ours
        """
    ).rowcount
    _bring_rows(connection)
    connection.execute("DROP TABLE temp.brought")
    connection.execute("DROP TABLE temp.hands")
    return new, finished


def _add_runs(connection: sqlite3.Connection, record: dict[str, str]) -> int:
    """Add the runs that are unknown here, with their needs; returns their number."""
    rest = [name for name in _columns(connection, "runs") if name not in (*RECORD, *PLACE)]
    columns = record | {name: f"t.{name}" for name in rest}
    new = connection.execute(
        f"""
        INSERT INTO main.runs ({", ".join(columns)}) SELECT {", ".join(columns.values())}
        FROM other.runs t JOIN temp.brought b ON b.theirs = t.id WHERE b.ours IS NULL ORDER BY t.id
        """
    ).rowcount
    connection.execute(
        """
        UPDATE temp.brought SET ours = (SELECT r.id FROM other.runs t JOIN main.runs r ON r.digest = t.digest
                                        WHERE t.id = theirs) WHERE ours IS NULL
        """
    )
    connection.execute(
        """
        INSERT INTO main.run_needs (run_id, needs_id)
        SELECT b.ours, r.id FROM temp.brought b JOIN other.run_needs n ON n.run_id = b.theirs AND b.attempt IS NULL
        JOIN other.runs t ON t.id = n.needs_id JOIN main.runs r ON r.digest = t.digest
        """
    )
    return new


def _bring_workers(connection: sqlite3.Connection) -> None:
    """Add the workers that trained the runs taken, with their pools, as processes that have ended."""
    connection.execute("CREATE TEMP TABLE hands (theirs INTEGER PRIMARY KEY, ours INTEGER)")
    of_brought = "IN (SELECT theirs FROM temp.brought)"
    workers = connection.execute(
        f"""
        SELECT * FROM other.workers WHERE id IN (
          SELECT worker FROM other.runs WHERE id {of_brought} UNION
          SELECT worker FROM other.attempts WHERE run_id {of_brought}) ORDER BY id
        """
    ).fetchall()
    for worker in workers:
        pools = connection.execute("SELECT * FROM other.pools WHERE id = ?", (worker["pool"],)).fetchall()
        pool = next((_process(connection, "pools", dict(row)) for row in pools), None)
        ours = _process(connection, "workers", {**dict(worker), "pool": pool})
        connection.execute("INSERT INTO temp.hands VALUES (?, ?)", (worker["id"], ours))


def _process(connection: sqlite3.Connection, table: str, row: dict[str, object]) -> int:
    """The id here of a worker or pool of the other database, which is added unless an earlier merge did."""
    same = ("host", "boot", "pid_namespace", "pid", "process_started")
    found = connection.execute(
        f"SELECT id FROM main.{table} WHERE ({', '.join(same)}) IS (:{', :'.join(same)})", row
    ).fetchone()
    if found:
        return int(found["id"])
    return _insert(connection, table, {**row, "ended_at": row["ended_at"] or row.get("heartbeat_at") or now()})


def _bring_rows(connection: sqlite3.Connection) -> None:
    """Add the records of the runs taken; their layers, files and lines replace those of an unfinished attempt here."""
    for table in ("layers", "files", "lines"):
        connection.execute(f"DELETE FROM main.{table} WHERE run_id IN (SELECT ours FROM temp.brought)")
    for table in ("layers", "files", "lines", "epochs", "attempts"):
        columns = {name: f"t.{name}" for name in _columns(connection, table)} | {"run_id": "b.ours"}
        condition = "true"
        if "attempt" in columns:
            columns["attempt"], condition = "t.attempt + b.later", "b.attempt IS NULL OR t.attempt = b.attempt"
        if "claim" in columns:
            columns["claim"] = "t.claim + b.claims"
        if "worker" in columns:
            columns["worker"] = _HANDS.format("t.worker")
        connection.execute(
            f"""
            INSERT INTO main.{table} ({", ".join(columns)}) SELECT {", ".join(columns.values())}
            FROM other.{table} t JOIN temp.brought b ON b.theirs = t.run_id WHERE {condition}
            """
        )


def _bring_experiments(connection: sqlite3.Connection, origin: str) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """Add the other's experiments, except those whose runs an experiment here has.

    Returns the new experiments by name there and here, the names of those that were paused, and those known here under
    another name, by name there and here.
    """
    ours = connection.execute("SELECT id, name FROM main.experiments ORDER BY id").fetchall()
    here = {row["name"]: queue.points(connection, row["id"]) for row in ours}
    taken = set(here)
    brought: dict[str, str] = {}
    paused: list[str] = []
    known: dict[str, str] = {}
    for row in connection.execute("SELECT * FROM other.experiments ORDER BY id").fetchall():
        points, old = queue.points(connection, row["id"], "other"), str(row["name"])
        if same := [name for name, theirs in here.items() if theirs == points]:
            known |= {} if old in same else {old: same[0]}
            continue
        endings = chain(["", f" ({origin})"], (f" ({origin} {n})" for n in count(2)))
        name = next(name for ending in endings if (name := labels.typeable(old, ending)) not in taken)
        taken.add(name)
        brought[old] = name
        experiment = _bring_experiment(connection, {**dict(row), "name": name})
        if row["state"] == "active" and _would_train(connection, experiment):
            connection.execute(
                "UPDATE experiments SET state = 'paused', reason = ?, state_at = ? WHERE id = ?",
                (f"merged from {origin}", now(), experiment),
            )
            paused.append(name)
    return brought, paused, known


def _bring_experiment(connection: sqlite3.Connection, row: dict[str, object]) -> int:
    """Add an experiment of the other database with its curves; returns its id here."""
    experiment = _insert(connection, "experiments", row)
    curves = connection.execute(
        "SELECT * FROM other.experiment_curves WHERE experiment_id = ? ORDER BY id", (row["id"],)
    )
    for curve in curves.fetchall():
        ours = _insert(connection, "experiment_curves", {**dict(curve), "experiment_id": experiment})
        connection.execute(
            """
            INSERT INTO main.curve_points (curve_id, level, replicate, run_id)
            SELECT ?, p.level, p.replicate, r.id FROM other.curve_points p
            JOIN other.runs t ON t.id = p.run_id JOIN main.runs r ON r.digest = t.digest WHERE p.curve_id = ?
            """,
            (ours, curve["id"]),
        )
    return experiment


def _would_train(connection: sqlite3.Connection, experiment: int) -> bool:
    row = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM main.runs WHERE status IN ('waiting', 'running', 'blocked')"
        f" AND id IN ({leases.WANTED}))",
        {"experiment": experiment},
    ).fetchone()
    return bool(row[0])


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, object]) -> int:
    """Add a row of the other database under a new id; returns that."""
    return insert(connection, f"main.{table}", {name: value for name, value in row.items() if name != "id"})


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row["name"] for row in connection.execute(f"PRAGMA main.table_info({table})")]
