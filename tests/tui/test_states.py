"""The texts of empty screens fit the present state."""

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from textual.pilot import Pilot
from textual.widgets import Input, RichLog, Static

from cockpit.tui import states
from cockpit.tui.app import Cockpit
from cockpit.tui.help import Help
from cockpit.tui.screens.devices import Devices
from engine.machine import processes
from engine.store import database, leases, queue, rows, workers
from tests.conftest import add
from tests.databases import worker
from tests.tui.driving import ONE, until

pytestmark = pytest.mark.asyncio


def nothing(connection: sqlite3.Connection) -> None:
    """Leave the experiment waiting."""


def train(connection: sqlite3.Connection) -> None:
    assert leases.claim(connection, worker(connection)) is not None


def start(connection: sqlite3.Connection) -> None:
    workers.open_pool(connection, "pool.log")


def set_state(state: queue.State) -> Callable[[sqlite3.Connection], None]:
    def act(connection: sqlite3.Connection) -> None:
        queue.set_state(connection, 1, state)

    return act


def fail(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE runs SET status = 'failed', error = 'x'")


def shown(pilot: Pilot[None]) -> str:
    return " ".join(str(one.render()) for one in pilot.app.screen.query(Static) if one.display)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("act", "said", "key"),
    [
        (nothing, "cockpit work --detach", "w starts workers"),
        (start, "Workers are starting", ""),
        (train, "It is being trained", ""),
        (set_state("paused"), "It is paused", "P resumes it"),
        (set_state("cancelled"), "It is cancelled", "P resumes it"),
        (fail, "1 failed: x.", "R trains them again"),
    ],
)
async def test_an_experiment_without_results_says_why_and_what_helps_now(
    path: Path, act: Any, said: str, key: str, read_only: bool
) -> None:
    with closing(database.writer(path)) as connection:
        act(connection)
        found = states.untrained(connection, "one", read_only)
    assert said in found
    assert key == "" or (key in found) == (not read_only)
    assert "w starts" not in found or (act is nothing and not read_only)


async def test_all_screens_say_so_and_change_as_things_do(path: Path) -> None:
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "w starts workers" in shown(pilot))
        with closing(database.writer(path)) as connection:
            queue.set_state(connection, 1, "paused")
            await until(pilot, lambda: "P resumes it" in shown(pilot))
            for key in "23":
                await pilot.press(key)
                await until(pilot, lambda: "P resumes it" in shown(pilot))
            queue.set_state(connection, 1, "active")
            train(connection)
        await until(pilot, lambda: "It is being trained" in shown(pilot))


async def test_workers_are_starting_from_the_key_until_they_report(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "no workers: w starts them" in shown(pilot))
        with closing(database.writer(path)) as connection:
            pool = workers.open_pool(connection, "pool.log")
            await until(pilot, lambda: "workers are starting" in shown(pilot))
            await pilot.press("6")
            await until(pilot, lambda: "workers are starting" in shown(pilot))
            workers.open_worker(connection, "cpu", pool, None)
        await until(pilot, lambda: "workers: · idle 1" in shown(pilot))


async def test_a_dead_worker_has_no_speed(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        train(connection)
        with subprocess.Popen(["true"]) as gone:
            identity = processes.identity(gone.pid)
        connection.execute(
            "UPDATE workers SET (pid, process_started, host, boot, pid_namespace) = (?, ?, ?, ?, ?),"
            " images_per_second = 900, batches = 3, batch = 1, epoch = 0",
            structs.astuple(identity),
        )
        (dead,) = workers.present(connection)
    assert (dead.state, dead.images_per_second) == ("dead", None)
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await pilot.press("6")
        await until(pilot, lambda: isinstance(pilot.app.screen, Devices) and "dead" in shown(pilot))
        assert "900" not in str([table.shown for table in pilot.app.screen.query("LiveTable")])  # type: ignore[attr-defined]


async def test_a_folder_without_a_database_shows_no_error(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        banner = pilot.app.screen.query_one("#banner")
        said = []

        def settled() -> bool:
            said.append(shown(pilot))
            return "No experiments yet" in said[-1]

        await until(pilot, settled)
        assert not [text for text in said if "cannot be read" in text]
        assert banner.has_class("-calm")
        add(path, "one", **ONE)
        await until(pilot, lambda: not banner.display)
        path.rename(tmp_path / "other.db")
        await until(pilot, lambda: "is gone" in shown(pilot))
        assert not banner.has_class("-calm")


@pytest.mark.parametrize("word", ["resume", "pause", "unarchive", "sparser"])
async def test_the_help_finds_what_a_key_does_the_second_time(path: Path, word: str) -> None:
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, Help))
        pilot.app.screen.query_one(Input).value = word
        log = pilot.app.screen.query_one(RichLog)
        await until(pilot, lambda: len(log.lines) in range(2, 12) and "no key" not in log.lines[0].text)


async def test_paused_and_cancelled_runs_do_not_wait(path: Path) -> None:
    for name, seed in (("two", 50), ("three", 90)):
        add(path, name, seed=seed, **ONE)
    with closing(database.writer(path)) as connection:
        queue.set_state(connection, 2, "paused")
        queue.set_state(connection, 3, "cancelled")
        found = {row.name: (row.status, row.waiting, row.halted) for row in rows.experiments(connection)}
        totals = rows.totals(connection)
    assert found == {"one": ("waiting", 1, 0), "two": ("paused", 0, 1), "three": ("cancelled", 0, 1)}
    assert {status: number for status, number in totals.items() if number} == {
        "waiting": 1,
        "paused": 1,
        "cancelled": 1,
    }


@pytest.mark.parametrize("keys", [(), ("2",), ("space", "3")], ids=["dashboard", "experiment", "compare"])
async def test_a_chart_in_the_smallest_terminal_has_curves_and_their_axis(
    tmp_path: Path, keys: tuple[str, ...]
) -> None:
    from cockpit.tui.widgets.chart import Plot
    from tests.tui.make_fixture import FIXTURE

    path = tmp_path / "experiments.db"
    path.write_bytes(FIXTURE.read_bytes())
    async with Cockpit(path).run_test(size=(60, 16)) as pilot:
        await pilot.pause(0.5)
        await pilot.press(*keys)

        def drawn() -> bool:
            plot = pilot.app.screen.query_one(Plot)
            lines = ["".join(part.text for part in strip) for strip in plot.picture]
            return 0 < len(lines) == plot.size.height and "●" in "".join(lines) and "100  " in lines[-1]

        await until(pilot, drawn)


async def test_a_screenshot_is_saved_where_no_downloads_folder_is(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        pilot.app.deliver_screenshot()
        await until(pilot, lambda: [*tmp_path.glob("*.svg")])
        await until(pilot, lambda: str(tmp_path) in " ".join(note.message for note in pilot.app._notifications))
    assert "<svg" in next(tmp_path.glob("*.svg")).read_text()


async def test_what_an_idle_pool_says_it_says_once(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("busy: waiting", "busy: waiting", "run 1", "busy: waiting"):
        processes.say(line)
    assert capsys.readouterr().out.splitlines() == ["busy: waiting", "run 1", "busy: waiting"]
