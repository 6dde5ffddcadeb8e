"""The curves of several experiments in one chart, and a list of them with readings at the crosshair."""

import asyncio
import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from cockpit.text import words
from cockpit.tui import actions, states
from cockpit.tui.dialogs import Ask
from cockpit.tui.fitting import FRAME, GAP
from cockpit.tui.plain import Plain, plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.charted import ChartScreen
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import curves, differences
from cockpit.views.legends import Entry
from engine.errors import InputError
from engine.store import titles

MORE = "Only {name}: space on the Dashboard (1) marks more"
HEADINGS = ("curve", "n", "remarks")
BRIEFEST = "accuracy; difference to the first ± half of its 95 % interval"
# How a row can be written, the longest first, and whether with remarks, most of which the chart says, too.
FORMS: Sequence[tuple[differences.Form, bool]] = (
    ("full", True),
    ("brief", True),
    ("brief", False),
    ("briefest", False),
)
LEAST_NAME = 12  # columns
FEW, MORE_LEVELS, WIDE = 3, 4, 130  # levels compared, on a narrow and on a wide screen; columns of a wide screen


class Compare(ChartScreen):
    """The experiments that are marked or pinned on the dashboard, else the one under its cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "d", "chart('difference')", "Difference", id="compare.difference", tooltip="To the first curve, by seeds"
        ),
        Binding("space", "hide", "Hide", id="compare.hide", tooltip="Hide the curve under the cursor, or show it"),
        Binding(
            "H",
            "keep_hidden",
            "Hide for good",
            id="compare.keep-hidden",
            show=False,
            tooltip="Leave the curve under the cursor out of every chart, or show it again",
        ),
        Binding(
            "N",
            "rename",
            "Rename",
            id="compare.rename",
            show=False,
            tooltip="Call the curve under the cursor by another name, in every chart",
        ),
        Binding("escape", "back", "Back", id="compare.back", tooltip="To the dashboard"),
    ]

    def body(self) -> ComposeResult:
        with Horizontal(id="compare"):
            yield Chart(id="chart", legend=False)
            yield Plain(id="more")
            yield LiveTable(HEADINGS, id="curves")

    def on_mount(self) -> None:
        self.names: tuple[str, ...] = ()

    def queries(self) -> Mapping[str, Query]:
        app = self.cockpit
        chosen = app.pinned | app.marked or {app.experiment} - {None}
        self.names = tuple(sorted(name for name in chosen if name))
        more = self.query_one("#more", Plain)
        more.display = len(self.names) == 1
        if not self.names:
            self.query_one(Chart).nothing(states.no_experiments(app.read_only))
            return {}
        more.update(MORE.format(name=self.names[0]))
        names = self.names
        return {"curves": lambda connection: _curves(connection, names, app.read_only)}

    def show_curves(self, found: tuple[tuple[str, ...], list[curves.Series], str]) -> None:
        """Draw the curves of all of them."""
        names, series, why = found
        if names == self.names:
            self.query_one(Chart).show(series, ", ".join(names), why)

    @on(Chart.Legend)
    def _list(self, message: Chart.Legend) -> None:
        chart, table = self.query_one(Chart), self.query_one("#curves", LiveTable)
        hidden, shown = chart.view.hidden, {one.name: one for one in chart.whole}
        visible = [one for one in chart.whole if one.name not in hidden and one.ticket != curves.DENSE and one.levels]
        most = MORE_LEVELS if self.size.width >= WIDE else FEW
        at = differences.levels(visible, chart.view.crosshair, most)
        for form, has_remarks in FORMS:
            rows = {
                entry.key: _row(entry, shown.get(entry.key), entry.key in hidden, visible, at, form)
                for entry in message.entries
            }
            headings = ["curve", *(_heading(visible[0], level, form) for level in at), "n", "remarks"]
            if not has_remarks:
                headings, rows = headings[:-1], {key: row[:-1] for key, row in rows.items()}
            widths = [max(map(cell_len, column)) for column in zip(headings, *map(_plain, rows.values()), strict=True)]
            room = self.size.width - FRAME - sum(width + GAP for width in widths[1:]) - GAP
            if room >= widths[0]:
                break
        keys = ["curve", *(f"level {level}" for level in at), "n", "remarks"][: len(headings)]
        table.columned(dict(zip(keys, headings, strict=True)))
        table.border_title = plain(BRIEFEST if form == "briefest" else "")
        table.show({key: (_short(row[0], max(LEAST_NAME, room)), *row[1:]) for key, row in rows.items()})

    def on_resize(self) -> None:
        chart = self.query_one(Chart)
        chart.hide(chart.view.hidden)  # updates the number of levels that fit

    def action_hide(self) -> None:
        """Hide the curve under the cursor, or show it again."""
        if name := self.query_one("#curves", LiveTable).key:
            chart = self.query_one(Chart)
            chart.hide(chart.view.hidden ^ {name})

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action is offered: not if it changes something and the dashboard is read-only."""
        if action in ("keep_hidden", "rename"):
            return not self.cockpit.read_only
        return super().check_action(action, parameters)

    @work(group="acting")
    async def action_keep_hidden(self) -> None:
        """Hide the curve under the cursor in every chart, or show it again."""
        if one := self._under_cursor():
            chart = self.query_one(Chart)
            is_hidden = one.name in chart.view.hidden  # on the screen: what was read may be older
            await self._edit(one, "Show" if is_hidden else "Hide for good", hidden=not is_hidden)
            hidden = chart.view.hidden
            chart.hide(hidden - {one.name} if is_hidden else hidden | {one.name})

    @work(group="acting")
    async def action_rename(self) -> None:
        """Ask for a new display name of the curve under the cursor."""
        if one := self._under_cursor():
            hint = "Empty: the default name. Enter: save, Esc: cancel"
            title = await self.app.push_screen_wait(Ask(f"Name of {one.called}", one.title or "", hint, lines=False))
            if title is not None:
                await self._edit(one, "Rename", title=title)

    def _under_cursor(self) -> curves.Series | None:
        key = self.query_one("#curves", LiveTable).key
        return next((one for one in self.query_one(Chart).shown if one.name == key), None)

    async def _edit(self, one: curves.Series, label: str, title: str | None = None, hidden: bool | None = None) -> None:
        act = partial(titles.edit_curve, curve=one.curve, title=title, hidden=hidden)
        try:
            path = await self.cockpit.writable()
            outcomes = await asyncio.to_thread(actions.carry_out, path, act, [one.experiment])
        except (InputError, sqlite3.Error, OSError) as error:
            self.cockpit.failed(label, error)
            return
        option = f"--name {shlex.quote(title)}" if title is not None else "--hide" if hidden else "--show"
        command = f"cockpit queue curve {{names}} {shlex.quote(one.curve)} {option}"
        said = outcomes[one.experiment].said
        self.cockpit.say_done(label, said, actions.command(command, [one.experiment], path))
        self.ask()


