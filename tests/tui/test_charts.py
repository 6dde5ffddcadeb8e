"""Dashboard, Experiment and Compare: their charts, their tables, marks and pins."""

import asyncio
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from cockpit.tui import help
from cockpit.tui.app import Cockpit
from cockpit.tui.widgets.chart import PAINT_SECONDS, Chart, Plot
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import legends
from engine.store import database
from tests.conftest import add
from tests.tui.driving import eventually

pytestmark = pytest.mark.asyncio

SIZE = (120, 40)


def chart(app: Cockpit) -> Chart:
    return app.screen.query_one(Chart)


def drawn(app: Cockpit) -> str:
    """What the chart shows, without its legend."""
    return "\n".join(strip.text for strip in app.screen.query_one(Plot).picture)


def cells(app: Cockpit, table: str) -> dict[str, list[str]]:
    """The rows of a table."""
    return {key: [str(cell) for cell in row] for key, row in app.screen.query_one(table, LiveTable).shown.items()}


@pytest.fixture
def two(trained: Path, tmp_path: Path) -> Path:
    """A database of two finished experiments, the second a part of the first."""
    path = tmp_path / "experiments.db"
    with closing(sqlite3.connect(trained)) as old, closing(sqlite3.connect(path)) as new:
        old.backup(new)
    add(path, "part", scope=["global"], random=["global"])
    return path


async def test_the_chart_of_the_experiment_under_the_cursor_is_drawn(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: "┤" in drawn(app))
        assert len(chart(app).shown) == 8
        await pilot.press("j")
        await eventually(lambda: str(chart(app).border_title).startswith("part · digits b"))
        assert len(chart(app).shown) == 3


async def test_the_chart_keys_change_the_view_wherever_the_focus_is(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: chart(app).shown)
        await pilot.press("x")
        await eventually(lambda: "0.49" in drawn(app))
        await pilot.press("x", "x", "f", "b")
        assert (chart(app).view.x, chart(app).view.full, chart(app).view.spread) == ("remaining", True, "bars")
        await pilot.press("right_square_bracket")
        assert {one.target for one in chart(app).shown} == {"digits-a"}
        await pilot.press("left_square_bracket", "g")
        assert {one.target for one in chart(app).shown} == {"digits-a", "digits-b"}
        await pilot.press("g")
        assert {one.ticket for one in chart(app).shown} == {"winning", "dense"}


async def test_arrows_and_mouse_move_the_crosshair_from_level_to_level(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: chart(app).shown)
        await pilot.press("tab", "right")
        assert chart(app).view.crosshair == 0
        await pilot.press("right", "right", "left")
        assert chart(app).view.crosshair == 1
        assert "level 1: 80 % remaining" in str(chart(app).border_subtitle)
        plot = app.screen.query_one(Plot)
        await pilot.hover(Plot, offset=(plot.size.width - 2, 5))
        assert chart(app).view.crosshair == 3
        await pilot.press("right")
        assert chart(app).view.crosshair == 3
        await pilot.press("0")
        assert chart(app).view.crosshair is None


async def test_a_finished_level_appears_by_itself_but_does_not_move_a_zoomed_view(two: Path) -> None:
    with closing(database.writer(two)) as connection:
        connection.execute("UPDATE runs SET status = 'waiting' WHERE level = 3")
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: chart(app).shown)
        assert "held" not in str(chart(app).border_subtitle)
        await pilot.press("i")
        held = chart(app).view
        assert "held" in str(chart(app).border_subtitle)
        with closing(database.writer(two)) as connection:
            connection.execute("UPDATE runs SET status = 'done' WHERE level = 3")
        await eventually(lambda: 3 in chart(app).shown[0].levels, seconds=1.0)
        assert chart(app).view == held
        await pilot.press("0")
        assert chart(app).view.x_range is None
        assert "held" not in str(chart(app).border_subtitle)


async def test_zooming_without_a_crosshair_goes_to_the_curves_and_not_to_an_empty_middle(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: "┤" in drawn(app))
        await pilot.press("f", "i", "i")
        low, high = chart(app).view.y_range or (0.0, 0.0)
        assert any(low <= mean <= high for one in chart(app).shown for mean in one.means)


