"""Driving the dashboard by keys: open it, and wait for what it shows."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from textual.pilot import Pilot

from cockpit.tui.app import Cockpit
from cockpit.tui.widgets.table import LiveTable

ONE: dict[str, Any] = {"levels": 0, "replicates": 1, "random": ["none"], "target": ["digits-a"]}


async def until(pilot: Pilot[None], condition: Callable[[], Any], seconds: float = 120.0, times: int = 1) -> None:
    """Wait until a condition holds; with `times`, that often in a row, as each pause handles messages of the last."""
    end, held = time.monotonic() + seconds, 0
    while held < times:
        assert time.monotonic() < end, f"still waiting, on {pilot.app.screen}"
        await pilot.pause(0.02)
        await pilot.pause()
        held = held + 1 if condition() else 0


async def eventually(holds: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until a condition holds, without waiting for the screen to rest."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "still waiting"
        await asyncio.sleep(0.02)


def table(pilot: Pilot[None], id: str = "experiments") -> LiveTable:
    return pilot.app.screen.query_one(f"#{id}", LiveTable)


async def opened(pilot: Pilot[None], number: int = 3) -> None:
    await pilot.press("5")
    await until(pilot, lambda: len(table(pilot).shown) == number and table(pilot, "runs").shown)
    await choose(pilot, listed(pilot)[0])


async def choose(pilot: Pilot[None], name: str) -> None:
    table(pilot).point_at(name)
    await until(pilot, lambda: cast("Cockpit", pilot.app).experiment == name)


def listed(pilot: Pilot[None]) -> list[str]:
    return list(table(pilot).shown)
