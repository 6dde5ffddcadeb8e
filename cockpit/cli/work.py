"""`cockpit run` and `cockpit work`: train on this machine, with progress on the screen."""

import shlex
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cockpit import config
from cockpit.cli.parameters import takes_experiments
from cockpit.cli.results import show, view
from cockpit.config import MIN_FREE
from cockpit.requests import background, clusters, trusting
from cockpit.requests.outlook import absent, describe, emulated
from cockpit.requests.request import Request, add_all
from cockpit.requests.shared import Database, DataDir, to_read, to_write, use_data, within
from cockpit.requests.trusting import TrustModels
from cockpit.text import hints, words
from engine.errors import InputError
from engine.machine import devices
from engine.store import adding, database, heads, leases, located, queue, rows
from engine.workers.pool import Pool

if TYPE_CHECKING:
    from engine.desk.wire import Address

app = typer.Typer()

ERRORS_SHOWN = 10
Workers = Annotated[
    int | None, typer.Option(help="Worker processes.", show_default="one per CUDA device, else one per core")
]


@app.command("run", epilog="Example: cockpit run digits")
@takes_experiments
def run(
    asked: list[Request],
    workers: Workers = None,
    data_dir: DataDir = None,
    db: Database = None,
) -> None:
    """Queue an experiment, train it here, and plot its curves. Ctrl-C pauses it; the same command resumes.

    Experiments of a file train one after the other. `cockpit queue add FILE` and `cockpit work` train them together.
    """
    wish = config.work()
    use_data(data_dir)
    places = [_places(workers, wish.per_device, one.definition.split) for one in asked]
    least = _least(wish.min_free)
    path = to_write(db, make=True)
    with closing(database.writer(path)) as connection:
        with database.transaction(connection):  # what cannot be trained here is not queued
            all_added = add_all(connection, asked)
            for added in all_added:
                queue.retry_failed(connection, added.experiment)
                queue.set_state(connection, added.experiment, "active")
            unfinished = (leases.unfinished(connection, added.experiment) for added in all_added)
            left = [one.definition for one, more in zip(asked, unfinished, strict=True) if more]
            for absence in absent(left):
                raise absence
        for warning in emulated({one.profile for one in left}):
            hints.warn(warning)
        for added in all_added:
            print(describe(added.name, added), file=sys.stderr)
        try:
            ended = [
                _train(connection, added, partial(Pool, path, at, min_free=least, notify=wish.notify))
                for added, at in zip(all_added, places, strict=True)
            ]
        except KeyboardInterrupt:
            for added in all_added:
                if leases.unfinished(connection, added.experiment):
                    queue.set_state(connection, added.experiment, "paused")
                    print(f"{added.name} is paused; the same command resumes it", file=sys.stderr)
            sys.exit(130)
    sys.exit(0 if all(ended) else 1)


def _train(connection: sqlite3.Connection, added: adding.Added, open_pool: Callable[..., Pool]) -> bool:
    """Train a queued experiment and plot its curves. Returns whether no run failed or is left."""
    if leases.unfinished(connection, added.experiment):
        _attend(open_pool(experiment=added.experiment), connection, added.experiment, added.name)
    show(connection, added.name)
    problems = _report_errors(connection, added.experiment)
    state = rows.experiment(connection, added.experiment)
    if left := state.waiting + state.running + state.halted:
        why = "the workers ended" if state.state == "active" else f"{state.state} by another process"
        print(f"{left} runs unfinished ({why}). Run the same command to continue.", file=sys.stderr)
    return not problems and not left


@app.command("work", epilog="Example: cockpit work --detach --drain")
def work(
    drain: Annotated[bool, typer.Option("--drain", help="Stop when the queue is empty.")] = False,
    workers: Workers = None,
    per_device: Annotated[
        int | None,
        typer.Option(
            help="Workers per CUDA device; another starts a run only if it fits into memory.", show_default="1"
        ),
    ] = None,
    split: Annotated[
        int,
        typer.Option(help="Devices per worker, which then trains only runs queued with the same --split."),
    ] = 1,
    only: Annotated[
        str | None,
        typer.Option("--devices", metavar="LIST", help="CUDA devices to use, as in 0-3,6; or mps.", show_default="all"),
    ] = None,
    min_free: Annotated[
        float | None,
        typer.Option(
            help="Start no run with less than N GiB of free disk.", show_default="1", callback=within(MIN_FREE)
        ),
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Shell command to run when an experiment has ended; COCKPIT_EXPERIMENT and COCKPIT_STATUS are set.",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|FILE",
            help="Listen there for machines that `cockpit join`; this one then trains only with --workers.",
            show_default=False,
        ),
    ] = None,
    keys: clusters.Keys = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Train in the background, also after the terminal closes.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Checkpoint and stop the workers here; twice: stop at once.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the workers and the load of this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --status: print JSON.")] = False,
    data_dir: DataDir = None,
    trust_models: TrustModels = False,
    db: Database = None,
) -> None:
    """Train the queue, with one process per CUDA device, or one per core. Ctrl-C stops after the current step.

    A configuration file can set defaults of --notify, --min-free and --per-device (docs/configuration.md).
    """
    if sum((detach, stop, status)) > 1:
        raise InputError("--detach, --stop and --status exclude each other: give one of them")
    if as_json and not status:
        raise InputError("--json needs --status: give both or neither")
    if status:
        with closing(database.reader(to_read(db))) as connection:
            background.status(connection, as_json)
        return
    if stop:
        with closing(database.reader(to_read(db))) as connection:
            background.stop(connection)
        return
    wish = config.work()
    use_data(data_dir)
    head, leading = _head(cluster, keys)
    per_device = wish.per_device if per_device is None else per_device
    places = [] if head and workers is None and only is None else _places(workers, per_device, split, only)
    least = _least(wish.min_free if min_free is None else min_free)
    path = to_write(db)
    with closing(database.writer(path)) as connection:
        if head:
            heads.refuse_second(connection)
            head.listen().close()
        trained = None if head else split  # a head has workers of any number of devices
        _warn(connection, trained)
        if drain and not leases.unfinished(connection, split=trained):
            print("nothing is waiting in the queue", file=sys.stderr)
            return
        trusting.of_queue(connection, trust_models)
        for problem in located.lost(connection):
            print(problem, file=sys.stderr)
        if places and workers is None:
            background.refuse_more(connection, None if only is None else {place.name for place in places})
        if detach:
            arguments = [word for word in sys.argv[2:] if word != "--detach"]
            background.detach(path, connection, arguments, leads=head is not None)
            return
        try:
            pool = Pool(
                path, places, drain=drain, min_free=least, notify=notify or wish.notify, head=head, leading=leading
            )
            _attend(pool, connection, None)
        except KeyboardInterrupt:
            hints.warn("stopped; `cockpit work` resumes")
            sys.exit(130)
        problems = _report_errors(connection, None)
        left = leases.unfinished(connection, split=trained)
    sys.exit(1 if problems or left else 0)


