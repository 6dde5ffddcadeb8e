"""Error barriers on the screen Experiment: the curves of `cockpit connect`, where an experiment has lines."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from cockpit.tui import exporting
from cockpit.tui.app import Cockpit
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.experiment import Experiment
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.keybar import KeyBar
from cockpit.tui.widgets.table import LiveTable
from engine.analysis import barriers
from engine.store import database
from tests.conftest import add, copied, work_off
from tests.tui.driving import eventually

pytestmark = pytest.mark.asyncio

LINES: dict[str, Any] = {"target": ["digits-a"], "random": ["none"], "levels": 1, "epochs": 1, "connect": 3}


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose tickets were trained in two more orders, and one without lines."""
    path = tmp_path_factory.mktemp("connected") / "experiments.db"
    add(path, "plain", **{**LINES, "connect": 0})
    add(path, "mine", **LINES)
    work_off(path)
    return path


def keys(pilot: Pilot[None]) -> str:
    """What the footer says."""
    return pilot.app.screen.query_one(KeyBar).render_line(0).text


def title(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one(Chart).border_title)


async def opened(pilot: Pilot[None], name: str) -> None:
    app = pilot.app
    assert isinstance(app, Cockpit)
    await eventually(lambda: app.experiment)
    app.experiment = name
    await pilot.press("2")
    await eventually(lambda: app.current_mode == "experiment" and title(pilot).startswith(name))


async def barred(pilot: Pilot[None]) -> None:
    """Open the experiment that has lines, and draw its error barriers."""
    await opened(pilot, "mine")
    await eventually(lambda: "c Error barriers" in keys(pilot))
    await pilot.press("c")
    await eventually(lambda: "error barrier, points" in title(pilot))


async def test_c_draws_the_barriers_that_connect_prints_and_c_or_escape_goes_back(connected: Path) -> None:
    async with Cockpit(connected).run_test(size=(120, 40)) as pilot:
        await barred(pilot)
        with closing(database.reader(connected)) as connection:
            found = barriers.read(connection, "mine")
        test, train = pilot.app.screen.query_one(Chart).shown
        assert (test.called, train.called) == ("test images", "training images")
        assert list(zip(test.levels, test.means, test.deviations, train.means, train.deviations, strict=True)) == [
            (one.level, *one.test, *one.train) for one in found
        ]
        await eventually(lambda: pilot.app.screen.query_one("#levels", LiveTable).shown)
        rows = pilot.app.screen.query_one("#levels", LiveTable).shown
        assert rows["1"][2] == f"{100 * found[1].test.mean:.2f} ± {100 * (found[1].test.std or 0):.2f}"
        screen = pilot.app.screen
        assert isinstance(screen, Experiment)
        assert screen.command() == f"cockpit connect mine --db {connected}"
        for key in ("c", "c", "escape"):
            await pilot.press(key)
            await eventually(lambda: ("error barrier" in title(pilot)) == screen.barring)
        assert "test accuracy" in title(pilot)
        assert pilot.app.screen is screen


async def test_the_key_is_offered_only_where_there_are_lines(connected: Path) -> None:
    async with Cockpit(connected).run_test(size=(120, 40)) as pilot:
        await barred(pilot)
        await pilot.press("1")
        await opened(pilot, "plain")
        await eventually(lambda: "test accuracy" in title(pilot) and "c Error barriers" not in keys(pilot))
        await pilot.press("c")
        assert "test accuracy" in title(pilot)


async def test_lines_that_are_not_evaluated_yet_say_what_helps(tmp_path: Path) -> None:
    add(path := tmp_path / "experiments.db", "mine", **LINES)
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await opened(pilot, "mine")
        await eventually(lambda: "c Error barriers" in keys(pilot))
        await pilot.press("c")
        said = pilot.app.screen.query_one("#no-curves")
        await eventually(lambda: "mine has no error barrier yet.\n\nw starts workers here." in str(said.render()))


async def test_a_figure_of_barriers_or_differences_is_not_one_of_accuracies(connected: Path, tmp_path: Path) -> None:
    path, figure = copied(connected, tmp_path), tmp_path / "mine.svg"
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await barred(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, CockpitScreen)
        await asyncio.to_thread(exporting.forms_of(screen)["svg"], figure)
    written = figure.read_text()
    assert "error barrier, points" in written
    assert "test accuracy" not in written
