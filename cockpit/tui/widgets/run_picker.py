"""A list of runs to pick from, filtered by typing."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from cockpit.text import words
from cockpit.tui.insides import Cells, Dialog
from cockpit.tui.plain import plain
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import runs
from engine.errors import InputError
from engine.store import database, queue, rows
from engine.store.row_types import Run

HEADINGS = ("status", "run", "accuracy", "why")
WORD = re.compile(r"(?:level|seed) \d+|\S+")
FIRST = ("failed", "diverged", "running", "blocked")  # listed before the others


class RunPicker(Dialog[int | None]):
    """Offers the runs of an experiment; returns the id of the picked one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back", id="run-picker.back", tooltip="Pick nothing"),
        Binding("down", "move('down')", "Down", id="run-picker.down", show=False, tooltip="To the next"),
        Binding("up", "move('up')", "Up", id="run-picker.up", show=False, tooltip="To the one before"),
    ]

    def __init__(self, path: Path, experiment: str | None, text: str = "") -> None:
        super().__init__()
        self.path, self.experiment, self.text = path, experiment, text
        self.offered: dict[str, Cells] = {}

    def compose(self) -> ComposeResult:
        with Vertical(id="picker") as box:
            box.border_title = plain(f"open a run of {self.experiment}" if self.experiment else "no experiment")
            yield Input(self.text, placeholder="words: failed, level 3, seed 0, a digest", id="picker-filter")
            yield LiveTable(HEADINGS, id="picker-runs")

    def on_mount(self) -> None:
        if self.experiment is not None:
            self._look(self.experiment)

    @work(thread=True, exclusive=True)
    def _look(self, experiment: str) -> None:
        try:
            with closing(database.reader(self.path)) as connection:
                found = rows.runs(connection, queue.experiment_id(connection, experiment))
        except (InputError, sqlite3.Error) as error:
            self.app.call_from_thread(self.notify, str(error), severity="error")
            return
        found.sort(key=lambda run: FIRST.index(run.status) if run.status in FIRST else len(FIRST))
        names = runs.named(found)
        self.app.call_from_thread(self._offer, {str(run.id): _cells(run, names[run.digest]) for run in found})

    def _offer(self, found: dict[str, Cells]) -> None:
        self.offered = found
        self._narrow()

    @on(Input.Changed)
    def _narrow(self) -> None:
        typed = WORD.findall(self.query_one(Input).value.lower())
        shown = {key: cells for key, cells in self.offered.items() if _matches(_text(cells), typed)}
        self.query_one(LiveTable).show(shown)

    def action_move(self, where: str) -> None:
        """Move in the list while the focus stays on the filter."""
        table = self.query_one(LiveTable)
        table.action_cursor_down() if where == "down" else table.action_cursor_up()

    @on(Input.Submitted)
    @on(LiveTable.RowSelected)
    def _pick(self) -> None:
        if key := self.query_one(LiveTable).key:
            self.dismiss(int(key))


def _cells(run: Run, name: str) -> Cells:
    accuracy = f"{run.test_accuracy:.2%}" if run.test_accuracy is not None else ""
    why = rows.last_line(run.error) if run.status in ("failed", "diverged") else run.waits_for
    return words.state(run.status), f"{name} ({run.digest[:8]})" if run.digest[:8] not in name else name, accuracy, why


def _matches(text: str, typed: Sequence[str]) -> bool:
    """Whether a text contains all words as whole words: `level 21` does not match `level 2`."""
    return all(
        re.search(re.escape(word) + (r"\b" if word[-1].isdigit() and " " in word else ""), text) for word in typed
    )


def _text(cells: Cells) -> str:
    return " ".join(map(str, cells)).lower()
