"""The first screen: experiments, the curves of the one under the cursor, devices, workers, the queue."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from cockpit.requests import remaining
from cockpit.requests.remaining import Remaining
from cockpit.text import words
from cockpit.tui import filters, states
from cockpit.tui.plain import Plain, plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.charted import ChartScreen
from cockpit.tui.widgets import panes
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import curves
from engine.store import rows, workers
from engine.store.row_types import Experiment, Load, Worker

NAME_WIDTH, LONG_NAME_WIDTH = 15, 26  # columns of names, so that status and progress stay visible
HEADINGS = (" ", "experiment", "status", "done")
LONG_HEADINGS = (*HEADINGS, "progress", "left, or why")  # if the list is as wide as the screen
WIDE = 110  # columns from which the chart is next to the list
QUEUED = 12  # most experiments of the queue
PANES = {"loads": "devices", "workers": "workers", "queued": "queue"}
MARKED, PINNED = "■", "◆"

Found = tuple[str, list[curves.Series], str]  # the name, its curves, why there are none


class Dashboard(ChartScreen):
    """The screen to leave open all day."""

    FILTER_HINT = filters.HINT
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="dashboard.mark", tooltip="Put its curves on the screen Compare"),
        Binding("p", "pin", "Pin", id="dashboard.pin", tooltip="Keep it on top, and on the screen Compare"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.present: list[Worker] = []
        self.found: list[Experiment] = []
        self.remaining = Remaining()

    def body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="left"):
                yield LiveTable(HEADINGS, id="experiments")
            yield Chart(id="chart")
            with Vertical(id="right"):
                for name, title in PANES.items():
                    pane = Plain(id=name, classes="pane")
                    pane.border_title = plain(title)
                    yield pane

    def queries(self) -> Mapping[str, Query]:
        chosen = self.cockpit.experiment
        wanted: dict[str, Query] = {"experiments": rows.experiments, "loads": workers.loads}
        return {"curves": curves_of(chosen, self.cockpit.read_only), **wanted} if chosen else wanted

    def standing(self) -> Sequence[Experiment]:
        chosen = self.chosen()
        return tuple(row for row in self.found if row.name in chosen)

    def show_experiments(self, experiments: list[Experiment]) -> None:
        """Show the experiments that are not archived, and the queue."""
        self.found = [row for row in experiments if not row.archived]
        self._list()
        if not experiments:
            self.query_one(Chart).nothing(states.no_experiments(self.cockpit.read_only))

    def show_remaining(self, remaining: Remaining) -> None:
        """Show the time left of each experiment."""
        self.remaining = remaining
        self._list()

    def on_resize(self) -> None:
        self._list()

    def refilter(self) -> None:
        """List only the experiments that match."""
        self._list()

    def leave(self) -> None:
        """Stay, as other screens go back to this one."""

    def _list(self) -> None:
        """Show the experiments, pinned ones first."""
        pinned, marked = self.cockpit.pinned, self.cockpit.marked
        is_long = self.app.size.width < WIDE
        width = LONG_NAME_WIDTH if is_long else NAME_WIDTH
        cells = {}
        listed = [row for row in self.found if filters.matches(row, self.filter)]
        for row in sorted(listed, key=lambda row: row.name not in pinned):
            name, mark = row.name, PINNED if row.name in pinned else MARKED if row.name in marked else " "
            own = mark, words.short(name, width), words.state(row.status), f"{row.done}/{row.runs}"
            more = remaining.bar(row.done, row.runs), self.remaining.of.get(name, "") or row.why
            cells[name] = (*own, *more) if is_long else own
        table = self.query_one("#experiments", LiveTable)
        headings = LONG_HEADINGS if is_long else HEADINGS
        table.columned(dict(zip(headings, headings, strict=True)))
        table.show(cells)
        self.query_one("#queued", Plain).update(panes.queued(self.found, self.remaining, QUEUED))

    @on(LiveTable.RowHighlighted, "#experiments")
    def _choose(self) -> None:
        key = self.query_one("#experiments", LiveTable).key  # the event may name a row that the cursor has left
        if key not in (None, self.cockpit.experiment):
            self.cockpit.experiment = key
            self.keys_changed()
            self.ask()

    @on(LiveTable.RowSelected, "#experiments")
    def _open(self) -> None:
        self.app.switch_mode("experiment")

    def action_mark(self) -> None:
        """Mark the experiment under the cursor for the screen Compare, or unmark it."""
        self._toggle(self.cockpit.marked)

    def action_pin(self) -> None:
        """Pin the experiment under the cursor, or unpin it."""
        self._toggle(self.cockpit.pinned)

    def _toggle(self, names: set[str]) -> None:
        if name := self.query_one("#experiments", LiveTable).key:
            names ^= {name}
            self._list()
            self.keys_changed()

    def show_curves(self, found: Found) -> None:
        """Draw the curves of the experiment under the cursor."""
        name, series, why = found
        if name == self.cockpit.experiment:
            self.query_one(Chart).show(series, name, why)

    def show_loads(self, loads: list[Load]) -> None:
        """Show the load of devices."""
        self.query_one("#loads", Plain).update(panes.devices(loads))

    def show_workers(self, present: list[Worker]) -> None:
        """Show the workers and their runs."""
        self.present = present
        host = self.cockpit
        nobody = states.nobody(host.starting, host.read_only)
        self.query_one("#workers", Plain).update(panes.workers(present, nobody))

    def show_starting(self, _: int) -> None:
        """Show that workers are starting."""
        self.show_workers(self.present)


def curves_of(
    name: str, read_only: bool, read: Callable[..., list[curves.Series]] = curves.read, what: str = "results"
) -> Query:
    """A query for the curves of an experiment, with its name, and why it has none."""

    def query(connection: sqlite3.Connection) -> Found:
        found = read(connection, name)
        return name, found, "" if found else states.untrained(connection, name, read_only, what)

    return query
