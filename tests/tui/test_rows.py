"""The first and last rows of all screens: screens, status, and the keys that have an effect."""

from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from cockpit.requests import remaining
from cockpit.text import words
from cockpit.tui.app import Cockpit
from cockpit.tui.screens.transfer import Transfer
from cockpit.tui.widgets.line import Line
from cockpit.tui.widgets.status import StatusLine
from engine.store import database, queue, workers
from tests.conftest import add
from tests.tui.driving import ONE, choose, opened, table, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with two experiments, of which the second is paused."""
    path = tmp_path / "two.db"
    add(path, "one", **ONE)
    add(path, "two", **{**ONE, "seed": 9})
    with database.writer(path) as connection:
        queue.set_state(connection, queue.experiment_id(connection, "two"), "paused")
    return path


def row(pilot: Pilot[None], id: str) -> str:
    """The text of a row of the screen."""
    return pilot.app.screen.query_one(f"#{id}", Line).render_line(0).text


@pytest.mark.asyncio
@pytest.mark.parametrize("width", [60, 80, 120, 160])
async def test_the_first_row_has_every_screen_and_a_click_opens_it(path: Path, width: int) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(width, 24)) as pilot:
        await until(pilot, lambda: "Dashboard" in row(pilot, "top"))
        for number, mode in enumerate(app.MODES, 1):
            title = f"{number} {app.MODES[mode].__name__}"
            place = row(pilot, "top").find(title)
            if width >= 80:
                assert place >= 0, (title, row(pilot, "top"))
            if place >= 0:
                await pilot.click("#top", offset=(place + 2, 0))
                await until(pilot, partial(_is_open, app, mode))


def _is_open(app: Cockpit, mode: str) -> bool:
    return app.current_mode == mode


@pytest.mark.asyncio
async def test_a_screen_that_is_none_of_those_in_the_first_row_marks_none(path: Path) -> None:
    def current() -> list[str]:
        left, _ = pilot.app.screen.query_one("#top", Line)._pieces
        return [piece.text for piece in left if piece.kind == "current"]

    async with Cockpit(path).run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: current() == ["1 Dashboard"])
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, Transfer) and "Dashboard" in row(pilot, "top"))
        assert current() == []
        await pilot.press("escape")
        await until(pilot, lambda: current() == ["1 Dashboard"])


@pytest.mark.asyncio
async def test_workers_can_be_stopped_only_where_there_are_some(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Cockpit(path).run_test(size=(160, 30)) as pilot:
        await until(pilot, lambda: "w Start workers" in row(pilot, "keys"))
        assert "Stop workers" not in row(pilot, "keys")
        with database.writer(path) as connection:
            pool = workers.open_pool(connection, "pool.log")
        for key in "1256":
            await pilot.press(key)
            await until(pilot, lambda: "W Stop workers" in row(pilot, "keys"))
        with database.writer(path) as connection:
            workers.close_pool(connection, pool)
        await until(pilot, lambda: "Stop workers" not in row(pilot, "keys"))


@pytest.mark.asyncio
async def test_the_first_row_tells_database_workers_and_time_left(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(pilot, lambda: "two.db  no workers  unknown left" in row(pilot, "top"))


@pytest.mark.asyncio
async def test_the_footer_says_what_a_key_does_to_what_is_under_the_cursor(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 2)
        await choose(pilot, "one")
        await until(pilot, lambda: "P Pause" in row(pilot, "keys"))
        await choose(pilot, "two")
        await until(pilot, lambda: "P Resume" in row(pilot, "keys"))
        assert "R Retry" not in row(pilot, "keys")  # no run failed
        place = row(pilot, "keys").find("P Resume")
        await pilot.click("#keys", offset=(place + 3, 0))
        await until(pilot, lambda: "P Pause" in row(pilot, "keys"))
        assert row(pilot, "keys").rstrip().endswith("q Quit")


@pytest.mark.asyncio
async def test_where_nothing_may_be_changed_the_footer_offers_no_change(path: Path) -> None:
    app = Cockpit(path, read_only=True)
    async with app.run_test(size=(160, 48)) as pilot:
        await opened(pilot, 2)
        await choose(pilot, "two")
        assert not any(word in row(pilot, "keys") for word in ("Resume", "Pause", "Cancel", "New", "Start"))


def test_a_bar_is_full_only_when_all_is_done() -> None:
    assert remaining.bar(0, 40) == "─" * 10
    assert remaining.bar(39, 40) == "━" * 9 + "─"
    assert remaining.bar(40, 40) == "━" * 10
    assert remaining.bar(0, 0) == "─" * 10


@pytest.mark.asyncio
async def test_the_time_left_is_shown_once_and_the_name_goes_only_for_it(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(140, 30)) as pilot:
        for width in (140, 100, 84, 80):
            await pilot.resize_terminal(width, 30)
            await until(pilot, lambda: "left" in row(pilot, "top") + str(app.screen.query_one(StatusLine).render()))
            top, status = row(pilot, "top").strip(), str(app.screen.query_one(StatusLine).render())
            assert (top + status).count("unknown left") == 1
            assert top.startswith("cockpit") or "left" in top


@pytest.mark.asyncio
@pytest.mark.parametrize("width", [80, 120])
async def test_the_queue_has_bars_and_time_left_in_any_width(path: Path, width: int) -> None:
    async with Cockpit(path).run_test(size=(width, 30)) as pilot:
        await opened(pilot, 2)
        await until(pilot, lambda: "unknown" in " ".join(map(str, table(pilot).shown["one"])))
        cells = dict(zip(table(pilot).headings, map(str, table(pilot).shown["one"]), strict=True))
        assert set(cells["progress"]) == {words.BAR[1]}
        assert "a device" in (cells.get("waits for, or why") or cells["left, or why"])
