"""The cockpit: the application that holds the screens. It is a client of the database; closing it stops no work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.reactive import var

from cockpit.tui import themes
from cockpit.tui.acting import ActingApp
from cockpit.tui.reader import Reader, Trouble
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.dashboard import Dashboard
from cockpit.tui.screens.queue import Queue
from engine.errors import unknown


class Cockpit(ActingApp):
    """The terminal cockpit on one database. Where it is `read_only`, it offers nothing that changes that."""

    TITLE = "cockpit"
    CSS_PATH: ClassVar[list[Any]] = ["cockpit.tcss", "acting.tcss"]
    MODES: ClassVar[dict[str, Any]] = {"dashboard": Dashboard, "queue": Queue}
    DEFAULT_MODE = "dashboard"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "switch_mode('dashboard')", "Dashboard", id="screen.dashboard", show=False),
        Binding("5", "switch_mode('queue')", "Queue", id="screen.queue", show=False),
        Binding("q", "quit", "Quit", id="app.quit"),
    ]

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]  # noqa: RUF012 - as textual has it
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-low"), (40, "-tall")]  # noqa: RUF012

    experiment: var[str | None] = var(None)

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        theme: str | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.path, self.read_only, self.keys = path, read_only, keys or {}
        self.marked: set[str] = set()  # experiments, by name
        for own in themes.THEMES:
            self.register_theme(own)
        wanted = theme or themes.DEFAULT
        if wanted not in self.available_themes:
            raise unknown("theme", wanted, self.available_themes)
        self.theme = wanted
        self.reader = Reader(path, self)

    def on_mount(self) -> None:
        self.set_keymap(dict(self.keys))
        self.reader.start()

    def on_unmount(self) -> None:
        self.reader.end()

    def open_experiment(self, name: str) -> None:
        """Show the curves of an experiment."""
        self.experiment = name
        self.switch_mode("experiment")

    @on(Trouble)
    def _trouble(self, message: Trouble) -> None:
        if isinstance(self.screen, CockpitScreen):
            self.screen.trouble(message.why)