def _warn(connection: sqlite3.Connection, split: int | None) -> None:
    """Warn of runs in the queue that these workers skip (None: none for their devices), and of those that take long."""
    halted = [row.name for row in rows.experiments(connection) if row.status in ("paused", "cancelled")]
    if halted:
        hints.warn(f"skipped until `cockpit queue resume`: {', '.join(halted)}")
    for other in sorted(leases.splits(connection) - {split}) if split else ():
        hints.warn(f"skipped runs {words.split(other)}: `cockpit work --split {other}`")
    if others := leases.foreign(connection):
        hints.warn(f"skipped {others} runs that another version of cockpit queued: train them with it")
    for warning in emulated(leases.profiles(connection)):
        hints.warn(warning)


def _places(workers: int | None, per_device: int, split: int, only: str | None = None) -> list[devices.Device]:
    """The devices of each worker, with a warning of a card that none of them uses."""
    if unclear := devices.unclear():
        hints.warn(unclear)
    return devices.chosen(workers, per_device, split, only)


def _head(cluster: str | None, keys: Path | None) -> "tuple[Address | None, list[str]]":
    """Where this process should be the head of a cluster, and further options of it; its keys have been checked."""
    if cluster is None:
        if keys is not None:
            raise InputError("--keys needs --cluster: give both or neither")
        return None, []
    found = clusters.named(cluster, keys)
    found.address.context(head=True)
    found.address.check_keys()
    return found.address, clusters.options(found)


def _least(gib: float) -> int:
    """The bytes that `--min-free` stands for."""
    return round(gib * 2**30)


def _attend(pool: Pool, connection: sqlite3.Connection, experiment: int | None, name: str | None = None) -> None:
    """Show the workers' progress until they end, and the curves of the experiment that is named.

    A stop signal stops them, and is raised as KeyboardInterrupt.
    """
    from cockpit.views.growing import Growing
    from cockpit.views.progress import follow

    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, _interrupt)
    try:
        charts = (lambda blends: Growing(connection, name, view(blends))) if name is not None else None
        follow(pool, connection, experiment, charts)
    except KeyboardInterrupt:
        try:
            with suppress(OSError):  # the terminal may be gone
                print(
                    "stopping: each worker finishes its step and saves a checkpoint (again: stop at once)",
                    file=sys.stderr,
                )
            pool.stop()
        except KeyboardInterrupt:
            pool.kill()
        raise
    try:
        pool.close()
    finally:
        if pool.halted:
            print(f"workers stopped, without counting a failed attempt: {pool.halted}", file=sys.stderr)
    if pool.restarts or pool.crashed:
        print(
            f"workers crashed and restarted {pool.restarts} times; {pool.crashed} of {len(pool)} gave up:"
            f" see {pool.log}",
            file=sys.stderr,
        )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _report_errors(connection: sqlite3.Connection, experiment: int | None) -> bool:
    """Print failed, diverged and blocked runs. Returns whether any failed."""
    found = rows.errors(connection, experiment)
    for row in found[:ERRORS_SHOWN]:
        print(words.error(row), file=sys.stderr)
    if len(found) > ERRORS_SHOWN:
        hints.warn(f"and {len(found) - ERRORS_SHOWN} more: `cockpit queue show NAME`")
    for one in rows.experiments(connection, experiment):
        if one.blocked and (one.state == "active" or one.reason):
            print(f"{one.blocked} runs of {one.name} are blocked: they depend on failed runs", file=sys.stderr)
        if one.reason:
            print(f"{one.name} is paused: {one.reason}", file=sys.stderr)
        if one.failed and (one.state == "active" or one.reason):
            hints.warn(f"fixed? Train them again with `cockpit queue retry {shlex.quote(one.name)}`")
    return any(row.status == "failed" for row in found)
