"""Claims: each hands one run of the queue to one worker.

A claim is fenced: it raises the run's `claim` number, and every later write names that number and is dropped if a
newer claim exists. The worker holds the claim by a lease that it renews. The claim ends when the worker gives it up,
when the worker's process is gone, or when the lease expires.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec

from engine.store.database import now, transaction
from engine.store.row_types import Holder, typed

if TYPE_CHECKING:
    from engine.recipes import Run

LEASE_SECONDS = 120.0  # outlasts a lock of a minute by another program
RENEWAL_SECONDS = LEASE_SECONDS / 8
MANY = 10_000  # runs
MEMORY_MARGIN = 1.2  # times the memory that torch reserved, for the CUDA context and libraries

# The number of devices that share a run's batches. Few recipes set it, and finding the word is faster than parsing.
SPLIT = """iif(instr(recipe, '"split"'), coalesce(json_extract(recipe, '$.training.split'), 1), 1)"""
# Containers of one machine share its devices but may differ in host name, and machines may share a name.
_SAME_DEVICE = "coalesce(mine.boot, mine.host) = coalesce(theirs.boot, theirs.host) AND mine.device = theirs.device"
_TAKEN_BACK = "status = 'waiting', worker = NULL, lease_expires_at = NULL"
OF_EXPERIMENT = "coalesce(json_extract(e.definition, '$.prunable'), 'conv')"  # the rule; e: a row of experiments
# The display name of a data set, of which the identity of a run's data set may name a part.
TITLE = "(SELECT title FROM data_titles WHERE {0} = identity OR substr({0}, 1, length(identity) + 1) = identity || '-')"
# Columns that tell runs of one ticket, level and seed apart; r: a row of runs. Recipes omit the default prune rate.
NAMING = (
    "r.model, r.width, r.optimizer, r.source_optimizer, r.learning_rate, r.scope,"
    " coalesce(json_extract(r.recipe, '$.ticket.chain.rule.rate'), json_extract(r.recipe, '$.ticket.rate')) AS rate,"
    f" {TITLE.format('r.source_dataset')} AS source_title, {TITLE.format('r.target_dataset')} AS target_title"
)
NAMES = "model, width, optimizer, source_optimizer, learning_rate, scope, rate, source_title, target_title"
WANTED = """
    SELECT p.run_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
    WHERE c.experiment_id = :experiment
