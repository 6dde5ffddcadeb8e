"""Logs: the events of an experiment's runs, and the output of workers and pools."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from cockpit.text import words
from cockpit.tui import states
from cockpit.tui.plain import Plain, plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.logview import LogView, of_path, of_text
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import events
from engine.errors import InputError
from engine.store import database, history, queue

MOST = 1000  # number of newest events
NO_EXPERIMENT = "no experiment: choose one on the dashboard (key 1), or add one with `cockpit queue add`"


class Logs(CockpitScreen):
    """The events of the experiment under the dashboard's cursor, and log files."""

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
    ]

    shows_events = True  # whether events are shown instead of files

    def body(self) -> ComposeResult:
        with Horizontal(), Vertical():
            yield Plain(id="no-events")
            yield LiveTable(events.HEADINGS, id="events")
            yield LiveTable(("log", "size", "changed"), id="files")
            yield LogView(id="log")
            yield Input(placeholder="search: Enter: start, Esc: cancel", id="search", compact=True)

    def on_mount(self) -> None:
        self.found: Mapping[str, events.Row] = {}
        self.opened: Path | None = None
        self.query_one("#files").border_title = "logs, the newest first"
        self.query_one("#search").display = False
        self._show_events()

    @property
    def view(self) -> LogView:
        """The widget that shows the lines."""
        return self.query_one(LogView)

    def chosen(self) -> Sequence[str]:
        """No experiment, as actions must not apply to experiments that are not shown."""
        return ()

    def queries(self) -> Mapping[str, Query]:
        chosen, folder = self.cockpit.experiment, database.files_folder(self.cockpit.path) / "logs"
        if not self.shows_events:
            return {"files": lambda _: _files(folder)}
        return {"events": lambda connection: _events(connection, chosen)} if chosen else {}

    def on_screen_resume(self) -> None:
        wanted = self.cockpit.log_file
        if wanted is not None and wanted != self.opened:
            self._open(wanted)
        elif self.shows_events:
            self._show_events()
        super().on_screen_resume()

    def _show_only(self, *names: str) -> None:
        for name in ("no-events", "events", "files", "log"):
            self.query_one(f"#{name}").display = name in names

    def _open(self, path: Path) -> None:
        """Show the log of this name in the database's folder. Only its name is used: rows may hold any path."""
        place = database.files_folder(self.cockpit.path) / "logs" / path.name
        self.shows_events, self.cockpit.log_file, self.opened = False, path, path
        self._show_only("files", "log")
        self.view.open(of_path(place), path.name, "nothing was written to it yet")
        self.view.focus()

    def _show_events(self) -> None:
        chosen = self.cockpit.experiment
        self.opened = self.cockpit.log_file = None
        table = self.query_one("#events", LiveTable)
        table.border_title = plain(f"events of {chosen}, the newest first" if chosen else "events")
        none = f"nothing has happened to the runs of {chosen} yet: `cockpit work --detach` trains them"
        self.query_one("#no-events", Plain).update(none if chosen else NO_EXPERIMENT)
        self._show_only("events" if self.found else "no-events")
        table.focus()

    def show_files(self, found: list[tuple[str, int, float]]) -> None:
        """List the files; open the newest unless another was asked for."""
        table = self.query_one("#files", LiveTable)
        table.show(
            {
                path: (Path(path).name, words.size(size), f"{datetime.fromtimestamp(changed):%Y-%m-%d %H:%M:%S}")
                for path, size, changed in found
            }
        )
        table.display = bool(found)
        if self.opened is None:
            self._show_only("files", "log")
            if found:
                self._open(Path(found[0][0]))
            else:
                self.view.open(of_text(b""), "logs", f"No logs yet: {states.no_workers(self.cockpit)}")

    def show_events(self, found: Mapping[str, events.Row]) -> None:
        """Show the events of the experiment's runs."""
        self.found = found
        if self.shows_events:
            self.query_one("#events", LiveTable).show({key: row.cells for key, row in found.items()})
            self._show_only("events" if found else "no-events")

    @on(LiveTable.RowSelected, "#events")
    def _open_run(self, event: LiveTable.RowSelected) -> None:
        if row := self.found.get(str(event.row_key.value)):
            self.cockpit.open_run(row.run)

    @on(LiveTable.RowSelected, "#files")
    def _choose(self, event: LiveTable.RowSelected) -> None:
        self._open(Path(str(event.row_key.value)))
        self.view.focus()

    def action_switch(self) -> None:
        """Show events instead of files, or files again."""
        self.shows_events = not self.shows_events
        if self.shows_events:
            self._show_events()
        self.ask()

    def action_follow(self) -> None:
        """Follow the end of the file as it grows, or stop following."""
        self.view.follow(not self.view.following)

    def action_search(self) -> None:
        """Ask for a text to search for, or for words to filter the events by."""
        if self.shows_events:
            self.action_filter()
            return
        search = self.query_one("#search", Input)
        search.display = True
        self.set_focus(search)

    @on(Input.Submitted, "#search")
    def _search(self, event: Input.Submitted) -> None:
        self._leave_search()
        if event.value:
            self.view.search(event.value)

    def _leave_search(self) -> None:
        self.query_one("#search").display = False
        self.view.focus()

    def action_find(self, forwards: bool) -> None:
        """Go to the next or previous line with the text searched for."""
        self.view.find(forwards)

    def action_start(self) -> None:
        """Go to the first line."""
        self.view.action_start()

    def action_end(self) -> None:
        """Go to the last line."""
        self.view.action_end()

    def leave(self) -> None:
        """End the search, else leave the screen."""
        if self.query_one("#search").display:
            self._leave_search()
        elif self.shows_events or not self.view.stop():
            super().leave()

    def refilter(self) -> None:
        """Show only the events that match."""
        self.query_one("#events", LiveTable).narrow(self.filter)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action is offered: those on lines only while a file is shown."""
        return not (self.shows_events and action in ("follow", "find", "start", "end"))


def _files(folder: Path) -> list[tuple[str, int, float]]:
    """The log files: path, bytes and time of change, newest first."""
    found = []
    for path in folder.glob("*.log"):
        try:
            stat = path.stat()
        except OSError:  # removed meanwhile
            continue
        found.append((str(path), stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda file: file[2], reverse=True)


def _events(connection: sqlite3.Connection, experiment: str) -> Mapping[str, events.Row]:
    try:
        found = history.events(connection, queue.experiment_id(connection, experiment))
    except InputError:  # it was removed meanwhile
        return {}
    return dict(islice(events.folded(found).items(), MOST))
