"""The help: the keys of this screen and the others, each with the command that does the same."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, ClassVar, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Input, RichLog

from cockpit.tui import actions
from cockpit.tui.host import Host, host_of
from cockpit.tui.insides import Dialog
from cockpit.tui.plain import plain
from cockpit.tui.widgets.chart import Chart
from cockpit.views import legends
from engine.store import database

KEYS_WIDTH, LABEL_WIDTH = 10, 20
SIGNS = "Signs in charts"
HERE, ACTING, EVERYWHERE, FOCUS = GROUPS = (
    "On this screen",
    "Actions on what is marked, else on what is under the cursor",
    "Everywhere",
    "In the part of the screen that has the focus",
)


class Line(NamedTuple):
    """A binding in the help."""

    group: str
    keys: str
    label: str
    command: str  # that does the same, else a remark
    about: str = ""  # further words for the filter


class Help(Dialog[None]):
    """All keys, by where they work. Typing filters them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back", id="help.back"),
        Binding("down", "scroll(1)", "Down", id="help.down", show=False),
        Binding("up", "scroll(-1)", "Up", id="help.up", show=False),
        Binding("pagedown", "scroll(10)", "Page down", id="help.page-down", show=False),
        Binding("pageup", "scroll(-10)", "Page up", id="help.page-up", show=False),
    ]

    def __init__(self, screen: Screen[Any], names: Sequence[str]) -> None:
        super().__init__()
        self.lines = list(lines(screen, names))
        self.option = actions.command("", (), host_of(screen).path).strip()  # the option that names the database

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Keys, and the commands that do the same"
            dialog.border_subtitle = plain(self.option)
            yield Input(placeholder="type to filter; ↑ ↓ scroll; esc closes", compact=True)
            # A log, because it is laid out only once: these lines take 15 ms.
            log = RichLog(id="lines", min_width=0, auto_scroll=False)
            log.can_focus = False
            yield log

    def on_mount(self) -> None:
        self.on_resize()

    @on(Input.Changed)
    def on_resize(self) -> None:
        """Show the matching lines in the new width."""
        self.call_after_refresh(self._show)

    @work(exclusive=True)
    async def _show(self) -> None:
        words = self.query_one(Input).value.lower().split()
        shown = [line for line in self.lines if all(word in " ".join(line).lower() for word in words)]
        log = self.query_one(RichLog).clear()
        if not shown:
            log.write("no key does that: esc closes")
        for group, found in groupby(shown, key=lambda line: line.group):
            table = Table.grid(padding=(0, 2))
            table.add_column(width=KEYS_WIDTH)
            table.add_column(width=LABEL_WIDTH)
            table.add_column(overflow="fold")
            for line in found:
                table.add_row(Text(line.keys, "bold"), Text(line.label), Text(line.command, "dim"))
            log.write(Group(Text(f"\n{group}", "bold underline"), table), expand=True)
            await asyncio.sleep(0)  # as laying out all of them at once takes 30 ms

    def action_scroll(self, lines: int) -> None:
        """Scroll by a number of lines."""
        self.query_one(RichLog).scroll_relative(y=lines, animate=False)


def lines(screen: Screen[Any], names: Sequence[str]) -> Iterator[Line]:
    """The active bindings of a screen, those of other screens, the cursor's keys, and the signs of charts."""
    app = host_of(screen)
    keys: dict[tuple[str, str, str], list[str]] = {}
    seen: dict[tuple[str, str, str], Binding] = {}
    active = screen.active_bindings.values()
    here = sorted(((_group(found), found.binding) for found in active), key=lambda one: GROUPS.index(one[0]))
    moving = [one for one in here if one[0] == FOCUS]
    elsewhere = _elsewhere(app, {binding.id for _, binding in here})
    for group, binding in [*here[: len(here) - len(moving)], *elsewhere, *moving]:
        place = (group, binding.description, binding.id or binding.action)
        keys.setdefault(place, []).append(app.get_key_display(binding))
        seen[place] = binding
    for (group, label, id), binding in seen.items():
        said = actions.command_of(id, names, database.default_path()) or binding.tooltip
        yield Line(group, " ".join(keys[group, label, id]), label, said, binding.tooltip)
    if screen.query(Chart):
        yield from (Line(SIGNS, sign, "", meaning) for sign, meaning in legends.SIGNS.items())


def _elsewhere(app: Host, here: set[str | None]) -> Iterator[tuple[str, Binding]]:
    """The bindings of the other screens, with the keys of the configuration file."""
    for screen in app.MODES.values():
        for binding in screen.BINDINGS:
            if isinstance(binding, Binding) and binding.id and binding.id not in here:
                for each in Binding.make_bindings([binding.with_key(app.keys.get(binding.id, binding.key))]):
                    yield f"On the screen {screen.__name__}", each


def _group(found: ActiveBinding) -> str:
    if isinstance(found.node, Screen):
        return HERE
    if isinstance(found.node, App):
        return ACTING if (found.binding.id or "").startswith(actions.PREFIX) else EVERYWHERE
    return FOCUS
