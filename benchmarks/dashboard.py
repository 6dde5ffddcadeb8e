"""The dashboard on a large database: all screens and keys, on 1,000 experiments that another process trains."""

import asyncio
import gc
import multiprocessing
import os
import selectors
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.keys import key_to_character
from textual.message_pump import MessagePump
from textual.screen import Screen

from benchmarks.queue import EXPERIMENTS, fill
from cockpit import tui
from cockpit.tui.app import Cockpit
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.table import LiveTable
from engine.store import database, rows

SIZE = (160, 48)
ROUNDS = 3
LIVE = 1  # the experiment whose runs come to their ends while the dashboard shows it
WORKERS = 8
LAYERS = 17
LOG_LINES = 100_000
WATCHED_SECONDS = 10.0  # without a key
NAMED = 8  # of the slowest keys and the longest pauses, in each round
TICK_SECONDS = 0.005
BETWEEN_KEYS = 0.15
LOST_SECONDS = 10.0
WANTED_SECONDS = 0.1
CHART = (*"xxbbbgggff", "right_square_bracket", "left_square_bracket", "right", "right", "left", *"iio0")
# What is pressed on each screen, in this order.
KEYS: Mapping[str, Sequence[str]] = {
    "1": (*"jjjjkk", "pagedown", "end", "home", "space", *"j", "space", *"pp", *CHART, "enter", "1"),
    "2": (*CHART, "tab", *"jk", "escape"),
    "3": (*CHART, *"dd", "tab", *"jk", "space", "space", "escape"),
    "4": ("left", "left", "right", *"hhhvvssccrj", "a", *"exper", "down", "escape", "escape"),
    "5": (
        *("j", "j", "j", "k", "k", "pagedown", "end", "home", "space", "escape", *"sssss"),
        *("slash", *"name:77", "enter", "escape", *"aa", "plus", "minus", "C", "escape", "t", "escape", "N", "escape"),
        *("tab", *"jj", "escape"),
    ),
    "6": ("tab", *"jk", "tab", "1"),
    "7": (
        *("j", "k", "slash", *"done", "enter", "escape", "v"),
        *(*"gGff", "slash", *"99999", "enter", *"nN", "escape", "v", "1"),
    ),
    "": ("question_mark", "escape", "n", "tab", "escape", "ctrl+p", *"logs", "escape", "O", *"seed", "escape"),
}