"""
TO_TRAIN = "status IN ('waiting', 'running') AND priority IS NOT NULL"  # an unfinished run of an active experiment


class Claim(msgspec.Struct, frozen=True):
    """One run in the hands of one worker."""

    run_id: int
    number: int
    attempt: int
    run: "Run"
    lost: int = 0  # number of workers that died in the run since its last recorded epoch, before this claim


def _ours() -> str:
    """The SQL condition that this version can train a run: one of other semantics would train something else."""
    from engine.recipes import SEMANTICS  # imported here, as most commands do not need it

    start = f'{{"semantics":{SEMANTICS},'
    return f"substr(recipe, 1, {len(start)}) = '{start}'"


def claim(
    connection: sqlite3.Connection,
    worker: int,
    experiment: int | None = None,
    split: int = 1,
    without: Iterable[str] = (),
) -> Claim | None:
    """Claim the next run; None if no run can start now. One SQL statement, so no two workers get the same run.

    A worker of `split` devices claims only runs whose batches are split over that number. Runs of the models
    `without` are left out. Raises BadRecipe, and claims nothing, if the recipe does not have the run's digest.

    Order: highest priority among the run's active experiments, then most dependents, then oldest. A run that ran out
    of memory comes before all others. It waits for a device on which no other run trains, the others wait for it, and
    no run joins it on its device.
    """
    from engine.recipes import BadRecipe, Run  # imported here, as it takes longer than most commands

    with transaction(connection):
        row = connection.execute(
            f"""
            UPDATE runs SET status = 'running', claim = claim + 1, worker = :worker, lease_expires_at = :lease
            WHERE id = (
              SELECT first.id FROM ({_ready(experiment)}) AS first
              WHERE NOT EXISTS (
                SELECT 1 FROM runs AS other JOIN workers AS theirs ON theirs.id = other.worker
                JOIN workers AS mine ON mine.id = :worker AND {_SAME_DEVICE}
                WHERE other.status = 'running' AND (other.alone OR first.alone)
              )
            )
            RETURNING id, claim, attempt, digest, recipe, lost
            """,
            {
                "worker": worker,
                "lease": now(LEASE_SECONDS),
                "experiment": experiment,
                "split": split,
                "without": json.dumps([*without]),
            },
        ).fetchone()
        if row is None:
            return None
        run = Run.from_json(row["recipe"])
        if run.digest != row["digest"]:
            raise BadRecipe(f"the recipe of run {row['digest'][:12]} is another run's")
    return Claim(row["id"], row["claim"], row["attempt"], run, row["lost"])


def _ready(experiment: int | None) -> str:
    """The query for the next run that can start now: its id and `alone`."""
    # The whole queue: the first entry of the index. One experiment: the best of its few hundred runs, sorted.
    runs, own = ("runs INDEXED BY runs_ready", "") if experiment is None else ("runs", f"AND id IN ({WANTED})")
    return f"""
        SELECT id, alone FROM {runs}
        WHERE status = 'waiting' AND unmet = 0 AND priority IS NOT NULL AND {_ours()} AND {SPLIT} = :split {own}
          AND model NOT IN (SELECT value FROM json_each(:without))
        ORDER BY alone DESC, priority DESC, dependents DESC, id LIMIT 1
    """


def reason_to_wait(
    connection: sqlite3.Connection,
    worker: int,
    free: int,
    experiment: int | None = None,
    split: int = 1,
    without: Iterable[str] = (),
) -> str | None:
    """Why the next run should not join others on the worker's device, which has `free` bytes free; None if it may.

    Its memory is predicted from finished runs of its shape (`_measured_memory`). The first run of a shape trains alone.
    """
    neighbours = connection.execute(
        f"""
        SELECT r.id, coalesce(theirs.device_memory, 0) AS taken FROM runs r JOIN workers theirs ON theirs.id = r.worker
        JOIN workers mine ON mine.id = ? AND {_SAME_DEVICE}
        WHERE r.status = 'running'
        """,
        (worker,),
    ).fetchall()
    coming = _first_ready(connection, experiment, split, without)
    if not neighbours or coming is None:
        return None
    needed = _measured_memory(connection, coming)
    others = [(_measured_memory(connection, row["id"]), row["taken"]) for row in neighbours]
    if needed is None or any(measured is None for measured, _ in others):
        return "the first run of its shape is trained alone, to see what memory it takes"
    free -= sum(max(0, round(MEMORY_MARGIN * (measured or 0)) - taken) for measured, taken in others)
    if MEMORY_MARGIN * needed > free:
        gib = 2**30
        return f"the next run needs {MEMORY_MARGIN * needed / gib:.1f} GiB on the device, {free / gib:.1f} GiB are left"
    return None


def _first_ready(
    connection: sqlite3.Connection, experiment: int | None, split: int, without: Iterable[str]
) -> int | None:
    wanted = {"experiment": experiment, "split": split, "without": json.dumps([*without])}
    row = connection.execute(f"SELECT id FROM ({_ready(experiment)})", wanted).fetchone()
    return row[0] if row else None


def _measured_memory(connection: sqlite3.Connection, run_id: int) -> int | None:
    """The most device memory, in bytes, that a run of the same shape took; None before one has ended.

    Runs have one shape if model, width, batch size, profile and target data set are equal.
    """
    row = connection.execute(
        """
        SELECT max(m.device_memory) FROM runs r JOIN runs m INDEXED BY runs_device_memory
          ON m.model = r.model AND m.width = r.width AND m.batch_size = r.batch_size AND m.profile = r.profile
          AND m.target_dataset = r.target_dataset AND m.device_memory IS NOT NULL WHERE r.id = ?
        """,
        (run_id,),
    ).fetchone()
    most: int | None = row[0]
    return most


def renew(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Extend the lease; False if the claim is no longer in force."""
    return _fenced(connection, claim, "lease_expires_at = ?", now(LEASE_SECONDS))


