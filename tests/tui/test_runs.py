"""A run can be opened from all lists, and its screen shows all its records."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from cockpit.tui.app import Cockpit
from cockpit.tui.screens.run import RunScreen
from cockpit.tui.widgets.run_picker import RunPicker
from cockpit.tui.widgets.table import LiveTable
from tests.tui.conftest import ALIVE, recorded, still
from tests.tui.driving import choose, table, until

pytestmark = [pytest.mark.usefixtures("fixed"), pytest.mark.asyncio]


def page(pilot: Pilot[None]) -> str:
    """The whole text of the screen of a run."""
    return "\n".join(str(one.render()) for one in pilot.app.screen.query("#run Static").results(Static))


async def opened(pilot: Pilot[None]) -> str:
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and "Train it again" in page(pilot))
    return page(pilot)


async def test_a_run_shows_all_that_is_known_of_it() -> None:
    app = Cockpit(recorded())
    async with app.run_test(size=(120, 40)) as pilot:
        await still(pilot)
        await pilot.press("5")
        await choose(pilot, "halves")
        runs = table(pilot, "runs")
        await until(pilot, lambda: len(runs.shown) == 94)
        key = next(key for key, cells in runs.shown.items() if "layerwise" in str(cells[1]))
        runs.point_at(key)
        runs.focus()
        await pilot.press("enter")
        said = await opened(pilot)
        for part in ("✓ done", "learning rate", "layerwise", "Attempts", "1: done", "found on", "of halves", "epoch"):
            assert part in said, part
        assert "cockpit run --source digits-a" in said
        assert "--db again.db" in said
        needs = pilot.app.screen.query_one("#run-needs", LiveTable)
        assert "dense" in str(next(iter(needs.shown.values()))[0])
        needs.focus()
        await pilot.press("enter")
        await until(pilot, lambda: "dense, level 0" in page(pilot))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.current_mode == "queue" and not isinstance(app.screen, RunScreen))


async def test_a_failed_run_says_why_and_the_error() -> None:
    app = Cockpit(recorded())
    async with app.run_test(size=(120, 40)) as pilot:
        await still(pilot)
        await pilot.press("5")
        await choose(pilot, "lost")
        cells = table(pilot, "runs").shown
        await until(pilot, lambda: any("data set file" in str(row[2]) for row in cells.values()))
        table(pilot, "runs").focus()
        await pilot.press("enter")
        said = await opened(pilot)
        assert said.count("lost.npz is gone") >= 2  # in the heading, and at its attempt


@pytest.mark.parametrize("keys", [["O"], ["2", "enter"], ["2", "O"], ["4", "O"], ["6", "O"], ["7", "O"]], ids=str)
async def test_a_run_is_picked_from_any_screen(keys: Sequence[str]) -> None:
    app = Cockpit(recorded())
    async with app.run_test(size=(120, 40)) as pilot:
        await still(pilot)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await until(pilot, lambda: isinstance(app.screen, RunPicker) and len(app.screen.offered) == 94)
        await pilot.press(*"seed 1", "space", *"level 2", "enter")
        said = await opened(pilot)
        assert "level 2, seed 1" in said


async def test_the_run_of_a_worker_is_opened_from_devices() -> None:
    app = Cockpit(recorded(ALIVE))
    async with app.run_test(size=(120, 40)) as pilot:
        await still(pilot)
        await pilot.press("6")
        await still(pilot)
        await pilot.press("enter")
        assert "▶ running" in await opened(pilot)


async def test_why_runs_failed_is_in_sight_at_80_columns_whatever_was_listed_before() -> None:
    def seen(id: str, name: str) -> int:
        """How many columns of a table's column are in sight."""
        shown = table(pilot, id)
        start = 0
        for column in shown.ordered_columns:
            if str(column.label) == name:
                return shown.size.width - start
            start += column.get_render_width(shown)
        return 0

    async with Cockpit(recorded()).run_test(size=(80, 24)) as pilot:
        await still(pilot)
        await pilot.press("5")
        for name, number in (("halves", 94), ("lost", 4)):  # the first has longer names
            await choose(pilot, name)
            await until(pilot, lambda: len(table(pilot, "runs").shown) == number)  # noqa: B023
        await still(pilot)
        assert seen("experiments", "left, or why") >= 24
        assert seen("runs", "result, or why") >= 16


async def test_a_run_that_has_been_removed_is_no_error(tmp_path: Path) -> None:
    app = Cockpit(recorded())
    async with app.run_test(size=(80, 24)) as pilot:
        await still(pilot)
        app.open_run(10_000)
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and "has been removed" in page(pilot))
