"""Claims: runs come out of the queue, each to one worker at a time.

A claim is fenced: it raises the run's `claim` number, and whatever is written later carries (run, claim) and is
dropped if that is no longer the newest. A claim is held by a lease that its worker renews; it ends when the worker
gives it up, when its process is gone, or when the lease runs out.
"""

import sqlite3
from dataclasses import dataclass

from engine.recipes import Run
from engine.store.database import now, transaction

LEASE_SECONDS = 60.0
RENEWAL_SECONDS = LEASE_SECONDS / 4

_TAKEN_BACK = "status = 'waiting', worker = NULL, lease_expires_at = NULL"
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
    run: Run


def claim(connection: sqlite3.Connection, worker: int, experiment: int | None = None) -> Claim | None:
    """Claim the next run, or None if none can start now. One statement, so no two workers get the same.

    The order: priority among the active experiments that want the run, then how many runs wait for it, then age. First
    of all comes a run that ran out of memory: it takes the first device on which nothing else is being trained, what
    is ready waits for that, and while it is trained nothing joins it there.
    """
    ready = "status = 'waiting' AND unmet = 0 AND priority IS NOT NULL"
    # Of the whole queue, the first entry of the index; of one experiment, the best of its few hundred runs.
    runs, own = ("runs INDEXED BY runs_ready", "") if experiment is None else ("runs", f"AND id IN ({WANTED})")
    row = connection.execute(
        f"""
        UPDATE runs SET status = 'running', claim = claim + 1, worker = :worker, lease_expires_at = :lease
        WHERE id = (
          SELECT first.id FROM (
            SELECT id, alone FROM {runs} WHERE {ready} {own}
            ORDER BY alone DESC, priority DESC, dependents DESC, id LIMIT 1
          ) AS first
          WHERE NOT EXISTS (
            SELECT 1 FROM runs AS other JOIN workers AS theirs ON theirs.id = other.worker
            JOIN workers AS mine ON mine.id = :worker AND mine.host = theirs.host AND mine.device = theirs.device
            WHERE other.status = 'running' AND (other.alone OR first.alone)
          )
        )
        RETURNING id, claim, attempt, recipe
        """,
        {"worker": worker, "lease": now(LEASE_SECONDS), "experiment": experiment},
    ).fetchone()
    return Claim(row["id"], row["claim"], row["attempt"], Run.from_json(row["recipe"])) if row else None


def renew(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Extend the lease; False if the run is no longer this claim's."""
    return _fenced(connection, claim, "lease_expires_at = ?", now(LEASE_SECONDS))


def wanted(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Whether an active experiment still wants the run."""
    row = connection.execute("SELECT priority IS NOT NULL FROM runs WHERE id = ?", (claim.run_id,)).fetchone()
    return bool(row and row[0])


def release(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Give the run back, to be claimed again; its checkpoint stays."""
    return _fenced(connection, claim, _TAKEN_BACK)


def send_back(connection: sqlite3.Connection, claim: Claim, producer: str) -> None:
    """Queue a finished run again, by its digest, because a file that it left is lost, and this run behind it."""
    with transaction(connection):
        if release(connection, claim):
            connection.execute("UPDATE runs SET status = 'waiting' WHERE digest = ? AND status = 'done'", (producer,))


def holders(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """The running runs and who runs them: run, claim, pid, process_started, host.

    `expired` says that the lease has run out, `silent` that two renewals have been missed.
    """
    return connection.execute(
        """
        SELECT r.id AS run_id, r.claim, w.pid, w.process_started, w.host, r.lease_expires_at < :now AS expired,
               w.heartbeat_at < :missed AS silent
        FROM runs r JOIN workers w ON w.id = r.worker WHERE r.status = 'running'
        """,
        {"now": now(), "missed": now(-2.5 * RENEWAL_SECONDS)},
    ).fetchall()


def reclaim(connection: sqlite3.Connection, run_id: int, number: int) -> None:
    """Take a run from a worker that is gone, unless someone else has done so meanwhile."""
    connection.execute(
        f"UPDATE runs SET {_TAKEN_BACK} WHERE id = ? AND claim = ? AND status = 'running'",
        (run_id, number),
    )


def reclaim_all(connection: sqlite3.Connection) -> None:
    """Take every run that is being trained from its worker, in a copy that no worker works on."""
    connection.execute(f"UPDATE runs SET {_TAKEN_BACK} WHERE status = 'running'")


def unfinished(connection: sqlite3.Connection, experiment: int | None = None) -> bool:
    """Whether a run that an active experiment (or this one) wants is running, or waiting to be."""
    own = f" AND id IN ({WANTED})" if experiment is not None else ""
    row = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM runs WHERE status IN ('waiting', 'running') AND priority IS NOT NULL {own})",
        {"experiment": experiment},
    ).fetchone()
    return bool(row[0])


def _fenced(connection: sqlite3.Connection, claim: Claim, change: str, *values: object) -> bool:
    cursor = connection.execute(
        f"UPDATE runs SET {change} WHERE id = ? AND claim = ? AND status = 'running'",
        (*values, claim.run_id, claim.number),
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
