"""Logs: what workers and pools printed, or what happened to the runs of an experiment."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from cockpit.text import words
from cockpit.tui import states
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.logview import LogView, of_path, of_text
from cockpit.tui.widgets.table import LiveTable
from engine.errors import InputError
from engine.store import database, history, queue

NO_EXPERIMENT = "no experiment: choose one on the dashboard (key 1), or add one with `cockpit queue add`"


class Logs(CockpitScreen):
    """Log files, and the events of the experiment under the dashboard's cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow", id="logs.follow", tooltip="Stay at the end as it grows, or stop that"),
        Binding("slash", "search", "Search", id="logs.search", tooltip="Search for a text"),
        Binding("n", "find(True)", "Next", id="logs.next", show=False, tooltip="Where the text sought is next"),
        Binding(
            "N", "find(False)", "Previous", id="logs.previous", show=False, tooltip="Where the text sought was last"
        ),
        Binding("g", "start", "Start", id="logs.start", show=False, tooltip="To the first line"),
        Binding("G", "end", "End", id="logs.end", show=False, tooltip="To the last line"),
        Binding("v", "switch", "Files or events", id="logs.source", tooltip="Log files, or the experiment's events"),
        Binding(
            "escape", "back", "Back", id="logs.back", show=False, tooltip="End the search, or back to the dashboard"
        ),
    ]

    def body(self) -> ComposeResult:
        with Horizontal(), Vertical():
            yield LiveTable(("log", "size", "changed"), id="files")
            yield LogView(id="log")
            yield Input(placeholder="search: enter starts, esc leaves", id="search", compact=True)

    def on_mount(self) -> None:
        self.events = False
        self.opened: Path | None = None
        self.query_one("#files").border_title = "logs, the newest first"
        self.query_one("#search").display = False
        self.view.focus()

    @property
    def view(self) -> LogView:
        """What shows the lines."""
        return self.query_one(LogView)

    def chosen(self) -> Sequence[str]:
        """Nothing: no experiment is shown here, and actions hit none unseen."""
        return ()

    def queries(self) -> Mapping[str, Query]:
        chosen, folder = self.cockpit.experiment, database.files_folder(self.cockpit.path) / "logs"
        if not self.events:
            return {"files": lambda _: _files(folder)}
        return {"events": lambda connection: _events(connection, chosen)} if chosen else {}

    def on_screen_resume(self) -> None:
        wanted = self.cockpit.log_file
        if wanted is not None and wanted != self.opened:
            self._open(wanted)
        elif self.events:
            self._show_events()
        super().on_screen_resume()

    def _open(self, path: Path) -> None:
        """Show the log of this name that lies beside the database: rows name where it lay, or anything."""
        place = database.files_folder(self.cockpit.path) / "logs" / path.name
        self.events, self.cockpit.log_file, self.opened = False, path, path
        self.query_one("#files").display = True
        self.view.open(of_path(place), path.name, "nothing was written to it yet")

    def _show_events(self) -> None:
        chosen = self.cockpit.experiment
        self.opened = None
        self.query_one("#files").display = False
        none = f"nothing has happened to the runs of {chosen} yet: `cockpit work --detach` trains them"
        self.view.open(of_text(b""), f"events of {chosen}" if chosen else "events", none if chosen else NO_EXPERIMENT)

    def show_files(self, found: list[tuple[str, int, float]]) -> None:
        """List the files; open the newest, unless another was asked for."""
        table = self.query_one("#files", LiveTable)
        table.show(
            {
                path: (Path(path).name, words.size(size), f"{datetime.fromtimestamp(changed):%Y-%m-%d %H:%M:%S}")
                for path, size, changed in found
            }
        )
        table.display = bool(found)
        if self.opened is None:
            if found:
                self._open(Path(found[0][0]))
            else:
                self.view.open(of_text(b""), "logs", f"No logs yet: {states.no_workers(self.cockpit)}")

    def show_events(self, text: bytes) -> None:
        """Show what happened to the runs of the experiment."""
        self.view.change(of_text(text))

    @on(LiveTable.RowSelected, "#files")
    def _choose(self, event: LiveTable.RowSelected) -> None:
        self._open(Path(str(event.row_key.value)))
        self.view.focus()

    def action_switch(self) -> None:
        """Show events instead of files, or files again."""
        self.events = not self.events
        if self.events:
            self._show_events()
        elif self.cockpit.log_file is not None:
            self._open(self.cockpit.log_file)
        self.ask()

    def action_follow(self) -> None:
        """Stay at the end of the file as it grows, or stop that."""
        self.view.follow(not self.view.following)

    def action_search(self) -> None:
        """Ask for a text to search for."""
        search = self.query_one("#search", Input)
        search.display = True
        search.focus()

    @on(Input.Submitted, "#search")
    def _search(self, event: Input.Submitted) -> None:
        self._leave_search()
        if event.value:
            self.view.search(event.value)

    def _leave_search(self) -> None:
        self.query_one("#search").display = False
        self.view.focus()

    def action_find(self, forwards: bool) -> None:
        """Go to where the text sought is next, or was last."""
        self.view.find(forwards)

    def action_start(self) -> None:
        """To the first line."""
        self.view.action_start()

    def action_end(self) -> None:
        """To the last line."""
        self.view.action_end()

    def action_back(self) -> None:
        """Leave the search; else the screen."""
        if self.query_one("#search").display:
            self._leave_search()
        elif not self.view.stop():
            self.app.switch_mode("dashboard")


def _files(folder: Path) -> list[tuple[str, int, float]]:
    """The log files: path, size, when last changed; the newest first."""
    found = []
    for path in folder.glob("*.log"):
        try:
            stat = path.stat()
        except OSError:  # removed meanwhile
            continue
        found.append((str(path), stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda file: file[2], reverse=True)


def _events(connection: sqlite3.Connection, experiment: str) -> bytes:
    try:
        found = history.events(connection, queue.experiment_id(connection, experiment))
    except InputError:  # it was removed meanwhile
        return b""
    return "".join(f"{words.event(event)}\n" for event in found).encode()
