"""Claims: runs come out of the queue, each to one worker at a time.

A claim is fenced: it raises the run's `claim` number, and whatever is written later carries (run, claim) and is
dropped if that is no longer the newest. A claim is held by a lease that its worker renews; it ends when the worker
gives it up, when its process is gone, or when the lease runs out.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.store.database import now, transaction
from engine.store.row_types import Holder, typed

if TYPE_CHECKING:
    from engine.recipes import Run

LEASE_SECONDS = 120.0  # a minute's lock by another program passes before it runs out
RENEWAL_SECONDS = LEASE_SECONDS / 8
MEMORY_MARGIN = 1.2  # over what runs of a shape had reserved, for a context and what libraries take themselves

# Over how many devices a run's batches are split. Few recipes say, and looking for the word is faster than parsing.
SPLIT = """iif(instr(recipe, '"split"'), coalesce(json_extract(recipe, '$.training.split'), 1), 1)"""
# Containers of a machine share its devices, whatever they call their host; machines may have one name.
_SAME_DEVICE = "coalesce(mine.boot, mine.host) = coalesce(theirs.boot, theirs.host) AND mine.device = theirs.device"
_TAKEN_BACK = "status = 'waiting', worker = NULL, lease_expires_at = NULL"
OF_EXPERIMENT = "coalesce(json_extract(e.definition, '$.prunable'), 'conv')"  # the rule; e: a row of experiments
# What tells runs of one ticket, level and seed apart; r: a row of runs. A prune rate at its default is in no recipe.
NAMING = (
    "r.model, r.width, r.optimizer, r.source_optimizer, r.learning_rate, r.scope,"
    " coalesce(json_extract(r.recipe, '$.ticket.chain.rule.rate'), json_extract(r.recipe, '$.ticket.rate')) AS rate"
)
NAMES = "model, width, optimizer, source_optimizer, learning_rate, scope, rate"
WANTED = """
    SELECT p.run_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
    WHERE c.experiment_id = :experiment
"""


@dataclass(frozen=True)
class Claim:
    """One run in the hands of one worker."""

    run_id: int
    number: int
    attempt: int
    run: "Run"
    lost: int = 0  # workers that ended in the run before this claim, with no epoch recorded since


def _ours() -> str:
    """The condition that this version queued a run: another reads recipes in another way, and only that trains it."""
    from engine.recipes import SEMANTICS  # with all recipes, which most commands do not need

    start = f'{{"semantics":{SEMANTICS},'
    return f"substr(recipe, 1, {len(start)}) = '{start}'"


def claim(
    connection: sqlite3.Connection,
    worker: int,
    experiment: int | None = None,
    split: int = 1,
    without: Iterable[str] = (),
) -> Claim | None:
    """Claim the next run, or None if none can start now. One statement, so no two workers get the same.

    A worker of `split` devices claims only runs that are split over so many, and none of the models `without`.
    Raises BadRecipe, and claims nothing, where the recipe is not the one that the digest names.

    The order: priority among the active experiments that want the run, then how many runs wait for it, then age. First
    of all comes a run that ran out of memory: it takes the first device on which nothing else is being trained, what
    is ready waits for that, and while it is trained nothing joins it there.
    """
    from engine.recipes import BadRecipe, Run  # takes longer than what most commands do here

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
    """The query for the next run (id, alone) that can start now."""
    # Of the whole queue, the first entry of the index; of one experiment, the best of its few hundred runs.
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
    """Why the next run should not join others on the worker's device, of which `free` bytes are free; None if it may.

    What it takes is known from runs of its shape; the first of a shape is trained beside nothing.
    """
    beside = connection.execute(
        f"""
        SELECT r.id, coalesce(theirs.device_memory, 0) AS taken FROM runs r JOIN workers theirs ON theirs.id = r.worker
        JOIN workers mine ON mine.id = ? AND {_SAME_DEVICE}
        WHERE r.status = 'running'
        """,
        (worker,),
    ).fetchall()
    coming = _first_ready(connection, experiment, split, without)
    if not beside or coming is None:
        return None
    needed = _measured_memory(connection, coming)
    others = [(_measured_memory(connection, row["id"]), row["taken"]) for row in beside]
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
    """The most bytes that a run of the same shape has taken on its device; None before one has ended."""
    row = connection.execute(
        """
        SELECT max(m.device_memory) FROM runs r JOIN runs m INDEXED BY runs_device_memory
          ON m.model = r.model AND m.width = r.width AND m.batch_size = r.batch_size AND m.profile = r.profile
          AND m.target_dataset = r.target_dataset AND m.device_memory IS NOT NULL WHERE r.id = ?
        """,
        (run_id,),
    ).fetchone()
    found: int | None = row[0]
    return found


def renew(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Extend the lease; False if the run is no longer this claim's."""
    return _fenced(connection, claim, "lease_expires_at = ?", now(LEASE_SECONDS))