def measure(quick: bool) -> dict[str, float]:
    """Pauses of the event loop, and the times to answer keys, to the first paint, and to show a new result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "0" / "experiments.db"
        path.parent.mkdir()
        count = EXPERIMENTS // 10 if quick else EXPERIMENTS
        runs = fill(path, count)
        _pretend(path, count)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as fresh:  # what is opened first is slowest
            number = 1 if quick else ROUNDS
            rounds = list(fresh.map(_round, [path] * number, range(1, number + 1)))
    found = {"experiments": float(count), "runs": float(runs), "rounds": float(number)}
    for what in rounds[0]:
        values = [one[what] for one in rounds]
        found[what] = statistics.median(values)
        if "est" in what.partition(", ")[2]:  # slowest, longest
            found[f"{what}, in the worst round"] = max(values)
    return found


def _round(path: Path, number: int) -> dict[str, float]:
    """Drive the dashboard once, on a copy of the database."""
    folder = path.parents[1] / str(number)
    shutil.copytree(path.parent, folder)
    turns = Turns()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        found = runner.run(_drive(folder / path.name, turns))
    shutil.rmtree(folder)
    return found


def _pretend(path: Path, count: int) -> None:
    """Mark three in five experiments as trained, with workers at work, without any training."""
    with closing(database.writer(path)) as connection, database.transaction(connection):
        connection.create_function("kept", 1, lambda level: round(100_000 * 0.8**level))
        connection.execute(
            """
            UPDATE runs SET status = 'done', attempt = 1, seconds = 60, finished_at = :now, weights_total = 100000,
              weights_remaining = kept(level), test_accuracy = 0.9 - 0.002 * level * level - 0.0001 * (id % 97)
            WHERE id IN (SELECT p.run_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
                         WHERE c.experiment_id <= :trained AND (c.experiment_id <> :live OR p.level < 2))
            """,
            {"now": database.now(), "trained": count * 3 // 5, "live": LIVE},
        )
        connection.execute(
            """
            WITH RECURSIVE places (layer) AS (SELECT 0 UNION ALL SELECT layer + 1 FROM places WHERE layer < :most)
            INSERT INTO layers (run_id, layer, name, weights_remaining, weights_total)
            SELECT id, layer, 'layer ' || layer, weights_remaining / (layer + 1), weights_total / (layer + 1)
            FROM runs, places WHERE status = 'done' AND seed < 200
            """,
            {"most": LAYERS - 1},
        )
        connection.execute("UPDATE runs SET status = 'failed', error = 'none' WHERE status = 'waiting' AND id % 99 = 0")
        logs = database.files_folder(path) / "logs"
        logs.mkdir(parents=True)
        for worker in range(1, WORKERS + 1):
            log = logs / f"worker-{worker}.log"
            log.write_text("".join(f"line {line} of what a worker says\n" for line in range(LOG_LINES)))
            connection.execute(
                "INSERT INTO workers (id, pid, host, device, log, started_at, heartbeat_at, epoch, batch, batches,"
                " loss, accuracy, images_per_second) VALUES (?, ?, 'elsewhere', ?, ?, ?, ?, 0, 0, 100, 1.0, 0.5, 1000)",
                (worker, worker, f"cuda:{worker - 1}", str(log), database.now(), database.now()),
            )


def _train(path: Path, told: Connection) -> None:
    """Twice a second, end two runs, one of them of the experiment shown, and send the time of the commit.

    It also writes the workers' heartbeats and loads.
    """
    with closing(database.writer(path)) as connection:
        while os.getppid() != 1:
            with database.transaction(connection):
                for own in (f"= {LIVE}", f"> {LIVE}"):
                    _end_one(connection, own)
                connection.execute("UPDATE workers SET heartbeat_at = ?, batch = (batch + 7) % 100", (database.now(),))
                connection.execute(
                    "INSERT INTO loads SELECT host, device, heartbeat_at, 0.9, 9e9, 8e10, 60, 300 FROM workers"
                )
            committed = time.monotonic()
            told.send((_seen(connection), committed))
            time.sleep(0.5)


def _end_one(connection: sqlite3.Connection, own: str) -> None:
    """End a run of the target's curves of an experiment, and start another."""
    connection.execute(
        f"""
        UPDATE runs SET status = 'done', worker = NULL, weights_total = 100000, test_accuracy = 0.8,
          weights_remaining = CASE level {" ".join(f"WHEN {n} THEN {round(100_000 * 0.8**n)}" for n in range(10))} END
        WHERE id = (SELECT r.id FROM experiment_curves c JOIN curve_points p ON p.curve_id = c.id
                    JOIN runs r ON r.id = p.run_id WHERE c.experiment_id {own} AND c.target = 'digits-b'
                    AND r.status IN ('waiting', 'running') ORDER BY c.experiment_id, p.level LIMIT 1)
        """
    )
    connection.execute(
        f"""
        UPDATE runs SET status = 'running', worker = 1 + id % {WORKERS}
        WHERE id = (SELECT r.id FROM experiment_curves c JOIN curve_points p ON p.curve_id = c.id
                    JOIN runs r ON r.id = p.run_id WHERE c.experiment_id {own} AND c.target = 'digits-b'
                    AND r.status = 'waiting' ORDER BY c.experiment_id, p.level LIMIT 1)
        """
    )


def _seen(connection: sqlite3.Connection) -> int:
    """The number of results that the chart of the experiment can show."""
    name = connection.execute("SELECT name FROM experiments WHERE id = ?", (LIVE,)).fetchone()[0]
    found: int = sum(row.n for row in rows.curves(connection, name) if row.target == "digits-b")
    return found


class Measured(Cockpit):
    """An application that records the time of its first paint."""

    CSS_PATH: ClassVar[list[Any]] = [Path(tui.__file__).with_name(name) for name in Cockpit.CSS_PATH]
    painted_at = 0.0

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        super()._display(screen, renderable)
        if not self.painted_at and screen.is_mounted and screen.children and screen.size:
            self.painted_at = time.perf_counter()


class Turns(selectors.DefaultSelector):
    """Records the duration of each turn of the event loop: the time between two polls."""

    def __init__(self) -> None:
        super().__init__()
        self.longest: dict[str, float] = defaultdict(float)  # processor time of the loop's thread
        self.during = "opening"
        self._began = time.thread_time()

    def select(self, timeout: float | None = None) -> list[Any]:
        """Poll, and wait for events."""
        self.longest[self.during] = max(self.longest[self.during], time.thread_time() - self._began)
        found: list[Any] = super().select(timeout)
        self._began = time.thread_time()
        return found


class Pauses:
    """The longest pauses of the event loop: the delays of sleeps of 5 ms.

    The part of a pause that this program caused is at most its processor time meanwhile, in all threads, because a
    thread that holds the interpreter makes the loop wait. Other programs caused the rest.
    """

    def __init__(self, turns: Turns) -> None:
        self.late: dict[str, float] = defaultdict(float)
        self.own: dict[str, float] = defaultdict(float)
        self.turns = turns

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            wall, used, during = time.perf_counter(), time.process_time(), self.turns.during
            await asyncio.sleep(TICK_SECONDS)
            late = time.perf_counter() - wall - TICK_SECONDS
            self.late[during] = max(self.late[during], late)
            self.own[during] = max(self.own[during], min(late, time.process_time() - used))


