"""One run: its configuration and ticket, what it needs, its attempts and epochs, its errors and files."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll

from cockpit.requests import retraining
from cockpit.text import words
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.drawn import Drawn, background_of, strips
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import epochs, run_pages, runs
from engine.errors import InputError
from engine.store import rows, run_details
from engine.store.row_types import Experiment
from engine.store.run_details import RunDetail


class RunScreen(CockpitScreen):
    """The details of a run, opened from any list of runs."""

    AUTO_FOCUS = "#run-about"
    FILTER_HINT = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back", id="run.back", tooltip="To where it was opened"),
    ]

    def __init__(self, run: int) -> None:
        super().__init__()
        self.run_id = run
        self.detail: RunDetail | None = None
        self.wanted_by: tuple[Experiment, ...] = ()
        self.retrain: str | None = None  # the command, once it is known

    def body(self) -> ComposeResult:
        with Horizontal(id="run"):
            with VerticalScroll(id="run-about", classes="pane"):
                yield Plain("reading …", id="run-heading")
                yield LiveTable(("needs", "status"), id="run-needs")
                yield Plain(id="run-text")
            with VerticalScroll(id="run-training", classes="pane") as training:
                training.border_title = "epochs"
                yield Drawn(id="run-epochs")
                yield Plain(id="run-table")

    def queries(self) -> Mapping[str, Query]:
        found: dict[str, Query] = {"run": self._read}
        return found if self.retrain is not None else {**found, "retrain": self._retrain}

    def _read(self, connection: sqlite3.Connection) -> tuple[RunDetail | None, tuple[Experiment, ...]]:
        found = run_details.read(connection, self.run_id)
        ids = [id for id, _ in found.experiments] if found else []
        return found, tuple(row for id in ids for row in rows.experiments(connection, id))

    def _retrain(self, connection: sqlite3.Connection) -> str:
        found = run_details.read(connection, self.run_id)
        try:
            return retraining.command(connection, found.experiments[0][0], found.run.digest) if found else ""
        except (InputError, IndexError) as error:
            return f"not known: {error}" if isinstance(error, InputError) else ""

    def show_retrain(self, command: str) -> None:
        """Show the command that trains the run again."""
        self.retrain = command
        self._draw()
        self.ask()

    def show_run(self, found: tuple[RunDetail | None, tuple[Experiment, ...]]) -> None:
        """Show the records of the run."""
        self.detail, before, self.wanted_by = found[0], self.wanted_by, found[1]
        self._draw()
        if [row.name for row in before] != self.chosen():
            self.ask()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        if (found := self.detail) is None:
            self.query_one("#run-heading", Plain).update("This run has been removed: esc goes back.")
            return
        names = runs.named((found.run, *found.needs))
        self.query_one("#run-heading", Plain).update(run_pages.heading(found, names[found.run.digest]))
        needs = self.query_one("#run-needs", LiveTable)
        needs.show({str(one.id): (names[one.digest], words.state(one.status)) for one in found.needs})
        needs.display = bool(found.needs)
        self.query_one("#run-text", Plain).update(run_pages.about(found, self.retrain or ""))
        self.query_one("#run-table", Plain).update(run_pages.by_epoch(found))
        chart, trained = self.query_one("#run-epochs", Drawn), run_pages.training(found)
        chart.display = trained is not None
        if trained is not None and (width := self.query_one("#run-training").content_size.width) > 0:
            state = "" if found.run.status != "running" else " in training"
            chart.picture = strips(epochs.draw(trained, width, background_of(self.app), state))
            chart.refresh()

    @on(LiveTable.RowSelected, "#run-needs")
    def _open(self, event: LiveTable.RowSelected) -> None:
        self.cockpit.open_run(int(str(event.row_key.value)))

    def chosen(self) -> Sequence[str]:
        """The experiments that have the run."""
        return [row.name for row in self.wanted_by]

    def command(self) -> str:
        """The command that trains the run again."""
        return self.retrain or super().command()
