"""Names that are markup or terminal commands are shown as text, on all screens and in all dialogs."""

import ast
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.screen import Screen

import cockpit.tui
from cockpit.tui.app import Cockpit
from cockpit.tui.dialogs import Ask, Confirm
from cockpit.tui.exporting import ExportView
from cockpit.tui.help import Help
from cockpit.tui.insides import Palette
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.layers import Layers
from cockpit.tui.screens.queue import Queue
from cockpit.tui.screens.transfer import Extend
from cockpit.tui.widgets.picker import Picker
from cockpit.tui.widgets.table import LiveTable
from tests.hostile import COMMANDS, NAMES, hostile
from tests.tui.conftest import PATH, still
from tests.tui.driving import until

OURS = re.compile(r"app\.(simulate_key|switch_mode)\('\w+(\+\w+)?'\)")  # actions of the footer and of row 1
TITLES = ("border_title", "border_subtitle", "tooltip")

pytestmark = pytest.mark.usefixtures("fixed")


def in_mode(app: Cockpit, mode: str) -> bool:
    return app.current_mode == mode


def chose(app: Cockpit, name: str) -> bool:
    return app.experiment == name


def asks(app: Cockpit, dialog: type[Screen[Any]]) -> bool:
    return isinstance(app.screen, dialog)


def shown(app: Cockpit) -> str:
    """All text of the screen as it goes to the terminal, line by line."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip if not segment.control) for strip in lines)


def links(app: Cockpit) -> set[str]:
    """The actions of clicks on the screen, except in the footer and the first row."""
    strips = app.screen._compositor.render_strips()
    metas = [segment.style.meta for strip in strips for segment in strip if segment.style]
    return {
        str(action)
        for meta in metas
        for key, action in meta.items()
        if key == "@click" and not OURS.fullmatch(str(action))
    }


async def seen(pilot: Pilot[None], app: Cockpit) -> str:
    await still(pilot)
    text = shown(app)
    assert not COMMANDS.search(text)
    assert text.count("\n") == app.size.height - 1
    assert not links(app)
    return text


@pytest.mark.asyncio
@pytest.mark.parametrize(("place", "size"), [*((place, (80, 24)) for place in range(len(NAMES))), (0, (160, 50))])
async def test_every_screen_shows_hostile_names_as_text(place: int, size: tuple[int, int]) -> None:
    hostile(PATH)
    app = Cockpit(PATH)
    async with app.run_test(size=size) as pilot:
        await still(pilot)
        app.experiment = NAMES[place]
        for key, mode in zip(
            "5234761", ("queue", "experiment", "compare", "layers", "logs", "devices", "dashboard"), strict=True
        ):
            await pilot.press(key)
            await until(pilot, partial(in_mode, app, mode), times=3)
            app.experiment = NAMES[place]
            cast("CockpitScreen", app.screen).ask()
            await seen(pilot, app)
            if mode == "logs":
                await pilot.press("v")
                await seen(pilot, app)
                await pilot.press("v")
            if mode in ("layers", "experiment"):
                await pilot.press("h")
                await seen(pilot, app)


@pytest.mark.asyncio
async def test_every_dialog_and_notification_shows_hostile_names_as_text() -> None:
    hostile(PATH)
    app = Cockpit(PATH)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await still(pilot)
        await pilot.press("5")
        await still(pilot)
        for name in NAMES:
            app.screen.query_one("#experiments", LiveTable).point_at(name)
            await until(pilot, partial(chose, app, name), times=3)
            for key, dialog in (
                ("C", Confirm),
                ("D", Confirm),
                ("t", Ask),
                ("N", Ask),
                ("question_mark", Help),
                ("ctrl+p", Palette),
                ("E", Extend),
                ("e", ExportView),
            ):
                await pilot.press(key)
                await until(pilot, partial(asks, app, dialog), times=3)
                if dialog is Palette:
                    await pilot.press(*"pause")
                await pilot.pause(0.1)
                text = shown(app)
                assert not COMMANDS.search(text)
                assert not links(app)
                if dialog is Confirm and name.isprintable() and len(name) < 80:
                    assert name in text
                await pilot.press("escape")
                await until(pilot, lambda: isinstance(app.screen, Queue), times=3)
            await pilot.press("y")
            await pilot.press("P")
            await pilot.pause(0.3)
            app.failed(name, OSError(name))
            await pilot.pause()
            assert not COMMANDS.search(shown(app))
            assert not links(app)
            app.clear_notifications()


@pytest.mark.asyncio
async def test_the_picker_offers_hostile_names_as_text() -> None:
    hostile(PATH)
    app = Cockpit(PATH)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, Layers), times=3)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Picker) and app.screen.offered, times=3)
        text = shown(app)
        assert not COMMANDS.search(text)
        assert "[/x] [red]r[bold [@click=app.quit]q[/]" in text


@pytest.mark.asyncio
async def test_a_name_is_shown_with_its_brackets() -> None:
    hostile(PATH)
    app = Cockpit(PATH)
    async with app.run_test(size=(160, 50)) as pilot:
        await still(pilot)
        await pilot.press("5")
        text = await seen(pilot, app)
        for name in (
            "[/x] [red]r[bold [@click=app.quit]q[/] ␛[2J␛]0;owned␇",
            "a␛[8mb",
            "two␊lines and a␉tab␍",
            "日本語 wide",
        ):
            assert name in text


def _trees() -> Iterator[tuple[Path, ast.AST]]:
    for path in Path(cockpit.tui.__file__).parent.rglob("*.py"):
        yield path, ast.parse(path.read_text())


def test_no_widget_and_no_title_of_the_screens_reads_markup() -> None:
    for path, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "textual.widgets" and path.name != "plain.py":
                assert "Static" not in {name.name for name in node.names}, f"{path}: use Plain"
            if isinstance(node, ast.Assign) and any(
                isinstance(to, ast.Attribute) and to.attr in TITLES for to in node.targets
            ):
                call = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "plain"
                assert call or isinstance(node.value, ast.Constant), f"{path}, line {node.lineno}: use plain()"
