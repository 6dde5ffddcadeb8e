"""What happened to the runs of an experiment, attempt by attempt. Nothing of it is ever overwritten."""

import sqlite3
from typing import Any

from engine.store.claims import WANTED

_EVENTS = f"""
WITH tried AS (
  SELECT r.id AS run_id, r.digest, r.ticket, r.level, r.seed, r.source, r.target, a.attempt, a.started_at, a.error,
         coalesce(a.outcome, CASE WHEN a.attempt < r.attempt THEN 'lost' END) AS outcome,
         coalesce(a.ended_at, (SELECT min(n.started_at) FROM attempts n WHERE n.run_id = a.run_id
                               AND n.attempt > a.attempt)) AS ended_at,
         CASE WHEN a.outcome = 'done' THEN r.test_accuracy END AS test_accuracy, w.device, w.host, w.pid
  FROM attempts a JOIN runs r ON r.id = a.run_id LEFT JOIN workers w ON w.id = a.worker
  WHERE r.id IN ({WANTED})
)
SELECT * FROM (
SELECT started_at AS at, 'started' AS event, run_id, digest, ticket, level, seed, source, target, attempt, device, host,
       pid, NULL AS test_accuracy, NULL AS error FROM tried WHERE started_at >= :since
UNION ALL
SELECT ended_at, outcome, run_id, digest, ticket, level, seed, source, target, attempt, device, host,
       pid, test_accuracy, error FROM tried WHERE ended_at >= :since AND outcome IS NOT NULL
) ORDER BY at, run_id, attempt, event = 'started' DESC
"""


def events(connection: sqlite3.Connection, experiment: int, since: str = "") -> list[dict[str, Any]]:
    """What happened to the runs of an experiment since a moment, in order of time.

    `event` is started, done, failed, diverged, out-of-memory, or lost: the attempt ended with its worker, and the next
    began from scratch. `error` has the traceback of what failed.
    """
    return [dict(row) for row in connection.execute(_EVENTS, {"experiment": experiment, "since": since})]