@asynccontextmanager
async def _training(path: Path) -> AsyncIterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(path, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.terminate()


async def _drive(path: Path, turns: Turns) -> dict[str, float]:
    async with _training(path) as told:
        await asyncio.to_thread(told.recv)
        gc.collect()
        pauses = Pauses(turns)
        watching = asyncio.create_task(pauses.watch())
        began = time.perf_counter()
        app = Measured(path)
        async with app.run_test(size=SIZE):
            await _until(lambda: _filled(app))
            filled = time.perf_counter() - began
            turns.during = "no key"
            delays = await _watch(app, told)
            answered = await _press_all(app, turns)
            watching.cancel()
    waited, used = zip(*answered.values(), strict=True)
    _name("slowest keys", dict(zip(answered, waited, strict=True)), dict(zip(answered, used, strict=True)))
    _name("longest pauses", pauses.late, pauses.own)
    _name("longest turns", turns.longest, turns.longest)
    found = {
        "first paint": app.painted_at - began,
        "all experiments and a chart": filled,
        "a key answered, median": statistics.median(waited),
        "a key answered, slowest": max(waited),
        "a key answered, slowest, processor time": max(used),
        "event loop, longest pause": max(pauses.late.values()),
        "event loop, longest pause, this program's part": max(pauses.own.values()),
        "event loop, longest turn, processor time": max(turns.longest.values()),
        "event loop, longest pause without a key": pauses.late["no key"],
        "event loop, longest pause without a key, this program's part": pauses.own["no key"],
        "a result on the chart, median": statistics.median(delays),
        "a result on the chart, slowest": max(delays),
    }
    counts = {
        "keys": len(answered),
        "keys that took 100 ms": sum(one >= WANTED_SECONDS for one in waited),
        "keys that took 100 ms of processor time": sum(one >= WANTED_SECONDS for one in used),
        "results": len(delays),
    }
    return {**{f"{what}, ms": seconds * 1000 for what, seconds in found.items()}, **counts}


def _name(what: str, seconds: Mapping[str, float], own: Mapping[str, float]) -> None:
    """The longest pauses: the key of the screen, the number of the key pressed there, and milliseconds.

    They are sorted by this program's part.
    """
    worst = sorted(own, key=lambda one: own[one], reverse=True)[:NAMED]
    said = (f"{one}: {seconds[one] * 1000:.0f} (its own {own[one] * 1000:.0f})" for one in worst)
    print(f"{what}, ms:", "; ".join(said), file=sys.stderr)


def _filled(app: Cockpit) -> bool:
    """Whether the dashboard shows all experiments, and the chart of the first."""
    table = app.screen.query(LiveTable)
    return bool(table and table.first().row_count and not table.first()._coming and _drawn(app))


def _drawn(app: Cockpit) -> int:
    """The number of results in the picture of the chart."""
    shown: Any = next(iter(app.screen.query_one(Chart)._painted), ())
    return sum(sum(one.counts) for one in shown)


async def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the dashboard shows nothing"
        await asyncio.sleep(TICK_SECONDS)


async def _watch(app: Cockpit, told: Connection) -> list[float]:
    """The seconds from the commit of each result until the chart shows it."""
    delays: list[float] = []
    end = time.monotonic() + WATCHED_SECONDS
    while told.poll():
        told.recv()
    open_: list[tuple[int, float]] = []
    while (now := time.monotonic()) < end or (not delays and now < end + LOST_SECONDS):  # a busy machine trains slowly
        await asyncio.sleep(TICK_SECONDS)
        if told.poll():
            open_.append(told.recv())
        drawn = _drawn(app)
        while open_ and drawn >= open_[0][0]:
            delays.append(time.monotonic() - open_.pop(0)[1])
    return delays


async def _press_all(app: Cockpit, turns: Turns) -> dict[str, tuple[float, float]]:
    """Press the keys of all screens; returns the seconds until each was answered, and its processor time."""
    answered = {}
    for screen, keys in KEYS.items():
        for place, key in enumerate([*screen, *keys]):
            turns.during = f"{screen} {place} {key}"
            used = time.process_time()
            waited = await _press(app, key)
            answered[turns.during] = (waited, time.process_time() - used)
            await asyncio.sleep(BETWEEN_KEYS)
    return answered


async def _press(app: Cockpit, key: str) -> float:
    """Press a key, and wait until the widgets have handled it and its changes are painted."""
    way: list[MessagePump] = [app]
    if app.focused:
        way += [app.focused, *app.focused.ancestors]
    began = time.perf_counter()
    app.post_message(events.Key(key, key_to_character(key)))
    for pump in [*way, app]:
        await _once(pump, pump.call_later)
    while app._batch_count:  # nothing is painted meanwhile
        await asyncio.sleep(0.001)
    await _once(app.screen, app.screen.call_after_refresh)
    return time.perf_counter() - began


async def _once(pump: MessagePump, call: Callable[[Callable[[], object]], object]) -> None:
    """Wait until a callback has passed through the queue of a widget, or the widget is gone."""
    done = asyncio.Event()
    call(done.set)
    end = time.monotonic() + LOST_SECONDS
    while not done.is_set() and pump.is_attached and pump.is_running:
        assert time.monotonic() < end, f"{pump} does not answer"
        await asyncio.sleep(0.001)
