"""The base of screens with a chart, whose keys work wherever the focus is."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.chart import Chart


class ChartScreen(CockpitScreen):
    """A screen with one chart."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "chart('axis')", "Axis", id="chart.axis", tooltip="Weights remaining (log), or fraction pruned"),
        Binding("b", "chart('spread')", "Bands", id="chart.bands", tooltip="One deviation as bands, bars, or not"),
        Binding("g", "chart('regroup')", "Group", id="chart.group", tooltip="Group by target, all, or kind of ticket"),
        Binding("f", "chart('full')", "Full axis", id="chart.full", show=False, tooltip="Accuracy from 0 to 100 %"),
        Binding(
            "left_square_bracket",
            "chart('group', -1)",
            "Previous group",
            key_display="[",
            id="chart.previous",
            show=False,
            tooltip="The curves of the target before",
        ),
        Binding(
            "right_square_bracket",
            "chart('group', 1)",
            "Next group",
            key_display="]",
            id="chart.next",
            show=False,
            tooltip="The curves of the next target",
        ),
        Binding("i", "chart('zoom', 1)", "Zoom in", id="chart.in", show=False, tooltip="Nearer to the crosshair"),
        Binding("o", "chart('zoom', -1)", "Zoom out", id="chart.out", show=False, tooltip="Farther away"),
        Binding(
            "enter", "app.open_run", "Open run", id="chart.run", show=False, tooltip="Pick a run and show all of it"
        ),
        Binding("0", "chart('reset')", "Follow", id="chart.reset", show=False, tooltip="All of the chart, live"),
    ]

    def action_chart(self, what: str, *arguments: int) -> None:
        """Call an action of the chart."""
        getattr(self.query_one(Chart), f"action_{what}")(*arguments)

    def refilter(self) -> None:
        """Show only the curves that match the filter."""
        self.query_one(Chart).narrow(self.filter)

    def on_screen_resume(self) -> None:
        self.query_one(Chart).paint()
