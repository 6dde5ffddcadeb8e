"""The cockpit: the application that holds the screens. It is a client of the database; closing it stops no work."""

from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.reactive import var

from cockpit.tui.reader import Reader, Trouble
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.compare import Compare
from cockpit.tui.screens.dashboard import Dashboard
from cockpit.tui.screens.experiment import Experiment
from cockpit.tui.screens.layers import Layers


class Cockpit(App[None]):
    """The terminal cockpit on one database."""

    TITLE = "cockpit"
    CSS_PATH = "cockpit.tcss"
    MODES: ClassVar[dict[str, Any]] = {
        "dashboard": Dashboard,
        "experiment": Experiment,
        "compare": Compare,
        "layers": Layers,
    }
    DEFAULT_MODE = "dashboard"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "switch_mode('dashboard')", "Dashboard", id="screen.dashboard", show=False),
        Binding("2", "switch_mode('experiment')", "Experiment", id="screen.experiment", show=False),
        Binding("3", "switch_mode('compare')", "Compare", id="screen.compare", show=False),
        Binding("4", "switch_mode('layers')", "Layers", id="screen.layers", show=False),
        Binding("q", "quit", "Quit", id="app.quit"),
    ]

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]  # noqa: RUF012 - as textual has it
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-low"), (40, "-tall")]  # noqa: RUF012

    experiment: var[str | None] = var(None)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.reader = Reader(path, self)
        self.marked: set[str] = set()  # experiments, by name, for the screen Compare
        self.pinned: set[str] = set()

    def on_mount(self) -> None:
        self.reader.start()

    def on_unmount(self) -> None:
        self.reader.end()

    @on(Trouble)
    def _trouble(self, message: Trouble) -> None:
        if isinstance(self.screen, CockpitScreen):
            self.screen.trouble(message.why)
