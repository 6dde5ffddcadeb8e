"""The dashboard: experiments, the curves of the one under the cursor, devices and workers."""

from collections.abc import Mapping
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from cockpit import charts, words
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.table import LiveTable
from engine.store import rows, workers

EMPTY = "No experiments yet.\n\nAdd one with n here, or in a shell:\n\n  cockpit run digits"


class Dashboard(CockpitScreen):
    """What people leave open all day."""

    def body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="left"):
                yield LiveTable(("experiment", "status", "done"), id="experiments")
                yield Static(id="workers")
            yield Chart(id="chart")

    def queries(self) -> Mapping[str, Query]:
        chosen = self.cockpit.experiment
        wanted: dict[str, Query] = {"experiments": rows.experiments, "loads": workers.loads}
        return {"curves": lambda connection: rows.curves(connection, chosen), **wanted} if chosen else wanted

    def show_experiments(self, found: list[dict[str, Any]]) -> None:
        """Show the experiments."""
        table = self.query_one("#experiments", LiveTable)
        table.show(
            {row["name"]: (row["name"], words.state(row["status"]), f"{row['done']}/{row['runs']}") for row in found}
        )
        if not found:
            self.query_one(Chart).update(EMPTY)

    @on(LiveTable.RowHighlighted)
    def _choose(self, event: LiveTable.RowHighlighted) -> None:
        if event.row_key.value != self.cockpit.experiment:
            self.cockpit.experiment = event.row_key.value
            self.ask()

    def show_curves(self, found: list[Any]) -> None:
        """Draw the curves of the experiment under the cursor."""
        self.query_one(Chart).show(charts.series(found), f"{self.cockpit.experiment}: test accuracy, %")

    def show_workers(self, present: list[dict[str, Any]]) -> None:
        """Show the workers and what each trains."""
        lines = []
        for row in present:
            lines.append(f"{words.state(row['state'])}  {row['device']}  pid {row['pid']}")
            if row["run_id"]:
                lines.append(f"  {words.run(row)}")
        self.query_one("#workers", Static).update("\n".join(lines) or "no workers: w starts them")


def _cells(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["name"], words.state(row["status"]), f"{row['done']}/{row['runs']}"
