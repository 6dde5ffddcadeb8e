"""The chart of accuracy against sparsity, built beside the event loop."""

from collections.abc import Sequence

from rich.text import Text
from textual import work
from textual.widgets import Static
from textual.worker import get_current_worker

from cockpit import charts


class Chart(Static):
    """Curves as a chart that fills the widget."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.series: Sequence[charts.Series] = ()

    def show(self, series: Sequence[charts.Series], title: str) -> None:
        """Draw these curves."""
        self.series, self.border_title = series, title
        self.draw()

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Build the chart for the size and the settings of now."""
        if self.series and self.is_attached and self.size.width > 20:
            self._build(list(self.series), self.size.width)

    @work(thread=True, exclusive=True)
    def _build(self, series: list[charts.Series], width: int) -> None:
        text = Text.from_ansi(charts.draw(series, "", "remaining", False, width, True))
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self.update, text)
