"""Charts of an experiment in training, drawn again when a run ends and every few seconds."""

import sqlite3
import time

from cockpit.views import charts, curves, names
from cockpit.views.axes import ACCURACY
from cockpit.views.canvas import Row
from cockpit.views.legends import View

LEAST_ROWS = 12  # of a chart with its title, axes and names
SECONDS = 5.0  # until charts are drawn again if no run ends


class Growing:
    """Charts of an experiment, one for each target, as many as fit."""

    def __init__(self, connection: sqlite3.Connection, experiment: str, view: View) -> None:
        self.connection, self.experiment, self.view = connection, experiment, view
        self._of: tuple[int, int, int] | None = None
        self._until = 0.0
        self._rows: list[Row] = []

    def rows(self, ended: int, width: int, height: int) -> list[Row]:
        """At most `height` rows, none if that is too low. `ended` is the number of ended runs."""
        now, of = time.monotonic(), (ended, width, height)
        if of != self._of or now > self._until:
            self._of, self._until = of, now + SECONDS
            self._rows = self._drawn(width, height) if height >= LEAST_ROWS else []
        return self._rows

    def _drawn(self, width: int, height: int) -> list[Row]:
        found = [one for one in curves.read(self.connection, self.experiment) if not one.is_hidden]
        groups = [names.named(group) for group in curves.groups(found, "target").values()]
        groups = groups[: height // LEAST_ROWS]
        return [row for shown in groups for row in self._chart(shown, width, height // len(groups))]

    def _chart(self, shown: tuple[curves.Series, ...], width: int, height: int) -> list[Row]:
        title = f"{names.title(shown)} · {ACCURACY}"
        return charts.printed(shown, title, self.view, width, height)[:height]
