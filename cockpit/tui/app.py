"""The application with the dashboard's screens. It is a client of the database: closing it stops no worker."""

import asyncio
import gc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual import events, on, work
from textual.binding import Binding, BindingType

from cockpit.tui import exporting, themes
from cockpit.tui.acting import ActingApp
from cockpit.tui.insides import OpenApp
from cockpit.tui.reader import Reader, Trouble
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.compare import Compare
from cockpit.tui.screens.dashboard import Dashboard
from cockpit.tui.screens.devices import Devices
from cockpit.tui.screens.experiment import Experiment
from cockpit.tui.screens.layers import Layers
from cockpit.tui.screens.logs import Logs
from cockpit.tui.screens.queue import Queue
from cockpit.tui.screens.run import RunScreen
from cockpit.tui.widgets.run_picker import RunPicker
from engine.errors import chosen
from engine.store import damage, database

QUIET_SECONDS = 0.15  # after a key, before work in the background
TIDY_SECONDS = 1.0
TIDY_AT = 4  # collections of young objects since the last full one
NEVER = 1_000_000


class Cockpit(OpenApp, ActingApp):
    """The dashboard of one database. If `read_only`, it offers no action that changes the database."""

    TITLE = "cockpit"
    CSS_PATH: ClassVar[list[Any]] = ["cockpit.tcss", "acting.tcss"]
    MODES: ClassVar[dict[str, Any]] = {
        "dashboard": Dashboard,
        "experiment": Experiment,
        "compare": Compare,
        "layers": Layers,
        "queue": Queue,
        "devices": Devices,
        "logs": Logs,
    }
    DEFAULT_MODE = "dashboard"
    NOTIFICATION_TIMEOUT = 3
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "switch_mode('dashboard')", "Dashboard", id="screen.dashboard", show=False),
        Binding("2", "switch_mode('experiment')", "Experiment", id="screen.experiment", show=False),
        Binding("3", "switch_mode('compare')", "Compare", id="screen.compare", show=False),
        Binding("4", "switch_mode('layers')", "Layers", id="screen.layers", show=False),
        Binding("5", "switch_mode('queue')", "Queue", id="screen.queue", show=False),
        Binding("6", "switch_mode('devices')", "Devices", id="screen.devices", show=False),
        Binding("7", "switch_mode('logs')", "Logs", id="screen.logs", show=False),
        Binding(
            "e",
            "export_view",
            "Export view",
            id="app.export",
            show=False,
            tooltip="As CSV, PNG or SVG",
        ),
        Binding(
            "O",
            "open_run",
            "Open run",
            id="app.open-run",
            show=False,
            tooltip="Pick a run: configuration, needs, attempts, epochs, errors, files",
        ),
        Binding(
            "ctrl+z",
            "suspend_process",
            "Suspend",
            id="app.suspend",
            show=False,
            tooltip="Back to the shell; there `fg` opens the dashboard again",
        ),
        Binding("q", "quit", "Quit", id="app.quit"),
    ]

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide"), (150, "-broad")]  # noqa: RUF012 - as textual has it
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-low"), (40, "-tall")]  # noqa: RUF012

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
        self.marked: set[str] = set()
        for own in themes.THEMES:
            self.register_theme(own)
        self.theme = chosen("theme", theme or themes.DEFAULT, self.available_themes)
        self.reader = Reader(path, self)
        self.pinned: set[str] = set()
        self._tidied: set[tuple[str, bool]] = set()  # modes (made, left) whose objects the collector skips
        self._touched = 0.0  # time of the last key or movement of the mouse

    def on_mount(self) -> None:
        self.set_keymap(dict(self.keys))
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))  # the terminal shows the shell's
        self._on_wait, database.on_wait = database.on_wait, self._waiting
        self._collected = gc.get_threshold()
        gc.set_threshold(*self._collected[:2], NEVER)
        self._house = self.run_worker(self._keep_house())
        self.reader.start()

    def on_unmount(self) -> None:
        database.on_wait = self._on_wait
        gc.set_threshold(*self._collected)

    def end(self) -> None:
        """Stop reading and making screens."""
        self.reader.end()
        self._house.cancel()

    def explain(self, error: Exception) -> str:
        """The line about the damage of the database that caused an error; empty if none did."""
        damaged = damage.cause(error, self.path)
        return "" if damaged is None else f"cockpit: error: {damaged}"

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.InputEvent):
            self._touched = time.monotonic()
        await super().on_event(event)

    async def _keep_house(self) -> None:
        """Between keys, make the other screens, so that opening them only paints them, and collect garbage."""
        await asyncio.sleep(TIDY_SECONDS)  # after the first screen
        for mode in self.MODES:
            await self._quiet()
            await self.make(mode)
        while True:
            await self._quiet()
            self._tidy()
            await asyncio.sleep(TIDY_SECONDS)

    async def _quiet(self) -> None:
        """Wait until no key has been pressed for `QUIET_SECONDS`."""
        while (left := self._touched + QUIET_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _tidy(self) -> None:
        """Collect garbage now instead of while a key is handled.

        The objects of a mode's screen stay, so the collector need not visit them, which takes 100 ms. They are frozen
        (`gc.freeze`) when the screen has been made, and when it has been left, because its tables are full then. Not
        more often, because frozen garbage is never freed.
        """
        made = {(mode, screen.stack_updates > 1 and mode != self.current_mode) for mode, screen in self.made().items()}
        if not made <= self._tidied:
            gc.collect(1)  # young objects only
            gc.freeze()
            self._tidied |= made
        elif gc.get_count()[2] >= TIDY_AT:
            gc.collect()

    def delay_update(self, delay: float = 0.05) -> None:
        """Do nothing. Textual would stop painting for `delay` seconds when the screen changes, to hide its building."""

    def _waiting(self, said: str) -> None:
        self.call_from_thread(self.notify, said, severity="warning")

    def action_export_view(self) -> None:
        """Export the view to a file."""
        if isinstance(self.screen, CockpitScreen):
            self.run_worker(exporting.export_view(self, self.screen))

    def open_experiment(self, name: str) -> None:
        """Show the curves of an experiment."""
        self.experiment = name
        self.switch_mode("experiment")

    def open_run(self, run: int) -> None:
        """Show the details of the run with this id."""
        self.push_screen(RunScreen(run))

    @work(group="opening")
    async def action_open_run(self, text: str = "") -> None:
        """Offer the runs of the shown experiment, and show the one that the user picks."""
        if isinstance(self.screen, CockpitScreen):
            picked = await self.push_screen_wait(RunPicker(self.path, self.screen.experiment(), text))
            if picked is not None:
                self.open_run(picked)

    @on(Trouble)
    def _trouble(self, message: Trouble) -> None:
        # The reader's last message may come after the screens have closed.
        if self.is_running and isinstance(self.screen, CockpitScreen):
            self.screen.trouble(message.why, message.is_error)
