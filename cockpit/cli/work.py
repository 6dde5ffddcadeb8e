"""`cockpit run` and `cockpit work`: training here, with what happens on the screen."""

import signal
import sqlite3
import sys
from contextlib import closing
from typing import Annotated, NoReturn

import typer

from cockpit.cli.options import Database, command_line, takes_experiment, to_write
from cockpit.cli.queue import describe
from cockpit.cli.results import show
from cockpit.progress import follow
from engine import devices
from engine.experiments import Definition
from engine.pool import Pool
from engine.store import database, queue, rows

Workers = Annotated[
    int | None, typer.Option(help="Worker processes.", show_default="one a CUDA device, else one a core")
]


@takes_experiment
def run(
    wanted: tuple[str | None, Definition],
    workers: Workers = None,
    db: Database = None,
) -> None:
    """Queue an experiment, train it here, and draw its curves. The same command again continues where it stopped.

    Example: cockpit run digits
    """
    name, definition = wanted
    places = devices.chosen(workers)
    path = to_write(db)
    with closing(database.writer(path)) as connection:
        added = queue.add(connection, name or queue.default_name(definition), definition, command_line())
        print(describe(added), file=sys.stderr)
        queue.retry_failed(connection, added.experiment)
        queue.set_state(connection, added.experiment, "active")
        if queue.unfinished(connection, added.experiment):
            try:
                _attend(Pool(path, places, experiment=added.experiment), connection, added.experiment)
            except KeyboardInterrupt:
                queue.set_state(connection, added.experiment, "paused")
                print(f"{added.name} is paused; the same command continues it", file=sys.stderr)
                sys.exit(130)
        show(connection, added.name)
        _report_errors(connection, added.experiment)


def work(
    drain: Annotated[bool, typer.Option("--drain", help="End when the queue is empty.")] = False,
    workers: Workers = None,
    db: Database = None,
) -> None:
    """Train what is in the queue, one process a CUDA device, or one a core. Ctrl-C stops after the step under way."""
    places = devices.chosen(workers)
    path = to_write(db)
    with closing(database.writer(path)) as connection:
        if drain and not queue.unfinished(connection):
            print("nothing is waiting in the queue", file=sys.stderr)
            return
        try:
            _attend(Pool(path, places, drain=drain), connection, None)
        except KeyboardInterrupt:
            print("stopped; `cockpit work` continues", file=sys.stderr)
            sys.exit(130)


def _attend(pool: Pool, connection: sqlite3.Connection, experiment: int | None) -> None:
    """Show what the workers do until they end. A signal to stop stops them, and is raised as KeyboardInterrupt."""
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, _interrupt)
    try:
        follow(pool, connection, experiment)
    except KeyboardInterrupt:
        try:
            print("stopping: each worker ends its step and leaves a checkpoint (again: at once)", file=sys.stderr)
            pool.stop()
        except KeyboardInterrupt:
            pool.kill()
        raise
    if pool.crashed:
        print(
            f"cockpit: error: {len(pool.crashed)} of {len(pool)} workers crashed: see {pool.log}",
            file=sys.stderr,
        )
        sys.exit(1)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _report_errors(connection: sqlite3.Connection, experiment: int) -> None:
    """Say what failed and what diverged; a failure makes the exit code 1."""
    found = rows.errors(connection, experiment)
    for row in found:
        reason = str(row["error"]).strip().splitlines()[-1]
        what = f"{row['ticket']} level {row['level']} on {row['target']}, seed {row['seed']}"
        print(f"{row['status']}: {what} ({row['digest'][:12]}): {reason}", file=sys.stderr)
    if any(row["status"] == "failed" for row in found):
        sys.exit(1)
