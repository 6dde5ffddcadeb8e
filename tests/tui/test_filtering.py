"""`/` filters on all screens; keys typed into the filter, however fast, trigger no action."""

import string
from collections.abc import Sequence

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from cockpit.tui import filters
from cockpit.tui.app import Cockpit
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.chart import Chart
from tests.databases import by_name
from tests.tui.conftest import ALIVE, recorded, still
from tests.tui.driving import table, until

pytestmark = [pytest.mark.usefixtures("fixed"), pytest.mark.asyncio]

FILTERED: dict[str, tuple[str, str, str]] = {  # by key: the table, the filter, and what matching rows share
    "1": ("experiments", "status:failed", "lost"),
    "5": ("experiments", "later", "later"),
    "6": ("at-work", "digits", "digits"),
    "7": ("events", "layerwise", "layerwise"),
    "4": ("layers-table", "conv", "conv"),
}


def box(pilot: Pilot[None]) -> Input:
    return pilot.app.screen.query_one("#filter", Input)


@pytest.mark.parametrize("key", FILTERED)
async def test_a_filter_leaves_the_rows_that_have_its_words(key: str) -> None:
    app = Cockpit(recorded(ALIVE))
    id, words, common = FILTERED[key]
    async with app.run_test(size=(120, 40)) as pilot:
        await still(pilot)
        await pilot.press(key)
        await still(pilot)
        await until(pilot, lambda: table(pilot, id).shown)
        before = dict(table(pilot, id).shown)
        await pilot.press("slash", *words)
        await until(pilot, lambda: box(pilot).value == words)
        await pilot.pause()
        shown = table(pilot, id).shown
        assert shown
        rows = [" ".join(map(str, cells)) for cells in shown.values() if str(cells[0]) != "total"]
        assert rows
        assert all(common in row for row in rows)
        await pilot.press("escape")
        await until(pilot, lambda: table(pilot, id).shown.keys() == before.keys())
        assert app.current_mode == list(app.MODES)[int(key) - 1]  # the first esc only clears


async def test_a_word_with_a_hyphen_finds_what_screens_write_with_a_space() -> None:
    assert filters.has(["digits a → digits b", "winning"], "digits-a -dense")
    assert not filters.has(["digits a"], "-digits-a")


@pytest.mark.parametrize("keys", [["2"], ["3"]], ids=str)
async def test_a_filter_leaves_the_curves_that_have_its_words(keys: Sequence[str]) -> None:
    app = Cockpit(recorded())
    async with app.run_test(size=(120, 40)) as pilot:
        await still(pilot)
        await pilot.press(*keys)
        await still(pilot)
        chart = app.screen.query_one(Chart)
        await pilot.press("slash", *"layerwise", "enter")
        await until(pilot, lambda: all("layerwise" in one.called for one in chart.shown if one.ticket != "dense"))
        assert any(one.ticket == "dense" for one in chart.shown)


@pytest.mark.parametrize("mode", [str(number) for number in range(1, 8)])
async def test_what_is_typed_into_a_filter_never_acts(mode: str) -> None:
    path = recorded()
    app = Cockpit(path)
    before = by_name(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await still(pilot)
        await pilot.press(mode)
        await still(pilot)
        screen = app.screen
        await pilot.press("slash")  # immediately
        typed = string.ascii_letters + string.digits
        await pilot.press(*typed)
        await pilot.pause()
        assert app.screen is screen
        assert isinstance(screen, CockpitScreen)
        assert box(pilot).value == typed
        await pilot.press("escape")
    assert by_name(path) == before
    assert not app.marked
    assert not app.pinned
