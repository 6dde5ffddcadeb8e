"""The screen Layers, driven by keys."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from cockpit.tui.app import Cockpit
from cockpit.tui.screens.layers import Layers
from cockpit.tui.widgets import overlap
from cockpit.tui.widgets.heat import EQUAL, Heat, ratio_cell
from cockpit.tui.widgets.picker import Picker
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import layer_tables, names
from engine.analysis import overlaps
from engine.analysis.comparing import HeatMap, compare
from engine.analysis.overlaps import Cell, Matrix
from engine.analysis.statistics import Mean
from engine.store import database, sides
from engine.store.files import Folder
from tests.conftest import add
from tests.tui.driving import until

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def opened(path: Path, size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[Pilot[None], Layers]]:
    """The screen, opened by key 4, with its first answer."""
    app = Cockpit(path)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.experiment)
        await pilot.press("4")
        screen = app.screen
        assert isinstance(screen, Layers)
        await until(pilot, lambda: screen.view or said(screen, "empty") != "reading …")
        yield pilot, screen


def said(screen: Layers, part: str) -> str:
    return str(screen.query_one(f"#layers-{part}", Static).content)


def says(screen: Layers, part: str, text: str) -> bool:
    return text in said(screen, part)


def cells(screen: Layers) -> dict[str, list[str]]:
    return {key: [str(cell) for cell in row] for key, row in screen.query_one(LiveTable).shown.items()}


def level(screen: Layers) -> int | None:
    return screen.view.comparison.level if screen.view else None


async def test_it_opens_with_the_two_scopes_at_the_sparsest_level(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        await until(pilot, lambda: "total" in cells(screen))
        assert said(screen, "sides").startswith("A: own, global, on digits a · tiny · level 3\nB: own, layerwise")
        assert said(screen, "level").startswith("level 3  0 ")
        assert "remaining, mean of 2: A 51.2" in said(screen, "level")
        with closing(database.reader(trained)) as connection:
            a, b = sides.of_scopes(connection, "tiny")
            expected = compare(connection, Folder(database.files_folder(trained)), a, b)
        assert list(cells(screen)) == [layer.name for layer in (*expected.layers, expected.total)]
        for layer in expected.layers:
            row = cells(screen)[layer.name]
            assert row[1] == f"{layer.weights:,}"
            assert row[2] == layer_tables.percent(layer.remaining_a, spread=False)
            assert row[4] == layer_tables.ratio(layer.remaining_ratio, False, digits=2)
            assert layer.overlap is not None
            assert layer.chance is not None
            assert row[6] == f"{layer.overlap.mean:.2f} ({layer.chance.mean:.2f})"
            assert "│" in row[7]
        assert screen.query_one(LiveTable).has_focus


async def test_a_wide_terminal_shows_deviations_and_the_line_below_always_does(trained: Path) -> None:
    async with opened(trained, (160, 48)) as (pilot, screen):
        await until(pilot, lambda: "conv4.weight" in cells(screen))
        assert " ± " in cells(screen)["conv4.weight"][2]
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: " ± " not in cells(screen)["conv4.weight"][2])
        await pilot.press("j", "j", "k")
        await until(pilot, lambda: said(screen, "detail").startswith("conv2.weight: "))
        assert " ± " in said(screen, "detail")


async def test_left_and_right_change_the_level_and_stop_at_the_ends(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        await pilot.press("left")
        await until(pilot, lambda: level(screen) == 2)
        await pilot.press("left", "left", "left", "left")
        await until(pilot, lambda: level(screen) == 0)
        assert "─●" not in said(screen, "level")
        await pilot.press("right")
        await until(pilot, lambda: level(screen) == 1)
        assert cells(screen)["total"][6][0].isdigit()  # the overlap


async def test_v_shows_fractions_pruned_and_back(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        await until(pilot, lambda: "total" in cells(screen))
        before = cells(screen)
        await pilot.press("v")
        after = cells(screen)
        for key, row in before.items():
            assert float(row[2]) + float(after[key][2]) == pytest.approx(100, abs=0.02)
            assert float(row[5]) == pytest.approx(-float(after[key][5]))
        assert "pruned, mean of 2: A 48." in said(screen, "level")
        await pilot.press("v")
        assert cells(screen) == before


async def test_s_sorts_by_the_size_of_the_difference_and_the_total_stays_last(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        await until(pilot, lambda: "total" in cells(screen))
        order = list(cells(screen))
        await pilot.press("s")
        rows = list(cells(screen).values())[:-1]
        differences = [abs(float(row[5])) for row in rows]
        assert differences == sorted(differences, reverse=True)
        assert list(cells(screen))[-1] == "total"
        await pilot.press("s")
        assert list(cells(screen)) == order


async def test_c_hides_the_layers_that_do_not_differ(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        await pilot.press("c")
        await until(pilot, lambda: len(cells(screen)) == 5)  # at level 3 all differ
        await pilot.press("left", "left", "left")
        await until(pilot, lambda: list(cells(screen)) == ["total"])
        await pilot.press("c")
        assert len(cells(screen)) == 5


async def test_r_goes_through_the_replicates_and_back_to_the_mean(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        for expected in ("replicate 0", "replicate 1", "mean of 2"):
            await pilot.press("r")
            await until(pilot, partial(says, screen, "level", expected))
            assert screen.view is not None
            assert screen.view.comparison.n == (2 if expected == "mean of 2" else 1)


async def test_h_shows_the_heat_maps_of_a_and_b_and_escape_goes_back(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        heat = screen.query_one(Heat)
        for letter in "AB":
            await pilot.press("h")
            await until(pilot, partial(says, screen, "detail", f"{letter}: weights remaining"))
            assert heat.display
        assert heat.render_line(0).text.split() == ["layer", "0", "1", "2", "[3]"]
        assert heat.render_line(5).text.split() == ["total", "100", "80", "64", "51"]
        assert heat.render_line(6).text.strip() == ""
        await pilot.press("v")
        await until(pilot, partial(says, screen, "detail", "B: weights pruned"))
        assert heat.render_line(5).text.split() == ["total", "0", "20", "36", "49"]
        await pilot.press("v")
        await pilot.press("left")
        await until(pilot, lambda: heat.render_line(0).text.split() == ["layer", "0", "1", "[2]", "3"])
        await pilot.press("h")
        await until(pilot, lambda: screen.query_one(LiveTable).display and not heat.display)
        await pilot.press("h")
        await until(pilot, lambda: heat.display)
        await pilot.press("escape")
        await until(pilot, lambda: screen.query_one(LiveTable).has_focus)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.current_mode == "dashboard")


async def test_a_heat_map_larger_than_the_terminal_scrolls_to_the_level_and_keeps_the_names(trained: Path) -> None:
    async with opened(trained, (60, 16)) as (pilot, screen):
        assert screen.view is not None
        side = screen.view.comparison.a
        large = HeatMap(side, tuple(range(31)), {f"conv{n}.weight": (0.5,) * 31 for n in range(1, 18)})
        heat = screen.query_one(Heat)
        await pilot.press("h")
        await until(pilot, lambda: heat.has_focus)
        heat.show(large, 30, "remaining")
        await until(pilot, lambda: heat.render_line(0).text.split()[-1] == "[30]")
        assert heat.render_line(1).text.startswith("conv1 ")
        await pilot.press("j", "down")
        await until(pilot, lambda: heat.render_line(1).text.startswith("conv3 "))
        assert heat.render_line(0).text.startswith("layer ")


async def test_a_and_b_pick_curves_and_runs(trained: Path) -> None:
    async with opened(trained) as (pilot, screen):
        await pilot.press("b")
        await until(pilot, lambda: isinstance(pilot.app.screen, Picker) and pilot.app.screen.offered)
        picker = pilot.app.screen
        assert isinstance(picker, Picker)
        await pilot.press(*"random-global")
        await until(pilot, lambda: picker.offered[0].name == "tiny:digits-b random-global")
        assert picker.query_one(Input).has_focus
        await pilot.press("enter")
        await until(pilot, lambda: "B: random, permuted, on digits b · tiny" in said(screen, "sides"))
        assert "masks of random tickets are not stored" in said(screen, "notes")
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, Picker))
        await pilot.press(*"level", "space", "2", "space", *"layerwise")
        options = pilot.app.screen.query_one(OptionList)
        await until(pilot, lambda: options.option_count and ":" not in str(options.get_option_at_index(0).prompt)[:12])
        await pilot.press("down", "up", "down")
        run = pilot.app.screen.offered[1]  # type: ignore[attr-defined]
        named = f", {run.about.partition(':')[0]}, layerwise ({run.name})\nB: "
        await pilot.press("enter")
        await until(pilot, lambda: named in said(screen, "sides"))
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, Picker))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert named in said(screen, "sides")


async def test_y_copies_a_command_that_shows_the_same(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(Cockpit, "copy_to_clipboard", lambda _, text: copied.append(text))
    async with opened(trained) as (pilot, screen):
        await pilot.press("left", "v", "r")
        await until(pilot, lambda: level(screen) == 2 and "replicate 0" in said(screen, "level"))
        await pilot.press("y")
    assert copied == [f"cockpit diff tiny:global tiny:layerwise --level 2 --replicate 0 --x pruned --db {trained}"]


async def test_another_experiment_on_the_dashboard_is_shown_here_too(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    shutil.copy(trained, path)
    add(path, "one scope", levels=2, replicates=1)  # all its runs exist
    async with opened(path) as (pilot, screen):
        pilot.app.experiment = "one scope"  # type: ignore[attr-defined]
        screen.ask()
        await until(pilot, lambda: said(screen, "sides").startswith("A: own, on digits a · one scope"))
        assert "`cockpit queue extend 'one scope' --scope layerwise` adds it" in said(screen, "notes")
        assert level(screen) == 2


async def test_what_is_not_trained_yet_names_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "waiting", levels=1, replicates=1)
    async with opened(path) as (pilot, screen):
        await until(pilot, lambda: "nothing of waiting has been trained yet: `cockpit work`" in said(screen, "empty"))
        assert not screen.query_one("#layers-panes").display
        await pilot.press("left", "right", "r", "h", "y", "s", "c", "v")  # without a subject, keys do nothing
        assert pilot.app.is_running


async def test_m_shows_the_overlaps_that_diff_prints_level_by_level(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(Cockpit, "copy_to_clipboard", lambda _, text: copied.append(text))
    with closing(database.reader(trained)) as connection:
        folder = Folder(database.files_folder(trained))
        expected, notes = overlaps.matrices(connection, folder, "tiny")
        labels = names.of_curves(connection, "tiny")
    assert notes == []

    def shown() -> str:
        return str(screen.query_one("#layers-overlaps Static", Static).content)

    async with opened(trained, (120, 40)) as (pilot, screen):
        await pilot.press("m")
        for at in (3, 2):
            await until(pilot, partial(says, screen, "level", f"level {at}"))
            for one in (matrix for matrix in expected if matrix.level == at):
                assert one.chain is None or f"{labels[one.chain]}\n" in shown()
                for cell in (cell for row in one.cells for cell in row):
                    chance = layer_tables.ratio(cell.chance, False)
                    assert f"{layer_tables.ratio(cell.overlap)} ({chance})" in shown()
            await pilot.press("left")
        for key in ("a", "b", "h", "v", "s", "c", "r"):
            await pilot.press(key)  # only for the pair A, B
        assert pilot.app.screen is screen
        await pilot.press("y", "slash", *"-chains", "enter")
        await until(pilot, lambda: "replicate 1" in shown() and "chains" not in shown())
        await pilot.press("escape", "escape")
        await until(pilot, lambda: screen.query_one(LiveTable).has_focus)
    assert copied == [f"cockpit diff tiny --matrix --level 1 --db {trained}"]


@pytest.mark.parametrize("width", [30, 60, 80, 120, 160, 240])
@pytest.mark.parametrize("tickets", [2, 6])
async def test_a_matrix_of_many_tickets_is_as_brief_as_its_width_asks_for(width: int, tickets: int) -> None:
    cell = Cell(Mean(0.814, 0.007, 6), Mean(0.668, 0.001, 6))
    names = tuple(f"npz:a long name {number}.npz -> npz:target.npz winning" for number in range(tickets))
    text = overlap.drawn([Matrix(3, None, names, ((cell,) * tickets,) * tickets)], width).plain
    heading, *rows = text.splitlines()[1:]
    assert heading.split() == [str(number) for number in range(1, tickets + 1)]
    assert [row.split()[0] for row in rows] == heading.split()
    least = 12 + tickets * 7
    assert max(map(len, text.splitlines()[1:])) <= max(width, least)
    assert ("0.814 ± 0.007 (0.668)" in text) == (12 + tickets * 23 <= width)


async def test_a_wide_screen_has_the_ratios_of_all_levels_beside_the_bars(trained: Path) -> None:
    async with opened(trained, (160, 48)) as (pilot, screen):
        heat = screen.query_one(Heat)
        await until(pilot, lambda: heat.display and heat.cells)
        assert screen.query_one("#layers-table").display
        assert heat.region.x > screen.query_one("#layers-table").region.x
        assert heat.render_line(0).text.split() == ["layer", "1", "2", "[3]"]
        before = heat.render_line(1).text
        await pilot.press("v")
        await until(pilot, lambda: heat.render_line(1).text != before)


async def test_the_colours_of_ratios_grow_away_from_equal_on_both_sides() -> None:
    def distance(ratio: float) -> int:
        background = ratio_cell(ratio)[1].bgcolor
        assert background is not None
        assert background.triplet is not None
        return sum(abs(a - b) for a, b in zip(background.triplet, EQUAL, strict=True))

    for factors in ([1.0, 1.1, 1.3, 2.0, 3.0, 4.0], [1.0, 0.9, 0.7, 0.5, 0.35, 0.25]):
        distances = list(map(distance, factors))
        assert distances == sorted(set(distances))
    assert ratio_cell(1.0)[1].bgcolor != ratio_cell(None)[1].bgcolor
    assert [ratio_cell(ratio)[0] for ratio in (0.0, 0.25, 1.0, 61.0, None)] == [".00", ".25", "1.0", "61", "-"]