def is_wanted(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Whether an active experiment still has the run."""
    row = connection.execute(
        "SELECT priority IS NOT NULL FROM runs WHERE id = ? AND digest = ?", (claim.run_id, claim.run.digest)
    ).fetchone()
    return bool(row and row[0])


def release(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Return the run to the queue; its checkpoint stays. False if the claim is no longer in force."""
    return _fenced(connection, claim, _TAKEN_BACK)


def send_back(connection: sqlite3.Connection, claim: Claim, producer: str) -> None:
    """Return this run to the queue, and the finished run of digest `producer`, whose file it needs and that is lost."""
    with transaction(connection):
        if release(connection, claim):
            connection.execute("UPDATE runs SET status = 'waiting' WHERE digest = ? AND status = 'done'", (producer,))


def holders(connection: sqlite3.Connection) -> list[Holder]:
    """The running runs, each with its worker."""
    found = connection.execute(
        """
        SELECT r.id AS run_id, r.claim, w.pid, w.process_started, w.host, w.boot, w.pid_namespace,
               r.lease_expires_at < ? AS expired
        FROM runs r JOIN workers w ON w.id = r.worker WHERE r.status = 'running'
        """,
        (now(),),
    ).fetchall()
    return [typed(Holder, row) for row in found]


def reclaim(connection: sqlite3.Connection, run_id: int, number: int, lost: bool) -> bool:
    """Take a run from its worker; False if the claim `number` is no longer in force.

    `lost`: the worker's process has died, so the run's count of lost workers rises; not if only the lease expired.
    """
    cursor = connection.execute(
        f"UPDATE runs SET {_TAKEN_BACK}, lost = lost + ? WHERE id = ? AND claim = ? AND status = 'running'",
        (lost, run_id, number),
    )
    return cursor.rowcount == 1


def reclaim_all(connection: sqlite3.Connection) -> None:
    """Return all running runs to the queue, in a copy of a database, which has no workers."""
    connection.execute(f"UPDATE runs SET {_TAKEN_BACK} WHERE status = 'running'")


def give_back(connection: sqlite3.Connection, pool: int) -> None:
    """Return the runs of a pool's workers to the queue, after their processes have ended."""
    held = "SELECT id FROM workers WHERE pool = ?"
    connection.execute(f"UPDATE runs SET {_TAKEN_BACK} WHERE status = 'running' AND worker IN ({held})", (pool,))


def unfinished(
    connection: sqlite3.Connection,
    experiment: int | None = None,
    split: int | None = None,
    without: Iterable[str] = (),
) -> bool:
    """Whether an active experiment (with `experiment`, this one if active) has a waiting or running run.

    With `split`, only runs split over that number of devices count. Runs of the models `without`, and runs of other
    semantics, which this version never trains, do not count.
    """
    own = f" AND id IN ({WANTED})" if experiment is not None else ""
    own += f" AND {SPLIT} = :split" if split is not None else ""
    row = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM runs WHERE {TO_TRAIN} AND {_ours()}"
        f" AND model NOT IN (SELECT value FROM json_each(:without)) {own})",
        {"experiment": experiment, "split": split, "without": json.dumps([*without])},
    ).fetchone()
    return bool(row[0])


def ready(connection: sqlite3.Connection, splits: Collection[int]) -> int:
    """The number of runs that could start now on workers of `splits` devices (of any number if empty); at most MANY."""
    row = connection.execute(
        f"""
        SELECT count(*) FROM (
          SELECT 1 FROM runs INDEXED BY runs_ready
          WHERE status = 'waiting' AND unmet = 0 AND priority IS NOT NULL AND {_ours()}
            AND (:any OR {SPLIT} IN (SELECT value FROM json_each(:splits))) LIMIT {MANY}
        )
        """,
        {"any": not splits, "splits": json.dumps([*splits])},
    ).fetchone()
    return int(row[0])


def foreign(connection: sqlite3.Connection) -> int:
    """The number of unfinished runs of active experiments that have other semantics than this version trains."""
    return int(connection.execute(f"SELECT count(*) FROM runs WHERE {TO_TRAIN} AND NOT {_ours()}").fetchone()[0])


def splits(connection: sqlite3.Connection) -> set[int]:
    """The numbers of devices per run, of the unfinished runs of active experiments."""
    return {row[0] for row in connection.execute(f"SELECT DISTINCT {SPLIT} FROM runs WHERE {TO_TRAIN}")}


def profiles(connection: sqlite3.Connection) -> set[str]:
    """The profiles of the unfinished runs of active experiments."""
    return {row[0] for row in connection.execute(f"SELECT DISTINCT profile FROM runs WHERE {TO_TRAIN}")}


def _fenced(connection: sqlite3.Connection, claim: Claim, change: str, *values: object) -> bool:
    # The digest as well: SQLite reuses the id of a removed run, and the claims of its new run start at 1 again.
    cursor = connection.execute(
        f"UPDATE runs SET {change} WHERE id = ? AND digest = ? AND claim = ? AND status = 'running'",
        (*values, claim.run_id, claim.run.digest, claim.number),
    )
    return cursor.rowcount == 1


def unblock(connection: sqlite3.Connection) -> None:
    """Return blocked runs to the queue, except those that still depend on a failed or diverged run."""
    connection.execute("UPDATE runs SET status = 'waiting', error = NULL WHERE status = 'blocked'")
    block_dependents(connection)


def block_dependents(connection: sqlite3.Connection) -> None:
    """Mark waiting runs that depend on a failed or diverged run as blocked, with that run as the error."""
    connection.execute(
        """
        WITH RECURSIVE lost (run_id, cause) AS (
          SELECT n.run_id, q.digest || ', which ' || q.status FROM run_needs n JOIN runs q ON q.id = n.needs_id
          WHERE q.status IN ('failed', 'diverged')
          UNION SELECT n.run_id, lost.cause FROM run_needs n JOIN lost ON n.needs_id = lost.run_id)
        UPDATE runs SET status = 'blocked', error = 'depends on run ' || lost.cause
        FROM lost WHERE runs.id = lost.run_id AND runs.status = 'waiting'
        """
    )