async def test_a_chart_is_painted_at_most_four_times_a_second_and_ends_with_the_newest(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: drawn(app))
        plot, began = app.screen.query_one(Plot), time.monotonic()
        pictures: list[object] = []
        for _ in range(16):
            await pilot.press("x")
            if not pictures or plot.picture is not pictures[-1]:
                pictures.append(plot.picture)
        assert len(pictures) <= 2 + (time.monotonic() - began) / PAINT_SECONDS
        await eventually(lambda: "0.49" in drawn(app), seconds=3)


async def test_nothing_is_painted_while_the_chart_is_hidden(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: drawn(app))
        hidden, plot = chart(app), app.screen.query_one(Plot)
        await eventually(lambda: hidden._painted == (hidden.shown, hidden.view, plot.size))  # no repaint is pending
        before = plot.picture
        await pilot.press("3")
        hidden.action_axis()
        await asyncio.sleep(3 * PAINT_SECONDS)
        assert plot.picture is before
        await pilot.press("1")
        await eventually(lambda: plot.picture is not before)


async def test_enter_opens_an_experiment_with_its_levels_and_its_state(two: Path) -> None:
    with closing(database.writer(two)) as connection:
        connection.execute("UPDATE experiments SET notes = 'Odd.', tags = '[\"pilot\"]' WHERE name = 'part'")
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: chart(app).shown)
        await pilot.press("j", "enter")
        await eventually(lambda: len(cells(app, "#levels")) == 4)
        assert app.current_mode == "experiment"
        assert cells(app, "#levels")["1"][0] == "1"
        state = app.screen.query_one("#state Static")
        await eventually(lambda: "26 of 26 runs done" in str(state.render()))
        assert "tags: pilot" in str(state.render())
        assert "Odd." in str(state.render())
        await pilot.press("escape")
        assert app.current_mode == "dashboard"


async def test_a_run_under_way_shows_how_far_it_is(two: Path) -> None:
    with closing(database.writer(two)) as connection:
        connection.execute(
            "INSERT INTO workers (id, pid, host, device, started_at, heartbeat_at, images_per_second, epoch, batch,"
            " batches, loss, accuracy, memory) VALUES (9, 1, 'elsewhere', 'cuda:3', :now, :now, 640, 1, 5, 10, 0.25,"
            " 0.875, 1073741824)",
            {"now": database.now()},
        )
        connection.execute(
            "UPDATE runs SET status = 'running', worker = 9, batch_size = 64, epochs = 4 WHERE id ="
            " (SELECT id FROM runs WHERE ticket = 'dense' AND target = 'digits-b' AND seed = 0)"
        )
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: chart(app).shown)
        await pilot.press("2")
        pane = app.screen.query_one("#training Static")
        await eventually(lambda: "cuda:3 of elsewhere" in str(pane.render()))
        said = str(pane.render())
        assert "epoch 2/4, batch 5/10, 640 images/s, 3 s left" in said  # 25 batches of 64
        assert "loss 0.250, training accuracy 87.5%" in said
        assert "1.0 GiB" in said


async def test_marked_and_pinned_experiments_are_compared_and_curves_hidden_one_by_one(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: chart(app).shown)
        await pilot.press("3")
        await eventually(lambda: len(cells(app, "#curves")) == 8)
        assert app.screen.query_one("#more").display  # how to mark more
        await pilot.press("1", "space", "j", "p")
        assert [row[0] for row in cells(app, "#experiments").values()] == ["◆", "■"]
        assert app.screen.query_one("#experiments", LiveTable).key == "part"
        await pilot.press("3")
        await eventually(lambda: len(cells(app, "#curves")) == 11)
        assert "part: digits-a -> digits-b winning" in cells(app, "#curves")
        app.screen.query_one("#curves").focus()
        first = next(iter(cells(app, "#curves")))
        await pilot.press("space")
        assert chart(app).view.hidden == {first}
        await eventually(lambda: "hidden" in cells(app, "#curves")[first][0])
        await pilot.press("space")
        assert chart(app).view.hidden == set()