def _curves(
    connection: sqlite3.Connection, names: Sequence[str], read_only: bool
) -> tuple[Sequence[str], list[curves.Series], str]:
    each = {name: curves.read(connection, name) for name in names}
    found = [one for name, own in each.items() for one in curves.with_seeds(connection, name, own)]
    for one in found:
        differences.between(one, found[0])  # fills its cache outside the event loop
    why = [] if found else [states.untrained(connection, name, read_only) for name in names]
    return names, curves.with_experiments(found), "\n\n".join(why)


def _heading(first: curves.Series, level: int, form: differences.Form) -> str:
    at = f"at {first.remaining[first.levels.index(level)] * 100:.3g} %"
    return at if form == "briefest" else f"{at}, - first"


def _row(
    entry: Entry,
    one: curves.Series | None,
    is_hidden: bool,
    visible: Sequence[curves.Series],
    at: Sequence[int],
    form: differences.Form,
) -> list[Text | str]:
    """The cells of a curve: name, what it is at these levels, n, remarks."""
    if is_hidden:
        return [Text(words.line(f"  {entry.name} (hidden)"), "dim"), *("" for _ in at), "", ""]
    is_told = one is not None and one.ticket != curves.DENSE
    told = [differences.cell(one, visible[0], level, form) if one and is_told else "" for level in at]
    if at and one is not None and one.ticket == curves.DENSE and one.means:
        told[0] = one.value(0)
    name = Text.assemble((entry.marker, entry.style), " ", words.line(entry.name))
    return [name, *told, entry.count.removeprefix("n="), "; ".join(entry.remarks)]


def _plain(row: Sequence[Text | str]) -> list[str]:
    return list(map(str, row))


def _short(name: Text | str, width: int) -> Text | str:
    if isinstance(name, Text):
        name.truncate(width, overflow="ellipsis")
    return name
