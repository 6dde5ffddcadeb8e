"""Pictures of all screens: in two sizes, light and dark, and for all states of a database.

If one has changed, `snapshot_report.html` shows the difference; `--snapshot-update` accepts it.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from cockpit.tui import reader
from cockpit.tui.app import Cockpit
from cockpit.tui.dialogs import Confirm
from cockpit.tui.help import Help
from cockpit.tui.reader import Reader
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.compare import Compare
from cockpit.tui.screens.dashboard import Dashboard
from cockpit.tui.screens.devices import Devices
from cockpit.tui.screens.experiment import Experiment
from cockpit.tui.screens.layers import Layers
from cockpit.tui.screens.logs import Logs
from cockpit.tui.screens.queue import Queue
from cockpit.tui.screens.transfer import Transfer
from engine.store import database
from tests.tui.conftest import ALIVE, DEAD, PATH, recorded, still
from tests.tui.driving import until

pytestmark = pytest.mark.usefixtures("fixed")

SMALL, LARGE = (80, 24), (120, 40)
DARK, LIGHT = "cockpit-dark", "cockpit-light"
HOUR = 3600.0
SCREENS: dict[type[Any], Sequence[str]] = {
    Dashboard: (),
    Experiment: ("down", "2"),
    Compare: ("space", "down", "space", "3"),
    Layers: ("4",),
    Queue: ("5",),
    Devices: ("6",),
    Logs: ("7",),
    Transfer: ("n",),
    Help: ("question_mark",),
    Confirm: ("down", "C"),
}
MODES = [screen for screen in SCREENS if issubclass(screen, CockpitScreen) and screen is not Transfer]

Compared = Callable[..., bool]
Before = Callable[[Pilot[None]], Awaitable[None]]


def shown(screen: type[Any]) -> Before:
    """Opens a screen and waits until it is complete."""

    async def before(pilot: Pilot[None]) -> None:
        await still(pilot)
        for key in SCREENS[screen]:
            await pilot.press(key)
            await still(pilot)
        # A dialog opens once the database has been read.
        await until(pilot, lambda: isinstance(pilot.app.screen, screen), times=3)
        if screen is Transfer:
            for field, text in (("source", "digits-a"), ("target", "digits-b, digits")):
                pilot.app.screen.query_one(f"#{field}", Input).value = text
        await still(pilot)

    return before


async def banner(pilot: Pilot[None]) -> None:
    """Waits until the banner shows the error."""
    await until(pilot, lambda: str(pilot.app.screen.query_one("#banner", Static).content), times=3)


@pytest.mark.parametrize(
    ("theme", "size"),
    [(DARK, SMALL), (DARK, LARGE), (LIGHT, LARGE)],
    ids=["dark-80x24", "dark-120x40", "light-120x40"],
)
@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.__name__.lower())
def test_a_screen_while_a_run_is_trained(
    snap_compare: Compared, screen: type[Any], theme: str, size: tuple[int, int]
) -> None:
    app = Cockpit(recorded(ALIVE), theme=theme)
    assert snap_compare(app, terminal_size=size, run_before=shown(screen))


@pytest.mark.parametrize(
    ("pid", "heartbeat"),
    [(None, 0.0), (ALIVE, HOUR), (DEAD, HOUR)],
    ids=["nobody-works", "stale", "dead"],
)
def test_a_dashboard_whose_workers_do_nothing(snap_compare: Compared, pid: int | None, heartbeat: float) -> None:
    assert snap_compare(Cockpit(recorded(pid, heartbeat)), terminal_size=SMALL, run_before=shown(Dashboard))


def test_the_devices_when_a_worker_has_died(snap_compare: Compared) -> None:
    assert snap_compare(Cockpit(recorded(DEAD, HOUR)), terminal_size=SMALL, run_before=shown(Devices))


@pytest.mark.parametrize("screen", MODES, ids=lambda screen: screen.__name__.lower())
def test_a_screen_without_experiments(snap_compare: Compared, screen: type[Any]) -> None:
    database.writer(PATH).close()
    assert snap_compare(Cockpit(PATH), terminal_size=SMALL, run_before=shown(screen))


def test_a_dashboard_without_a_database(snap_compare: Compared) -> None:
    assert snap_compare(Cockpit(PATH), terminal_size=SMALL, run_before=shown(Dashboard))


@pytest.mark.parametrize("screen", MODES, ids=lambda screen: screen.__name__.lower())
def test_a_screen_before_the_first_answer(
    snap_compare: Compared, monkeypatch: pytest.MonkeyPatch, screen: type[Any]
) -> None:
    monkeypatch.setattr(Reader, "run", lambda _: None)
    assert snap_compare(Cockpit(recorded()), press=SCREENS[screen][-1:], terminal_size=SMALL)


def test_a_dashboard_of_a_database_that_another_program_has_locked(
    snap_compare: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(recorded())) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert snap_compare(Cockpit(PATH), terminal_size=SMALL, run_before=banner)


def test_a_dashboard_of_a_file_that_is_no_database(snap_compare: Compared) -> None:
    PATH.write_text("accuracy,level\n0.97,0\n" * 100)
    assert snap_compare(Cockpit(PATH), terminal_size=SMALL, run_before=banner)


def test_a_terminal_that_is_too_small(snap_compare: Compared) -> None:
    assert snap_compare(Cockpit(recorded()), terminal_size=(50, 12), run_before=shown(Dashboard))