@pytest.mark.parametrize("width", [80, 120, 160])
async def test_compare_fits_with_three_levels_differences_and_n(two: Path, width: int) -> None:
    app = Cockpit(two)
    async with app.run_test(size=(width, 40)) as pilot:
        await eventually(lambda: chart(app).shown)
        await pilot.press("space", "j", "space", "3")
        await eventually(lambda: len(cells(app, "#curves")) == 11)
        table = app.screen.query_one("#curves", LiveTable)
        await eventually(lambda: table.size.width and 0 < table.virtual_size.width <= table.size.width)
        headings = [str(column.label) for column in table.ordered_columns]
        assert sum(heading.startswith("at ") for heading in headings) >= 3
        assert headings[headings.index("n") - 1].startswith("at ")
        of_second = list(cells(app, "#curves").values())[1]
        assert re.search(r"\d [+-]\d", of_second[2].replace("  ", " "))


async def test_without_experiments_the_screens_name_the_command_that_adds_one(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    database.writer(path).close()
    app = Cockpit(path)
    async with app.run_test(size=SIZE) as pilot:
        for key in ("1", "2", "3"):
            await pilot.press(key)
            await eventually(lambda: "cockpit run digits" in str(app.screen.query_one("#no-curves").render()))


async def test_an_experiment_without_results_says_how_to_train_it(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "new")
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await eventually(lambda: "new has no results yet" in str(app.screen.query_one("#no-curves").render()))
        await pilot.press("2")
        await eventually(lambda: "cockpit work --detach" in str(app.screen.query_one("#no-curves").render()))


async def test_the_dashboard_is_laid_out_anew_when_the_terminal_is_resized(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=(160, 48)) as pilot:
        await eventually(lambda: app.screen.query(Plot) and app.screen.query_one(Plot).region.right > 80)
        await pilot.resize_terminal(80, 24)
        await eventually(lambda: 0 < app.screen.query_one(Plot).region.right <= 80)
        await pilot.resize_terminal(30, 12)
        await eventually(lambda: app.screen.query_one("#too-small").region.area)
        await pilot.resize_terminal(160, 48)
        await eventually(lambda: app.screen.query_one(Plot).region.right > 80)


async def test_a_curve_is_renamed_and_hidden_for_good(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE) as pilot:
        await eventually(lambda: chart(app).shown)
        await pilot.press("3")
        await eventually(lambda: cells(app, "#curves"))
        app.screen.query_one("#curves").focus()
        await pilot.press("N")
        await eventually(lambda: app.screen.query("Ask Input"))
        await pilot.press(*"mine", "enter")
        await eventually(lambda: "mine" in next(iter(cells(app, "#curves").values()))[0])
        await pilot.press("H")
        await eventually(lambda: "mine (hidden)" in next(iter(cells(app, "#curves").values()))[0])
        await pilot.press("H")
        await eventually(lambda: "hidden" not in next(iter(cells(app, "#curves").values()))[0])
    with closing(database.reader(two)) as connection:
        found = connection.execute("SELECT title, hidden FROM experiment_curves WHERE title IS NOT NULL").fetchall()
    assert [tuple(row) for row in found] == [("mine", 0)]


async def test_the_help_explains_the_signs_in_charts(two: Path) -> None:
    app = Cockpit(two)
    async with app.run_test(size=SIZE):
        explained = {line.keys for line in help.lines(app.screen, ()) if line.group == help.SIGNS}
    assert {legends.MATCH, legends.LIVE, legends.RULE} <= explained


async def test_without_colours_bars_stand_for_bands(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Cockpit(two)
    async with app.run_test(size=SIZE):
        await eventually(lambda: drawn(app))
        assert chart(app).view.spread == "bars"
        strips = app.screen.query_one(Plot).picture
        assert not any(segment.style and segment.style.bgcolor for strip in strips for segment in strip)
