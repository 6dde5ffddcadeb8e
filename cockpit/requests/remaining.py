"""How long what is queued still takes: of each active experiment, and of all, on the workers of now."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from cockpit.text import words
from engine.analysis import estimates
from engine.analysis.estimates import Estimate
from engine.machine import devices
from engine.machine.devices import Device
from engine.store import workers

BAR = 10  # columns


@dataclass(frozen=True)
class Remaining:
    """The time left in words, of each active experiment and of all; empty where nothing is left to train."""

    total: str = ""
    of: Mapping[str, str] = field(default_factory=dict)


def read(connection: sqlite3.Connection) -> Remaining:
    """The time left if the workers of now train on; without workers, one a device of this machine."""
    present = [row for row in workers.present(connection) if row.state != "dead"]
    places = [Device(row.device, None, False) for row in present] or devices.found()
    each, together = estimates.estimate(connection, (), places)
    return Remaining(_said(together), {name: _said(one) for name, one in each.items()})


def _said(one: Estimate) -> str:
    if not one.runs:
        return ""
    if not one.timed:
        return "unknown"
    return ("> " if one.untimed else "") + words.duration(one.seconds)


def bar(done: int, runs: int, width: int = BAR) -> str:
    """How many runs are done as a bar, full only when all are."""
    full = done * width // runs if runs else 0
    return "━" * full + "─" * (width - full)
