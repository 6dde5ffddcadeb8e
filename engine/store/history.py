"""The events of an experiment's runs, and the experiments that ended with a run."""

import sqlite3

from engine.store.database import now
from engine.store.leases import NAMES, NAMING, WANTED
from engine.store.row_types import Event, typed

_EVENTS = f"""
WITH tried AS (
  SELECT r.id AS run_id, r.digest, r.ticket, r.level, r.seed, r.source, r.target, {NAMING},
         a.attempt, a.claim, a.started_at, a.ended_at, a.outcome, a.error, w.device, w.device_name, w.host, w.pid,
         CASE WHEN a.outcome = 'done' THEN r.test_accuracy END AS test_accuracy,
         CASE WHEN EXISTS (SELECT 1 FROM attempts b WHERE b.run_id = a.run_id AND b.attempt = a.attempt
                           AND b.claim < a.claim) THEN 'continued' ELSE 'started' END AS began
  FROM attempts a JOIN runs r ON r.id = a.run_id LEFT JOIN workers w ON w.id = a.worker
  WHERE r.id IN ({WANTED})
)
SELECT * FROM (
  SELECT started_at AS at, began AS event, run_id, digest, ticket, level, seed, source, target, {NAMES},
         attempt, claim, device, device_name, host, pid, NULL AS test_accuracy, NULL AS error
  FROM tried WHERE started_at >= :since
  UNION ALL
  SELECT ended_at, outcome, run_id, digest, ticket, level, seed, source, target, {NAMES},
         attempt, claim, device, device_name, host, pid, test_accuracy, error
  FROM tried WHERE ended_at >= :since AND outcome IS NOT NULL
)
ORDER BY at, run_id, attempt, claim, event IN ('started', 'continued') DESC
"""


def events(connection: sqlite3.Connection, experiment: int, since: str = "") -> list[Event]:
    """The events of an experiment's runs since a moment (text of `database.now`), in order of time.

    `event` is started, continued (from a checkpoint), done, failed, diverged, out-of-memory, stopped (the worker was
    stopped, or no active experiment has the run any more) or lost (the worker died, or its lease expired). `error` has
    the traceback.
    """
    return [typed(Event, row) for row in connection.execute(_EVENTS, {"experiment": experiment, "since": since})]


def take_endings(connection: sqlite3.Connection, run_id: int) -> list[int]:
    """The ids of the experiments that ended with this run or were paused because of it, each to one caller only."""
    return [
        row[0]
        for row in connection.execute(
            """
            UPDATE experiments SET notified_at = :now
            WHERE id IN (SELECT c.experiment_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
                         WHERE p.run_id = :run)
              AND coalesce(notified_at, '') < (SELECT finished_at FROM runs WHERE id = :run)
              AND (reason IS NOT NULL AND state_at >= (SELECT finished_at FROM runs WHERE id = :run)
                OR state = 'active' AND NOT EXISTS (
                SELECT 1 FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
                JOIN runs r ON r.id = p.run_id
                WHERE c.experiment_id = experiments.id AND r.status IN ('waiting', 'running')))
            RETURNING id
            """,
            {"now": now(), "run": run_id},
        ).fetchall()
    ]
