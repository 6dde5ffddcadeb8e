"""The base of all screens: queries, status line, footer, filter, and a notice if the terminal is too small."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from cockpit.tui import actions
from cockpit.tui.host import Host, host_of
from cockpit.tui.insides import PaintedOnce
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Fresh, Query
from cockpit.tui.widgets.keybar import KeyBar
from cockpit.tui.widgets.status import StatusLine
from cockpit.tui.widgets.table import LiveTable
from cockpit.tui.widgets.topbar import TopBar
from engine.store import rows
from engine.store.row_types import Experiment

SMALLEST = (60, 16)


class CockpitScreen(PaintedOnce[None]):
    """A screen that shows snapshots of the database. The answer to a query NAME goes to the method `show_NAME`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", id="filter.open", show=False, tooltip="Show only what has these words"),
        Binding("escape", "back", "Back", id="filter.back", show=False, tooltip="Clear the filter, or go back"),
    ]
    FILTER_HINT: ClassVar[str] = "words to show only what has them; - in front excludes"  # empty: no filter

    @property
    def cockpit(self) -> Host:
        """The application."""
        return host_of(self)

    _standing: Sequence[Experiment] = ()
    _before: Widget | None = None  # the widget with the focus before the filter

    def compose(self) -> ComposeResult:
        columns, lines = SMALLEST
        yield Plain(f"This terminal is too small for the cockpit: {columns}x{lines} is the least.", id="too-small")
        yield TopBar(id="top")
        yield Plain(id="banner")
        yield from self.body()
        if self.FILTER_HINT:
            yield Input(placeholder=self.FILTER_HINT, id="filter", compact=True)
        yield StatusLine(id="status")
        yield KeyBar(id="keys")

    def body(self) -> ComposeResult:
        """The widgets of this screen between banner and status line."""
        yield from ()

    @property
    def filter(self) -> str:
        """The words of the filter."""
        return self.query_one("#filter", Input).value

    def refilter(self) -> None:
        """Apply the filter: by default to the rows of tables."""
        for table in self.query(LiveTable):
            table.narrow(self.filter)

    def leave(self) -> None:
        """Go back to the dashboard."""
        self.app.switch_mode("dashboard")

    def action_filter(self) -> None:
        """Move the focus to the filter at once, so that the next keys do not trigger actions."""
        box = self.query_one("#filter", Input)
        self._before = self.focused if self.focused is not box else self._before
        box.add_class("-open")
        self.set_focus(box)

    def action_back(self) -> None:
        """Clear the filter, else leave the screen."""
        if not self.clear_filter():
            self.leave()

    def clear_filter(self) -> bool:
        """Close and clear the filter; False if it was closed."""
        box = self.query_one("#filter", Input)
        is_open = box.has_class("-open")
        if is_open:
            box.value = ""
            self._end_filter()
        return is_open

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action is offered: the filter only if the screen has something to filter."""
        return action != "filter" or bool(self.FILTER_HINT)

    @on(Input.Changed, "#filter")
    def _filter(self) -> None:
        self.refilter()

    @on(Input.Submitted, "#filter")
    def _end_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.set_class(bool(box.value), "-open")
        if box.has_focus:
            self.set_focus(self._before)

    def queries(self) -> Mapping[str, Query]:
        """The queries of this screen, by name."""
        return {}

    def chosen(self) -> Sequence[str]:
        """The experiments that actions apply to: the marked ones if the screen lists them, else the one shown."""
        shown = self.cockpit.experiment
        marked = sorted(self.cockpit.marked) if self.query("#experiments") else []
        return marked or ([shown] if shown else [])

    def experiment(self) -> str | None:
        """The experiment whose runs this screen can open."""
        return self.cockpit.experiment

    def standing(self) -> Sequence[Experiment]:
        """The rows of the chosen experiments, if they have been read."""
        return self._standing

    def command(self) -> str:
        """The command that shows the same as this screen."""
        return actions.command(actions.SCREENS[self.cockpit.current_mode], self.chosen(), self.cockpit.path)

    def on_screen_resume(self) -> None:
        self.ask()

    @on(events.ScreenResume)
    def _keep_styles(self, event: events.ScreenResume) -> None:
        # Bindings do not depend on whether the screen is shown, and updating them repaints all of it.
        event.refresh_styles = False

    def ask(self) -> None:
        """Send the reader the `queries`, which may have changed."""
        if self.is_current:
            own = self.queries()
            more = {} if "experiments" in own else {"standing": partial(_standing, self.chosen())}
            self.cockpit.reader.want(self, {**own, **more, **StatusLine.QUERIES})

    @on(Fresh)
    def _show(self, message: Fresh) -> None:
        message.stop()
        if message.name == "standing":
            self._standing = message.value
        if message.name == "starting":
            self.cockpit.starting = message.value
        if message.name == "pools":
            self.cockpit.has_pools = bool(message.value)
        if message.name in StatusLine.QUERIES:
            self.query_one(StatusLine).show(message.name, message.value)
            self.query_one(TopBar).tell(message.name, message.value)
        show: Any = getattr(self, f"show_{message.name}", None)
        if show is not None:
            show(message.value)
        self.keys_changed()

    def keys_changed(self) -> None:
        """Update the footer to the keys that have an effect on the chosen experiments."""
        self.query_one(KeyBar).stand(self.standing(), bool(self.chosen()), self.cockpit.has_pools)

    def trouble(self, why: str | None, is_error: bool = True) -> None:
        """Show in the banner why the database cannot be read; None hides it. A missing database is no error."""
        banner = self.query_one("#banner", Plain)
        banner.update(why or "")
        banner.display = why is not None
        banner.set_class(not is_error, "-calm")
        self.query_one(StatusLine).trouble(why is not None and is_error)


def _standing(names: Sequence[str], connection: sqlite3.Connection) -> Sequence[Experiment]:
    """The rows of the experiments of these names that exist."""
    ids = connection.execute(
        "SELECT id FROM experiments WHERE name IN (SELECT value FROM json_each(?))", (json.dumps(names),)
    )
    return tuple(row for (id,) in ids.fetchall() for row in rows.experiments(connection, id))
