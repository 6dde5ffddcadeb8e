"""What every screen has: its queries, the status line, the footer, and a notice where the terminal is too small."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType

from cockpit.tui import actions
from cockpit.tui.host import Host, host_of
from cockpit.tui.insides import PaintedOnce
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Fresh, Query
from cockpit.tui.widgets.keybar import KeyBar
from cockpit.tui.widgets.status import StatusLine
from cockpit.tui.widgets.topbar import TopBar
from engine.store.row_types import Experiment

SMALLEST = (60, 16)


class CockpitScreen(PaintedOnce[None]):
    """A screen that shows snapshots of the database.

    The answer to the query called `curves` goes to the method `show_curves`.
    """

    BINDINGS: ClassVar[list[BindingType]] = []

    @property
    def cockpit(self) -> Host:
        """The application."""
        return host_of(self)

    def compose(self) -> ComposeResult:
        columns, lines = SMALLEST
        yield Plain(f"This terminal is too small for the cockpit: {columns}x{lines} is the least.", id="too-small")
        yield TopBar(id="top")
        yield Plain(id="banner")
        yield from self.body()
        yield StatusLine(id="status")
        yield KeyBar(id="keys")

    def body(self) -> ComposeResult:
        """The widgets of this screen, between banner and status line; none if it does not say."""
        yield from ()

    def queries(self) -> Mapping[str, Query]:
        """What this screen wants to know, by name."""
        return {}

    def chosen(self) -> Sequence[str]:
        """The experiments that actions work on: where they are listed, those that are marked, else the one shown."""
        shown = self.cockpit.experiment
        marked = sorted(self.cockpit.marked) if self.query("#experiments") else []
        return marked or ([shown] if shown else [])

    def experiment(self) -> str | None:
        """The experiment whose runs can be opened here."""
        return self.cockpit.experiment

    def standing(self) -> Sequence[Experiment]:
        """How those stand, as far as this screen knows."""
        return ()

    def command(self) -> str:
        """The command that shows the same."""
        return actions.command(actions.SCREENS[self.cockpit.current_mode], self.chosen(), self.cockpit.path)

    def on_screen_resume(self) -> None:
        self.ask()

    @on(events.ScreenResume)
    def _keep_styles(self, event: events.ScreenResume) -> None:
        # They do not depend on whether the screen is looked at, and to find them again has all of it drawn once more.
        event.refresh_styles = False

    def ask(self) -> None:
        """Ask for the answers to `queries`, which may have changed."""
        if self.is_current:
            self.cockpit.reader.want(self, {**self.queries(), **StatusLine.QUERIES})

    @on(Fresh)
    def _show(self, message: Fresh) -> None:
        message.stop()
        if message.name == "starting":
            self.cockpit.starting = message.value
        if message.name in StatusLine.QUERIES:
            self.query_one(StatusLine).show(message.name, message.value)
            self.query_one(TopBar).tell(message.name, message.value)
        show: Any = getattr(self, f"show_{message.name}", None)
        if show is not None:
            show(message.value)
        self.keys_changed()

    def keys_changed(self) -> None:
        """Show the keys that do something now to what is chosen."""
        self.query_one(KeyBar).stand(self.standing())

    def trouble(self, why: str | None, is_error: bool = True) -> None:
        """Say that the database cannot be read now; None when it can again. One that was not made yet is no error."""
        banner = self.query_one("#banner", Plain)
        banner.update(why or "")
        banner.display = why is not None
        banner.set_class(not is_error, "-calm")
        self.query_one(StatusLine).trouble(why is not None and is_error)
