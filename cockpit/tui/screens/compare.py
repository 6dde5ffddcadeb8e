"""The curves of several experiments in one chart, and a list of them that reads the crosshair."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from cockpit.text import words
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.charted import ChartScreen
from cockpit.tui.screens.dashboard import EMPTY, UNTRAINED
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import curves
from cockpit.views.legends import Entry

MORE = "Only {name}: mark more on the dashboard (1) with space, or pin them with p"
HEADINGS = ("curve", "accuracy, %", "n", "remarks")


class Compare(ChartScreen):
    """The experiments that are marked or pinned on the dashboard; without such, the one under its cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "hide", "Hide", id="compare.hide", tooltip="Hide the curve under the cursor, or show it"),
        Binding("escape", "app.switch_mode('dashboard')", "Back", id="compare.back", tooltip="To the dashboard"),
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
            self.query_one(Chart).nothing(EMPTY)
            return {}
        more.update(MORE.format(name=self.names[0]))
        names = self.names
        return {"curves": lambda connection: _curves(connection, names)}

    def show_curves(self, found: tuple[tuple[str, ...], list[curves.Series]]) -> None:
        """Draw the curves of all of them."""
        names, series = found
        if names == self.names:
            self.query_one(Chart).show(series, ", ".join(names), UNTRAINED.format(name=" and ".join(names)))

    @on(Chart.Legend)
    def _list(self, message: Chart.Legend) -> None:
        hidden = self.query_one(Chart).view.hidden
        cells = {entry.key: _cells(entry, entry.key in hidden) for entry in message.entries}
        self.query_one("#curves", LiveTable).show(cells)

    def action_hide(self) -> None:
        """Hide the curve under the cursor, or show it again."""
        if name := self.query_one("#curves", LiveTable).key:
            chart = self.query_one(Chart)
            chart.hide(chart.view.hidden ^ {name})


def _curves(connection: sqlite3.Connection, names: Sequence[str]) -> tuple[Sequence[str], list[curves.Series]]:
    found = [one for name in names for one in curves.read(connection, name)]
    return names, curves.with_experiments(found)


def _cells(entry: Entry, hidden: bool) -> tuple[Text, str, str, str]:
    if hidden:
        return Text(words.line(f"  {entry.name} (hidden)"), "dim"), "", "", ""
    name = Text.assemble((entry.marker, entry.style), " ", words.line(entry.name))
    return name, entry.reading, entry.count, "; ".join(entry.remarks)
