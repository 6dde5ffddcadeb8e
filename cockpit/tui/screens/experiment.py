"""One experiment: its curves, its levels as a table, its runs in training, progress and errors."""

import sqlite3
from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll

from cockpit.text import words
from cockpit.tui import actions, states
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.charted import ChartScreen
from cockpit.tui.screens.dashboard import Found, curves_of
from cockpit.tui.widgets import panes
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import barrier_curves, curves, names
from engine.analysis import barriers
from engine.store import rows
from engine.store.row_types import Detail, Worker

BARRIER, CONNECT = "error barrier", "cockpit connect {names}"


class Experiment(ChartScreen):
    """The experiment under the dashboard's cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "c",
            "barriers",
            "Error barriers",
            id="experiment.barriers",
            tooltip="Between two trainings of each ticket in other orders (--connect), or accuracy again",
        ),
        Binding("escape", "back", "Back", id="experiment.back", tooltip="To the dashboard"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.present: list[Worker] = []
        self.running: dict[int, list[float]] = {}
        self.of: str | None = None  # the experiment of the attributes below
        self.lines = 0  # its number of lines
        self.barring = False  # whether the chart shows error barriers

    def body(self) -> ComposeResult:
        with Horizontal(id="experiment"):
            with Vertical(id="results"):
                yield Chart(id="chart")
                yield LiveTable((), id="levels")
            with Vertical(id="beside"):
                with VerticalScroll(id="training", classes="pane") as training:
                    training.border_title = "training now"
                    yield Plain()
                with VerticalScroll(id="state", classes="pane") as state:
                    state.border_title = "state"
                    yield Plain()

    def queries(self) -> Mapping[str, Query]:
        chosen = self.cockpit.experiment
        if chosen is None:
            self.query_one(Chart).nothing(states.no_experiments(self.cockpit.read_only))
            return {}
        if chosen != self.of:
            self.of, self.lines, self.barring = chosen, 0, False
        read_only = self.cockpit.read_only
        barred = curves_of(chosen, read_only, barrier_curves.read, BARRIER)
        return {
            "lines": lambda connection: (chosen, barriers.planned(connection, chosen)[0]),
            **({"barriers": barred} if self.barring else {"curves": curves_of(chosen, read_only)}),
            "running": lambda connection: rows.training(connection, chosen),
            "experiment": lambda connection: _experiment(connection, chosen),
        }

    def show_curves(self, found: Found) -> None:
        """Draw the curves."""
        name, series, why = found
        if not self.barring:
            self.query_one(Chart).show(series, name, why)

    def show_barriers(self, found: Found) -> None:
        """Draw the error barriers."""
        name, series, why = found
        if self.barring:
            self.query_one(Chart).show(series, name, why, barrier_curves.AXIS)

    def show_lines(self, found: tuple[str, int]) -> None:
        """Offer error barriers if the experiment has lines."""
        name, lines = found
        if name == self.of and bool(lines) != bool(self.lines):
            self.lines = lines
            self.refresh_bindings()

    def action_barriers(self) -> None:
        """Draw error barriers, or accuracy again."""
        self.barring = not self.barring
        self.ask()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action is offered: error barriers only if the experiment has lines."""
        return bool(self.lines) if action == "barriers" else super().check_action(action, parameters)

    def leave(self) -> None:
        """Go from error barriers to accuracy, from there to the dashboard."""
        if self.barring:
            self.action_barriers()
        else:
            super().leave()

    def command(self) -> str:
        """The command that shows the same."""
        chosen = self.chosen()
        return actions.command(CONNECT, chosen, self.cockpit.path) if self.barring else super().command()

    @on(Chart.Legend)
    def _tabulate(self, message: Chart.Legend) -> None:
        """Show the levels of the charted curves as a table."""
        table = self.query_one("#levels", LiveTable)
        headings, found = curves.table(message.shown)
        marked = {
            entry.name: Text(f"{entry.marker} {words.line(entry.name)}", entry.style) for entry in message.entries
        }
        table.columned({heading: marked.get(heading, heading) for heading in headings})
        table.show({cells[0]: cells for cells in found})

    @on(LiveTable.RowSelected, "#levels")
    def _open(self, event: LiveTable.RowSelected) -> None:
        self.run_worker(self.app.run_action(f"open_run('level {event.row_key.value} ')"))

    def show_experiment(self, detail: tuple[Detail, Mapping[str, str]] | None) -> None:
        """Show progress and errors."""
        said = panes.experiment(*detail) if detail else "this experiment was removed. Press 1 for the others"
        self.query_one("#state Plain", Plain).update(said)

    def show_running(self, found: dict[int, list[float]]) -> None:
        """Show its runs in training."""
        self.running = found
        self._show_training()

    def show_workers(self, present: list[Worker]) -> None:
        """Show the progress of these runs."""
        self.present = present
        self._show_training()

    def _show_training(self) -> None:
        self.query_one("#training Plain", Plain).update(panes.training(self.present, self.running))


def _experiment(connection: sqlite3.Connection, name: str) -> tuple[Detail, Mapping[str, str]] | None:
    row = connection.execute("SELECT id FROM experiments WHERE name = ?", (name,)).fetchone()
    return (rows.experiment(connection, row[0]), names.of_curves(connection, name)) if row else None
