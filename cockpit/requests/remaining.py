"""The time left of each active experiment, and of the queue, on the present workers."""

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from cockpit.text import words

if TYPE_CHECKING:
    from engine.analysis.estimates import Estimate

BAR = 10  # columns
UNKNOWN = "unknown"
UNENDED = """
    SELECT DISTINCT e.name FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id
    JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id
    WHERE e.state = 'active' AND r.status IN ('waiting', 'running')
"""


class Remaining(msgspec.Struct, frozen=True):
    """The time left as text, of each active experiment and of all; empty if nothing is left to train.

    `seconds` is the time of all, None if a part of it is unknown; `assumed` names the workers of the estimate.
    """

    total: str = ""
    of: Mapping[str, str] = msgspec.field(default_factory=dict)
    seconds: float | None = None
    assumed: str = ""


def read(connection: sqlite3.Connection) -> Remaining:
    """The time left if the present workers continue; without workers, with one per device of this machine."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM runs WHERE status = 'done')").fetchone()[0]:
        unended = connection.execute(UNENDED).fetchall()  # nothing was measured: what estimates takes time to import
        return Remaining(UNKNOWN if unended else "", {row["name"]: UNKNOWN for row in unended})
    from cockpit.requests.outlook import assumed
    from engine.analysis import estimates

    where = estimates.places(connection)
    each, together = estimates.estimate(connection, (), where)
    seconds = together.seconds if together.runs == together.timed > 0 else None
    return Remaining(_said(together), {name: _said(one) for name, one in each.items()}, seconds, assumed(where))


def _said(one: "Estimate") -> str:
    if not one.runs:
        return ""
    if not one.timed:
        return UNKNOWN
    return ("> " if one.timed < one.runs else "") + words.duration(one.seconds)


def bar(done: int, runs: int, width: int = BAR) -> str:
    """The fraction of runs done as a bar, full only if all are done."""
    full = done * width // runs if runs else 0
    return words.BAR[0] * full + words.BAR[1] * (width - full)
