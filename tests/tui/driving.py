"""The dashboard driven by keys: opened, looked at, and waited for."""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from textual.pilot import Pilot

from cockpit.tui.app import Cockpit
from cockpit.tui.widgets.table import LiveTable
from engine.store import database, rows
from engine.store.row_types import Experiment

ONE: dict[str, Any] = {"levels": 0, "replicates": 1, "random": ["none"], "target": ["digits-a"]}


async def until(pilot: Pilot[None], condition: Callable[[], Any], seconds: float = 120.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError(f"still waiting, on {pilot.app.screen}")


async def eventually(holds: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for something to be so, also before the screen has come to rest."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        await asyncio.sleep(0.02)


def look(path: Path) -> dict[str, Experiment]:
    with closing(database.reader(path)) as connection:
        return {row.name: row for row in rows.experiments(connection)}


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
