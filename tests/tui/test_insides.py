"""Private names of Textual are used in one module only, which lists what a new release may break."""

import ast
import inspect
import pkgutil
import textwrap
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from textual.dom import DOMNode

import cockpit.tui
from cockpit.tui import insides
from cockpit.tui.app import Cockpit
from cockpit.tui.widgets.table import LiveTable
from tests.conftest import add
from tests.tui.driving import ONE, opened, table

LIBRARIES = ("textual", "rich")


def classes() -> list[type]:
    """The classes of the dashboard, except those that may know Textual's insides."""
    names = [one.name for one in pkgutil.walk_packages(cockpit.tui.__path__, "cockpit.tui.")]
    found = [one for name in names for one in vars(import_module(name)).values() if isinstance(one, type)]
    ours = {one for one in found if one.__module__.startswith("cockpit.tui") and one.__module__ != insides.__name__}
    return sorted(ours, key=lambda one: (one.__module__, one.__qualname__))


@cache
def private(kind: type, stored: bool) -> set[str]:
    """The private names that the source of a class defines or stores, and, unless `stored`, those it reads."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    defined = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    names = defined | {
        one.attr
        for one in ast.walk(tree)
        if isinstance(one, ast.Attribute) and (not stored or isinstance(one.ctx, ast.Store))
    }
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_private_names_of_textual_are_used_in_one_module() -> None:
    used = {
        f"{kind.__module__}.{kind.__qualname__}.{name}"
        for kind in classes()
        for base in kind.__mro__
        if base.__module__.partition(".")[0] in LIBRARIES
        for name in private(kind, stored=False) & private(base, stored=True)
    }
    assert not used


@pytest.mark.asyncio
async def test_a_table_asks_for_its_style_once_a_paint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.db"
    for number in range(9):
        add(path, f"e{number}", **{**ONE, "seed": number})
    asked: list[DOMNode] = []

    def counting(node: DOMNode) -> Any:
        asked.append(node)
        return style.__get__(node)

    style = DOMNode.rich_style
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await opened(pilot, 9)
        own = table(pilot)
        monkeypatch.setattr(DOMNode, "rich_style", property(counting))
        own._styles_cache.clear()
        own.render_lines(own.size.region)
        assert sum(isinstance(node, LiveTable) for node in asked) == 1
        await pilot.click("#experiments", offset=(5, 4))
        assert own.key == list(own.shown)[2]  # below frame and headings
