"""The cockpit: the application that holds the screens. It is a client of the database; closing it stops no work."""

from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.reactive import var

from cockpit.tui import themes
from cockpit.tui.reader import Reader, Trouble
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.dashboard import Dashboard
from engine.errors import unknown


class Cockpit(App[None]):
    """The terminal cockpit on one database. Where it is `read_only`, it offers nothing that changes that."""

    TITLE = "cockpit"
    CSS_PATH = "cockpit.tcss"
    MODES: ClassVar[dict[str, Any]] = {"dashboard": Dashboard}
    DEFAULT_MODE = "dashboard"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "switch_mode('dashboard')", "Dashboard", id="screen.dashboard", show=False),
        Binding("q", "quit", "Quit", id="app.quit"),
    ]

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]  # noqa: RUF012 - as textual has it
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-low"), (40, "-tall")]  # noqa: RUF012

    experiment: var[str | None] = var(None)

    def __init__(self, path: Path, *, read_only: bool = False, theme: str | None = None) -> None:
        super().__init__()
        self.path, self.read_only = path, read_only
        for own in themes.THEMES:
            self.register_theme(own)
        wanted = theme or themes.DEFAULT
        if wanted not in self.available_themes:
            raise unknown("theme", wanted, self.available_themes)
        self.theme = wanted
        self.reader = Reader(path, self)

    def on_mount(self) -> None:
        self.reader.start()

    def on_unmount(self) -> None:
        self.reader.end()

    @on(Trouble)
    def _trouble(self, message: Trouble) -> None:
        if isinstance(self.screen, CockpitScreen):
            self.screen.trouble(message.why)
