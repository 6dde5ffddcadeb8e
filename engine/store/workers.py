"""Pools, their workers, and the load of hosts and devices."""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import structs

from engine.machine import processes
from engine.store import row_types
from engine.store.database import insert, now, transaction
from engine.store.leases import NAMING
from engine.store.row_types import LoadHistory, Pool, Worker, typed

if TYPE_CHECKING:
    from engine.machine.devices import Load

LOAD_SECONDS = 5.0  # between two samples of a host
LOADS_KEPT_SECONDS = 3600.0
AT_WORK = ("training", "held up", "idle")  # states of workers that train, or will train the next run
SILENT_SECONDS = 40.0  # without a heartbeat, after which a worker is shown as silent
HERE = "(host, boot, pid_namespace) = (:host, :boot, :pid_namespace)"  # pools whose pids count in this process
LONG_AGO = "'1970-01-01T00:00:00.000Z'"  # for a row without a time, which only a damaged database has
JOINED = "joined-"  # begins the name of the head's copy of the log of another machine's workers
MEASURES = ("busy", "memory_used", "celsius", "watts")


def open_pool(connection: sqlite3.Connection, log: str) -> int:
    """Record that this process is a pool of workers; returns its id."""
    return insert(connection, "pools", {**structs.asdict(processes.identity()), "log": log, "started_at": now()})


def open_worker(
    connection: sqlite3.Connection,
    device: str,
    pool: int | None,
    log: str | None,
    identity: processes.Identity | None = None,
    device_name: str | None = None,
) -> int:
    """Record that a process, by default this one, is a worker on a device (of model `device_name`); returns its id."""
    about = {
        "device": device,
        "device_name": device_name,
        "pool": pool,
        "log": log,
        "started_at": now(),
        "heartbeat_at": now(),
    }
    return insert(connection, "workers", {**structs.asdict(identity or processes.identity()), **about})


def report(connection: sqlite3.Connection, worker: int, columns: Mapping[str, object]) -> None:
    """Record a worker's report: values by columns of `workers`."""
    settings = ", ".join(f"{column} = ?" for column in columns)
    connection.execute(f"UPDATE workers SET {settings} WHERE id = ?", (*columns.values(), worker))


def close_worker(connection: sqlite3.Connection, worker: int) -> None:
    """Record that a worker has ended."""
    connection.execute("UPDATE workers SET ended_at = ? WHERE id = ?", (now(), worker))


def close_pool(connection: sqlite3.Connection, pool: int) -> None:
    """Record that a pool has ended."""
    connection.execute("UPDATE pools SET ended_at = ? WHERE id = ?", (now(), pool))


def record_loads(connection: sqlite3.Connection, host: str, loads: "Iterable[Load]") -> None:
    """Record a sample of a host's load, unless another pool there has just done so; delete samples older than an hour.

    Samples from the future, written before the host's clock was set back, are deleted: they would count as the newest.
    """
    with transaction(connection):
        connection.execute("DELETE FROM loads WHERE host = ? AND at > ?", (host, now()))
        recent = "SELECT 1 FROM loads WHERE host = ? AND at > ?"
        if connection.execute(recent, (host, now(-0.8 * LOAD_SECONDS))).fetchone():
            return
        connection.execute("DELETE FROM loads WHERE at < ?", (now(-LOADS_KEPT_SECONDS),))
        connection.executemany(
            "INSERT OR REPLACE INTO loads (host, device, at, busy, memory_used, memory_total, celsius, watts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((host, load.device, now(), *structs.astuple(load)[1:]) for load in loads),
        )


def live_pools(connection: sqlite3.Connection) -> list[Pool]:
    """The pools whose process runs on this host, in this container."""
    query = f"SELECT * FROM pools WHERE ended_at IS NULL AND {HERE} ORDER BY id"
    open_pools = [typed(Pool, row) for row in connection.execute(query, structs.asdict(processes.place()))]
    return [pool for pool in open_pools if processes.alive(pool)]


def starting(connection: sqlite3.Connection) -> int:
    """The number of pools here whose workers have not reported yet."""
    reported = "SELECT EXISTS (SELECT 1 FROM workers WHERE pool = ?)"
    return sum(not connection.execute(reported, (pool.id,)).fetchone()[0] for pool in live_pools(connection))