def is_wanted(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Whether an active experiment still wants the run."""
    row = connection.execute(
        "SELECT priority IS NOT NULL FROM runs WHERE id = ? AND digest = ?", (claim.run_id, claim.run.digest)
    ).fetchone()
    return bool(row and row[0])


def release(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Give the run back, to be claimed again; its checkpoint stays."""
    return _fenced(connection, claim, _TAKEN_BACK)


def send_back(connection: sqlite3.Connection, claim: Claim, producer: str) -> None:
    """Queue a finished run again, by its digest, because a file that it left is lost, and this run behind it."""
    with transaction(connection):
        if release(connection, claim):
            connection.execute("UPDATE runs SET status = 'waiting' WHERE digest = ? AND status = 'done'", (producer,))


def holders(connection: sqlite3.Connection) -> list[Holder]:
    """The running runs and the worker of each."""
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
    """Take a run from a worker, unless someone else has done so meanwhile: was it taken?

    `lost` counts worker processes that ended in the run, as opposed to leases that ran out.
    """
    cursor = connection.execute(
        f"UPDATE runs SET {_TAKEN_BACK}, lost = lost + ? WHERE id = ? AND claim = ? AND status = 'running'",
        (lost, run_id, number),
    )
    return cursor.rowcount == 1


def reclaim_all(connection: sqlite3.Connection) -> None:
    """Take every run that is being trained from its worker, in a copy that no worker works on."""
    connection.execute(f"UPDATE runs SET {_TAKEN_BACK} WHERE status = 'running'")


def give_back(connection: sqlite3.Connection, pool: int) -> None:
    """Put the runs back that the workers of a pool still hold, whose processes have all ended."""
    held = "SELECT id FROM workers WHERE pool = ?"
    connection.execute(f"UPDATE runs SET {_TAKEN_BACK} WHERE status = 'running' AND worker IN ({held})", (pool,))


def unfinished(
    connection: sqlite3.Connection,
    experiment: int | None = None,
    split: int | None = None,
    without: Iterable[str] = (),
) -> bool:
    """Whether a run that an active experiment (or this one) wants is running, or waiting to be.

    Of those that are split over so many devices, if `split` is given, and of other models than those `without`. Runs
    of other semantics do not count: this version never trains them.
    """
    own = f" AND id IN ({WANTED})" if experiment is not None else ""
    own += f" AND {SPLIT} = :split" if split is not None else ""
    row = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM runs WHERE status IN ('waiting', 'running') AND priority IS NOT NULL"
        f" AND {_ours()} AND model NOT IN (SELECT value FROM json_each(:without)) {own})",
        {"experiment": experiment, "split": split, "without": json.dumps([*without])},
    ).fetchone()
    return bool(row[0])


def foreign(connection: sqlite3.Connection) -> int:
    """How many runs active experiments want that this version cannot train, as another one queued them."""
    wanted = "status IN ('waiting', 'running') AND priority IS NOT NULL"
    return int(connection.execute(f"SELECT count(*) FROM runs WHERE {wanted} AND NOT {_ours()}").fetchone()[0])


def splits(connection: sqlite3.Connection) -> set[int]:
    """Over how many devices the batches are split of the runs that active experiments want and that have not ended."""
    wanted = "status IN ('waiting', 'running') AND priority IS NOT NULL"
    return {row[0] for row in connection.execute(f"SELECT DISTINCT {SPLIT} FROM runs WHERE {wanted}")}


def profiles(connection: sqlite3.Connection) -> set[str]:
    """The profiles of the runs that active experiments want and that have not ended."""
    wanted = "status IN ('waiting', 'running') AND priority IS NOT NULL"
    return {row[0] for row in connection.execute(f"SELECT DISTINCT profile FROM runs WHERE {wanted}")}


def _fenced(connection: sqlite3.Connection, claim: Claim, change: str, *values: object) -> bool:
    # The digest, too: of a run that was removed SQLite gives the id to the next one, whose claims begin at 1 again.
    cursor = connection.execute(
        f"UPDATE runs SET {change} WHERE id = ? AND digest = ? AND claim = ? AND status = 'running'",
        (*values, claim.run_id, claim.run.digest, claim.number),
    )
    return cursor.rowcount == 1


def unblock(connection: sqlite3.Connection) -> None:
    """Let blocked runs wait again, but for those that still stand on a run that failed or diverged."""
    connection.execute("UPDATE runs SET status = 'waiting', error = NULL WHERE status = 'blocked'")
    block_dependents(connection)


def block_dependents(connection: sqlite3.Connection) -> None:
    """Mark what stands on a failed or diverged run as blocked, and say by which run."""
    connection.execute(
        """
        WITH RECURSIVE lost (run_id, cause) AS (
          SELECT n.run_id, q.digest || ' ' || q.status FROM run_needs n JOIN runs q ON q.id = n.needs_id
          WHERE q.status IN ('failed', 'diverged')
          UNION SELECT n.run_id, lost.cause FROM run_needs n JOIN lost ON n.needs_id = lost.run_id)
        UPDATE runs SET status = 'blocked', error = 'stands on run ' || lost.cause
        FROM lost WHERE runs.id = lost.run_id AND runs.status = 'waiting'
        """
    )
