"""The screen Devices: loads, workers with their runs, and dead workers."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import structs
from textual.pilot import Pilot
from textual.widgets import Static

from cockpit.tui import states
from cockpit.tui.app import Cockpit
from cockpit.tui.screens import devices
from cockpit.tui.screens.logs import Logs
from cockpit.tui.widgets import panes
from cockpit.tui.widgets.logview import LogView
from cockpit.tui.widgets.table import LiveTable
from engine.machine import processes
from engine.machine.devices import Load
from engine.store import database, workers
from tests.conftest import copied

GIB = 2**30


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A writable database."""
    return copied(trained, tmp_path)


@contextmanager
def worker(path: Path, log: str = "/nowhere/pool-1.log") -> Iterator["subprocess.Popen[bytes]"]:
    """A process that the database knows as a worker which trains its first run, at 100 images a second."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with closing(database.writer(path)) as connection:
        connection.execute(
            "INSERT INTO workers (pid, process_started, host, boot, pid_namespace, device, log, started_at,"
            " heartbeat_at, memory, epoch, batch, batches, loss, accuracy, images_per_second)"
            " VALUES (?, ?, ?, ?, ?, 'cpu', ?, ?, ?, ?, 0, 5, 10, 0.5, 0.75, 100.0)",
            (*structs.astuple(processes.identity(process.pid)), log, *[database.now()] * 2, 3 * GIB),
        )
        connection.execute(
            "UPDATE runs SET status = 'running', epochs = 2, batch_size = 64, worker = (SELECT max(id) FROM workers)"
            " WHERE id = 1"
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def settle(pilot: Pilot[None], seconds: float = 2.0) -> None:
    await pilot.pause(seconds)


def said(app: Cockpit) -> str:
    return str(app.screen.query_one("#worker", Static).render())


@pytest.mark.asyncio
async def test_a_worker_is_shown_with_what_it_trains_and_a_dead_one_at_once(path: Path) -> None:
    with worker(path) as process:
        app = Cockpit(path)
        async with app.run_test(size=(160, 48)) as pilot:
            await pilot.press("6")
            await settle(pilot)
            (cells,) = app.screen.query_one("#at-work", LiveTable).shown.values()
            shown = "▶ training", "cpu", str(process.pid), "1/2", "100", "0.500", "75.0%", "10 s"  # 15 batches of 64
            assert tuple(cells[:8]) == shown
            assert "digits a dense, level 0" in said(app)
            assert f"pid {process.pid} on cpu of {socket.gethostname()}" in said(app)
            assert "3.0 GiB on the host" in said(app)
            process.kill()
            process.wait()
            await settle(pilot)
            (cells,) = app.screen.query_one("#at-work", LiveTable).shown.values()
            assert cells[0] == "✗ dead"


@pytest.mark.asyncio
@pytest.mark.parametrize("folder", [".", "/somewhere/else", "../.."])
async def test_l_opens_the_log_of_the_worker_beside_the_database(path: Path, folder: str) -> None:
    log = database.files_folder(path) / "logs" / "pool-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("first line\nlast line\n")
    with worker(path, str(log.parent / folder / log.name)):
        app = Cockpit(path)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("6")
            await settle(pilot)
            await pilot.press("l")
            await settle(pilot)
            assert isinstance(app.screen, Logs)
            assert "last line" in str(app.screen.query_one(LogView).render())


@pytest.mark.asyncio
async def test_loads_have_their_last_hour_as_bars_and_pools_their_log(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        for minutes, busy in ((50, 1.0), (0, 0.0)):
            connection.execute(
                "INSERT INTO loads VALUES ('here', 'cuda:0', ?, ?, ?, ?, 61.0, 400.0)",
                (database.now(-60.0 * minutes), busy, GIB, 2 * GIB),
            )
        workers.open_pool(connection, "/logs/pool.log")
    app = Cockpit(path)
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("6")
        await settle(pilot)
        (row,) = app.screen.query_one("#cards", LiveTable).shown.values()
        cells = [str(cell) for cell in row]
        assert cells[1].strip().startswith("0% ")
        assert (cells[1].count("█"), cells[1].count("▁")) == (1, 1)
        assert cells[1].index("█") < cells[1].index("▁")
        assert cells[2].startswith("1/2 GiB")
        assert cells[3].startswith("61 ")
        assert cells[4].startswith("400 ")
        (row,) = app.screen.query_one("#pools", LiveTable).shown.values()
        assert row[2] == "/logs/pool.log"


@pytest.mark.asyncio
async def test_without_workers_the_next_command_is_named(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6")
        await settle(pilot)
        assert said(app) == states.no_workers(app)
        await pilot.press("l")
        await settle(pilot, 0.3)
        assert isinstance(app.screen, devices.Devices)


def test_the_history_of_a_load_is_in_equal_parts_of_the_last_hour(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        connection.execute("DELETE FROM loads")
        workers.record_loads(connection, "here", [Load("cpu", 0.5, GIB, 2 * GIB)])
        connection.execute("UPDATE loads SET at = ?", (database.now(-1800.0),))
        workers.record_loads(connection, "here", [Load("cpu", 1.0, GIB, 2 * GIB)])
        (found,) = workers.load_history(connection, 4)
    history = found.history["busy"]
    assert found.busy == 1.0
    assert history[3] == 1.0
    assert 0.5 in history[1:3]
    assert found.history["watts"] == (None,) * 4


def test_what_is_on_another_machine_is_shown_with_its_host(path: Path) -> None:
    with worker(path), closing(database.writer(path)) as connection:
        workers.record_loads(connection, socket.gethostname(), [Load("cpu", 0.5, GIB, 2 * GIB)])
        assert panes.devices(workers.loads(connection)).plain == "cpu    ██░░  50% 1/2G"
        assert panes.workers(workers.present(connection), "").plain.splitlines()[0].split("  ")[1] == "cpu"
        connection.execute("UPDATE workers SET host = 'lab2', device_name = 'NVIDIA H100'")
        workers.record_loads(connection, "lab2", [Load("cuda:0", 1.0, GIB, 2 * GIB)])
        here, there = f"{socket.gethostname()}\ncpu    ██░░  50% 1/2G", "lab2\ncuda:0 ████ 100% 1/2G"
        assert {*panes.devices(workers.loads(connection)).plain.split("\n\n")} <= {
            f"{here}\n{there}",
            f"{there}\n{here}",
        }
        assert panes.workers(workers.present(connection), "").plain.splitlines()[0].split("  ")[1] == "cpu of lab2"
        (row,) = workers.present(connection)
        assert "on cpu of lab2 (NVIDIA H100)" in devices.describe(row, {row.digest or "": "a run"})
        assert devices._worker(row, {})[1:3] == ("cpu of lab2", "NVIDIA H100")