def killed_pool(connection: sqlite3.Connection) -> Pool | None:
    """The newest pool of this host and container if it was killed; its workers then stop themselves."""
    row = connection.execute(
        f"SELECT * FROM pools WHERE {HERE} ORDER BY id DESC", structs.asdict(processes.place())
    ).fetchone()
    pool = typed(Pool, row) if row else None
    return pool if pool and not pool.ended_at and processes.alive(pool) is False else None


def present(connection: sqlite3.Connection) -> list[Worker]:
    """The workers that have not ended, and those that died while they held a run.

    `state` is training, idle, held up (`message` says why), silent (no heartbeat), or dead (its process is gone).
    """
    found = connection.execute(
        f"""
        SELECT w.id, w.pid, w.process_started, w.host, w.boot, w.pid_namespace,
               coalesce(w.device, '?') AS device, w.device_name, w.pool, w.log,
               coalesce(w.started_at, {LONG_AGO}) AS started_at, coalesce(w.heartbeat_at, {LONG_AGO}) AS heartbeat_at,
               w.message, w.memory, w.device_memory, w.images_per_second, w.epoch, w.batch, w.batches,
               w.loss, w.accuracy, w.checkpoint_seconds, w.heartbeat_at < :silent AS silent,
               r.id AS run_id, r.digest, r.ticket, r.level, r.seed, r.source, r.target, {NAMING},
               r.epochs, r.batch_size, r.attempt, '' AS state
        FROM workers w LEFT JOIN runs r ON r.worker = w.id AND r.status = 'running'
        WHERE w.ended_at IS NULL AND (w.heartbeat_at > :recent OR r.id IS NOT NULL) ORDER BY w.host, w.device, w.id
        """,
        {"silent": now(-SILENT_SECONDS), "recent": now(-LOADS_KEPT_SECONDS)},
    ).fetchall()
    every = [_judged(typed(Worker, row)) for row in found]
    return [worker for worker in every if worker.state != "dead" or worker.run_id]


def _judged(worker: Worker) -> Worker:
    """The worker with its state; a dead one has no images per second."""
    if processes.alive(worker) is False:
        return structs.replace(worker, state="dead", images_per_second=None)
    if worker.silent:
        return structs.replace(worker, state="silent")
    state = "held up" if worker.message else "training" if worker.run_id else "idle"
    return structs.replace(worker, state=state)


def loads(connection: sqlite3.Connection) -> list[row_types.Load]:
    """The newest sample of each device."""
    samples = connection.execute(
        """
        SELECT host, device, max(at) AS at, busy, memory_used, memory_total, celsius, watts FROM loads
        GROUP BY host, device ORDER BY host, device
        """
    )
    return [typed(row_types.Load, row) for row in samples]


def load_history(connection: sqlite3.Connection, parts: int) -> list[LoadHistory]:
    """The newest sample of each device with its last hour, divided into `parts` (`LoadHistory.history`)."""
    seconds = LOADS_KEPT_SECONDS / parts
    means = ", ".join(f"avg({measure}) AS {measure}" for measure in MEASURES)
    found = connection.execute(
        f"""
        SELECT host, device, CAST(strftime('%s', at) / :seconds AS INTEGER) AS part, {means} FROM loads
        GROUP BY host, device, part
        """,
        {"seconds": seconds},
    )
    first = int(time.time() / seconds) - parts + 1
    histories: dict[tuple[str, str], dict[str, list[float | None]]] = defaultdict(
        lambda: {measure: [None] * parts for measure in MEASURES}
    )
    for row in found:
        history = histories[row["host"], row["device"]]
        if 0 <= row["part"] - first < parts:
            for measure in MEASURES:
                history[measure][row["part"] - first] = row[measure]
    # `histories` is a defaultdict: a device whose first sample came after the query above has an empty history.
    return [
        LoadHistory(
            **structs.asdict(load),
            history={measure: tuple(means) for measure, means in histories[load.host, load.device].items()},
        )
        for load in loads(connection)
    ]
