"""`cockpit work --detach | --stop | --status`: background workers."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cockpit.text import hints, words
from cockpit.views import runs, tables
from engine.errors import InputError
from engine.machine import processes
from engine.store import database, heads, workers
from engine.store.row_types import Load, Row, Worker

START_SECONDS = 30.0
LOOK_SECONDS = 0.2
GIB = 2**30


def start(
    path: Path, connection: sqlite3.Connection, arguments: Sequence[str] = (), *, leads: bool = False
) -> tuple[int | None, str]:
    """Start `cockpit work` with these arguments in a new session, and wait until it has begun.

    If it `leads` a cluster, others can join by then. Returns its pid and a message; no pid if it ended at once because
    the queue was empty. Raises InputError.
    """
    processes.check_told()
    folder = database.files_folder(path) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"work-{datetime.now(UTC):%Y%m%dT%H%M%S}-{processes.mark()}.log"
    before = _written(path)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*processes.python("cockpit"), "work", "--db", str(path.absolute()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=processes.environment(),
            start_new_session=True,  # what ends the terminal does not end it
        )
    deadline = time.monotonic() + START_SECONDS
    while not any(pool.pid == process.pid for pool in workers.live_pools(connection)) or (
        leads and _written(path) == before
    ):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            said = log.read_text(errors="replace").strip()
            if process.returncode == 0:
                return None, said
            raise InputError(f"workers could not be started: {said.splitlines()[-1] if said else f'see {log}'}")
        time.sleep(LOOK_SECONDS)
    return process.pid, f"working in the background (pid {process.pid})"


def _written(path: Path) -> int | None:
    """When the head of a database wrote how it is joined, in nanoseconds; one that was killed has left it behind."""
    try:
        return database.join_file(path).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def detach(path: Path, connection: sqlite3.Connection, arguments: Sequence[str], *, leads: bool = False) -> None:
    """`cockpit work --detach`: start workers and print their pid."""
    pid, said = start(path, connection, arguments, leads=leads)
    if pid is None:
        print(said, file=sys.stderr)
    else:
        hints.say(f"{said}: `cockpit work --status` shows progress, `--stop` stops it")


def refuse_more(connection: sqlite3.Connection, devices: Collection[str] | None = None) -> None:
    """Raise InputError if workers are running here already, on one of these devices: more would share them."""
    pools = workers.live_pools(connection)
    if devices is not None:
        busy = {row.pool for row in workers.present(connection) if row.state != "dead" and row.device in devices}
        pools = [pool for pool in pools if pool.id in busy]
    if pools:
        pids = ", ".join(str(pool.pid) for pool in pools)
        raise InputError(
            f"workers of this database are already running here (pid {pids}): `cockpit work --status` shows them,"
            " --stop stops them, and --workers N starts N more anyway"
        )


def end(connection: sqlite3.Connection, say: Callable[[str], None]) -> str | None:
    """Stop the pools of this database on this machine and wait for them. Returns a message, None without pools."""
    processes.check_told()
    pools, path = workers.live_pools(connection), database.path_of(connection)
    for pool in pools:
        if not processes.has_open(pool.pid, path):  # whose pid a foreign or damaged database may name
            raise InputError(
                f"process {pool.pid} does not work on {path}, though row {pool.id} of its table pools says so:"
                " stopped nothing; stop the workers by hand"
            )
    for pool in pools:
        try:
            with suppress(ProcessLookupError):
                os.kill(pool.pid, signal.SIGTERM)
        except PermissionError:
            raise InputError(f"the workers of pid {pool.pid} belong to another user, who must stop them") from None
    if not pools:
        say("no workers to stop")
        return None
    say("stopping: each worker finishes its step and saves a checkpoint (again: stop at once)")
    asked = {pool.id for pool in pools}
    while any(pool.id in asked for pool in workers.live_pools(connection)):
        time.sleep(LOOK_SECONDS)
    return f"stopped: pid {', '.join(str(pool.pid) for pool in pools)}"


def stop(connection: sqlite3.Connection) -> None:
    """`cockpit work --stop`: stop the workers and print which."""
    stopped = end(connection, lambda said: print(said, file=sys.stderr))
    if stopped:
        print(stopped)


def status(connection: sqlite3.Connection, as_json: bool) -> None:
    """Print the pools, their workers, and the load of the machine and its cards."""
    pools, present, loads = workers.live_pools(connection), workers.present(connection), workers.loads(connection)
    lead = heads.leading(connection)
    if as_json:
        found: dict[str, Sequence[Row]] = {"pools": pools, "workers": present, "loads": loads}
        said: dict[str, object] = {name: [row.as_json() for row in every] for name, every in found.items()}
        print(json.dumps({**said, "head": lead and msgspec.to_builtins(lead)}))
        return
    if killed := workers.killed_pool(connection):
        print(f"the pool {killed.pid} was killed; its workers save checkpoints and stop: {killed.log}")
    if not present:
        if not pools:
            processes.check_told()
            hints.say("no workers: start them with `cockpit work`, or `cockpit work --detach` in the background")
        joins = _head(lead, present, database.path_of(connection))
        for pool in pools:
            print(joins or f"the workers of pool {pool.pid} are starting: {pool.log}")
        return
    headings = ("pid", "device", "card or CPU", "state", "trains", "epoch", "img/s", "left", "memory, GiB", "heartbeat")
    tables.show(headings, [_cells(row) for row in present], left=5)
    for row in present:
        if row.message:
            print(f"{row.pid}: {row.message}")
    for load in loads:
        print(_load(load))
    for pool in pools:
        print(f"pool {pool.pid}, since {pool.started_at}: {pool.log}")
    if joins := _head(lead, present, database.path_of(connection)):
        print(joins)


def _head(lead: heads.Lead | None, present: Sequence[Worker], path: Path) -> str:
    """How others join the head of this database, and where and how often their runs are saved; empty without one."""
    if lead is None:
        return ""
    how = f"written to {lead.checkpoints}" if lead.checkpoints else "sent to the head"
    joined = [row for row in present if row.log and Path(row.log).name.startswith(workers.JOINED)]
    every = sorted(row.checkpoint_seconds for row in joined if row.checkpoint_seconds is not None)
    often = "once a minute, or less often so that this takes at most a twentieth of the time"
    if every:
        first, last = (f"{seconds:.0f}" for seconds in (every[0], every[-1]))
        often = f"every {first} s" if first == last else f"every {first} to {last} s"
    return (
        f"a head listens for other machines: cockpit join {database.join_file(path)}; checkpoints of joined workers are"
        f" {how} {often}"
    )


def _cells(row: Worker) -> list[str]:
    memory, left = [row.memory, row.device_memory], runs.seconds_left(row)
    return [
        str(row.pid),
        words.device(row),
        words.line(row.device_name or ""),
        words.state(row.state),
        runs.called(row) if row.run_id else "",
        f"{row.epoch + 1}/{row.epochs}" if row.run_id and row.epoch is not None else "",
        f"{row.images_per_second:,.0f}" if row.images_per_second else "",
        words.duration(left) if left is not None else "",
        " + ".join(f"{size / GIB:.1f}" for size in memory if size is not None),
        f"{database.age(row.heartbeat_at):.0f} s ago",
    ]


def _load(row: Load) -> str:
    parts = [f"{row.busy:.0%} busy", f"{row.memory_used / GIB:.1f} of {row.memory_total / GIB:.1f} GiB"]
    parts += [f"{row.celsius:.0f} °C"] if row.celsius is not None else []
    parts += [f"{row.watts:.0f} W"] if row.watts is not None else []
    return f"{row.device} of {row.host}: {', '.join(parts)}, {database.age(row.at):.0f} s ago"
