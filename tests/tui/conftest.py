"""Fixtures of the screens' pictures: real runs, and a fixed clock, host and processes."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual.message_pump import MessagePump
from textual.pilot import Pilot
from textual.widgets import Input, Static

from cockpit.text import words
from cockpit.tui.app import Cockpit
from cockpit.tui.reader import Query, Reader
from cockpit.tui.screens.transfer import Transfer
from cockpit.tui.widgets.chart import Chart, Plot
from cockpit.tui.widgets.logview import NOTHING, LogView
from engine.machine import devices, processes
from engine.store import database, workers
from tests.conftest import add
from tests.tui.driving import ONE, until
from tests.tui.make_fixture import FIXTURE

NOW = datetime.fromisoformat("2026-11-22T17:00:00+00:00")  # 15 minutes after the fixture's runs
HOST = "bench"
ALIVE, DEAD = 4242, 4343  # pids
SECONDS = 60.0  # that a screen may take until it stands still, on a busy machine
PATH = Path("experiments.db")  # relative, so that no picture shows a folder


class Clock(datetime):
    """A fixed clock."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":
        return cls.fromtimestamp(NOW.timestamp(), tz)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The same clock, time zone, host, processes, folder and terminal everywhere, and a cursor that does not blink."""
    monkeypatch.chdir(tmp_path)
    for name in ("COCKPIT_DB", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(database, "datetime", Clock)
    monkeypatch.setattr(words, "platform", SimpleNamespace(node=lambda: HOST))
    monkeypatch.setattr(workers, "time", SimpleNamespace(time=NOW.timestamp))
    monkeypatch.setattr(processes, "alive", lambda process: process.pid != DEAD)
    monkeypatch.setattr(devices, "usable", lambda: [devices.Device("cpu", None, False)] * 2)
    monkeypatch.setattr(devices, "default_profile", lambda: "exact")
    monkeypatch.setattr(Input.cursor_blink, "_default", False)
    monkeypatch.setattr(Reader, "_answer", _noting(Reader._answer))
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database in which the experiment `one` waits."""
    found = tmp_path / "experiments.db"
    add(found, "one", **ONE)
    return found


def _noting(answer: Any) -> Any:
    def noting(reader: Reader, connection: Any, receiver: MessagePump, queries: Mapping[str, Query]) -> None:
        answer(reader, connection, receiver, queries)
        reader.answered = queries  # type: ignore[attr-defined]

    return noting


def recorded(pid: int | None = None, heartbeat: float = 0.0) -> Path:
    """The database of the fixture; with a pid, a worker trains its last run again, and reported `heartbeat` s ago."""
    shutil.copyfile(FIXTURE, PATH)
    if pid is None:
        return PATH
    began, told = database.now(-heartbeat - 1000), database.now(-heartbeat)
    with closing(database.writer(PATH)) as connection:
        pool = workers.open_pool(connection, str(_log()))
        connection.execute("UPDATE pools SET pid = ?, host = ?", (pid, HOST))
        worker = connection.execute(
            "INSERT INTO workers (pid, process_started, host, device, pool, log, started_at, heartbeat_at, memory,"
            " epoch, batch, batches, loss, accuracy, images_per_second)"
            " VALUES (?, 0, ?, 'cpu', ?, ?, ?, ?, 800000000, 2, 5, 20, 0.25, 0.875, 160.0)",
            (pid, HOST, pool, str(_log()), began, told),
        ).lastrowid
        connection.execute(
            "UPDATE runs SET status = 'running', worker = ? WHERE id ="
            " (SELECT max(id) FROM runs WHERE status = 'done')",
            (worker,),
        )
        connection.executemany(
            "INSERT INTO loads (host, device, at, busy, memory_used, memory_total, celsius, watts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (load for part in range(60) for load in _loads(part, database.now(-heartbeat - 60 * part))),
        )
        connection.execute("UPDATE pools SET started_at = ?", (began,))
    return PATH


def _loads(part: int, at: str) -> Iterator[tuple[object, ...]]:
    """One sample of the load of a host and its card."""
    gib = 2**30
    yield HOST, "cpu", at, 0.5 + part % 7 / 20, (9 + part % 3) * gib, 32 * gib, None, None
    yield HOST, "cuda:0", at, 1.0 - part / 100, 40 * gib, 141 * gib, 70.0 - part / 2, 600.0 - 5 * part


def _log() -> Path:
    """The output of a pool."""
    path = Path(f"{PATH}.files") / "logs" / f"pool-{ALIVE}.log"  # relative, as pictures show it
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"2026-11-22 16:{line:02}:00 worker on cpu: run {line} of 60, level {line % 7}" for line in range(60))
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    return path


async def still(pilot: Pilot[None]) -> None:
    """Wait until a screen shows the answers to all its queries, and nothing is being read or drawn."""
    app = cast("Cockpit", pilot.app)
    await until(pilot, lambda: _is_still(app), SECONDS, times=3)


def _is_still(app: Cockpit) -> bool:
    charts = all(
        not (chart.shown and plot.size) or chart._painted == (chart.shown, chart.view, plot.size)
        for chart in app.screen.query(Chart)
        for plot in chart.query(Plot)
    )
    logs = all(view._idle and view._page is not NOTHING for view in app.screen.query(LogView) if view.display)
    return getattr(app.reader, "answered", None) is app.reader._wanted[1] and charts and logs and not _is_looking(app)


def _is_looking(app: Cockpit) -> bool:
    """Whether the transfer form has not shown its summary yet."""
    return any(
        box.value and str(app.screen.query_one("#planned", Static).content) == Transfer.empty
        for box in app.screen.query("Input#source").results(Input)
    )
