"""Output during long operations: progress, workers, and the time left."""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cockpit.text import words
from cockpit.text.console import Console
from cockpit.views import names, tables
from cockpit.views.growing import Growing
from engine.store import rows, workers
from engine.store.row_types import Running
from engine.workers.pool import Pool

REFRESH_SECONDS = 0.5
BELOW = 1  # rows left free, so that the terminal does not scroll
PLAIN_SECONDS = 15.0  # between two lines if stderr is no terminal


def follow(
    pool: Pool,
    connection: sqlite3.Connection,
    experiment: int | None,
    charts: Callable[[bool], Growing] | None = None,
) -> None:
    """Show on stderr the progress of a pool until its processes have ended.

    `charts` returns the charts to show below; its argument is whether the terminal has colours that blend.
    """
    console = Console(stderr=True)
    began, first = time.monotonic(), rows.counts(connection, experiment)
    if not console.is_terminal:
        _follow_plainly(pool, connection, experiment)
        return
    bar = Progress(
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False), console=console,
    )  # fmt: skip
    growing = charts(tables.blends(console)) if charts else None
    task = bar.add_task("", total=first.total, completed=first.ended, left="")
    with Live(bar, console=console, refresh_per_second=4, transient=True) as live:
        while pool.running:
            counts = rows.counts(connection, experiment)
            left = _time_left(first, counts, time.monotonic() - began)
            bar.update(task, total=counts.total, completed=counts.ended, left=left)
            lines = [_describe(row) for row in rows.running(connection, experiment)] + _held_up(connection)
            shown = [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
            if growing:
                room = console.height - 1 - BELOW - len(shown)
                shown += map(tables.coloured, growing.rows(counts.ended, console.width, room))
            live.update(Group(bar, *shown))
            time.sleep(REFRESH_SECONDS)


@contextmanager
def reading(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of bytes processed and their total that shows progress on stderr, if that is a terminal."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _follow_plainly(pool: Pool, connection: sqlite3.Connection, experiment: int | None) -> None:
    """Print a line every `PLAIN_SECONDS`: progress, time left, and runs in training."""
    began, said, last = time.monotonic(), 0.0, ""
    first = rows.counts(connection, experiment)
    while pool.running:
        if time.monotonic() - said >= PLAIN_SECONDS:
            said = time.monotonic()
            counts = rows.counts(connection, experiment)
            left = _time_left(first, counts, said - began)
            now = [" ".join(_describe(row).split()) for row in rows.running(connection, experiment)]
            now += _held_up(connection)
            line = "; ".join([f"{counts.ended}/{counts.total} runs", *filter(None, [left if now else ""]), *now])
            if line != last:  # idle workers are reported once
                print(line, file=sys.stderr, flush=True)
            last = line
        time.sleep(REFRESH_SECONDS)
    counts = rows.counts(connection, experiment)
    if (line := f"{counts.ended}/{counts.total} runs") != last:
        print(line, file=sys.stderr, flush=True)


def _time_left(first: rows.Counts, counts: rows.Counts, seconds: float) -> str:
    """The time left at the pace since `first`, as text; empty before a run has ended."""
    done = counts.ended - first.ended
    if not done:
        return ""
    minutes, rest = divmod(round(seconds / done * (counts.total - counts.ended)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left"


def _held_up(connection: sqlite3.Connection) -> list[str]:
    """Why workers train nothing although runs wait, as text; empty if they train."""
    return [
        words.line(f"  {words.device(row)}: {row.message}")
        for row in workers.present(connection)
        if row.state == "held up"
    ]


def _describe(row: Running) -> str:
    """A worker's activity, numbers first, as a narrow terminal cuts the end."""
    epoch = 0 if row.epoch is None else row.epoch + 1
    speed = f"{row.images_per_second:>7,.0f} img/s" if row.images_per_second else " " * 13
    numbers = f"  {words.device(row):<6} level {row.level:>2}  seed {row.seed}  epoch {epoch:>2}/{row.epochs}"
    return words.line(f"{numbers} {speed}  {row.ticket} {names.ends(row)}")
