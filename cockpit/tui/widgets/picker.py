"""A list of curves and runs to pick from, filtered by typing."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, OptionList
from textual.worker import get_current_worker

from cockpit.text import words
from cockpit.tui.insides import Dialog
from cockpit.tui.plain import plain
from cockpit.views import layer_tables
from engine.errors import InputError
from engine.store import database, sides

MOST = 100  # entries offered at once; typing finds the others


class Picker(Dialog[str | None]):
    """Offers the curves and runs that can be compared layer by layer; returns the name of the picked one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back", id="picker.back", tooltip="Pick nothing"),
        Binding("down", "move(1)", "Down", id="picker.down", show=False, tooltip="To the next"),
        Binding("up", "move(-1)", "Up", id="picker.up", show=False, tooltip="To the one before"),
    ]

    def __init__(self, path: Path, title: str) -> None:
        super().__init__()
        self.path, self.heading = path, title
        self.offered: list[sides.Choice] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="picker") as box:
            box.border_title = plain(self.heading)
            yield Input(placeholder="words of a name, or digits of a run's digest", id="picker-filter")
            yield OptionList(id="picker-list")

    def on_mount(self) -> None:
        self._look("")

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        self._look(event.value)

    @work(thread=True, exclusive=True)
    def _look(self, text: str) -> None:
        try:
            with closing(database.reader(self.path)) as connection:
                found = sides.choices(connection, text.split(), MOST)
        except (InputError, sqlite3.Error) as error:
            self.app.call_from_thread(self.notify, str(error), severity="error")
            return
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._offer, found)

    def _offer(self, choices: list[sides.Choice]) -> None:
        self.offered = choices
        options = self.query_one(OptionList)
        options.set_options(map(_option, choices))
        options.highlighted = 0 if choices else None
        more = f"the {MOST} newest: type to find others" if len(choices) == MOST else ""
        options.border_subtitle = plain(more)

    def action_move(self, by: int) -> None:
        """Move in the list while the focus stays on the filter."""
        options = self.query_one(OptionList)
        if self.offered:
            options.highlighted = ((options.highlighted or 0) + by) % len(self.offered)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _pick(self) -> None:
        place = self.query_one(OptionList).highlighted
        if place is not None:
            self.dismiss(self.offered[place].name)


def _option(one: sides.Choice) -> Text:
    return Text.assemble(words.line(f"{one.name}  "), (words.line(layer_tables.about(one)), "dim"))
