"""The texts of empty screens: why nothing is shown, and the key or command that changes that."""

import shlex
import sqlite3

from cockpit.text import words
from cockpit.tui.host import Host
from engine.store import rows, workers
from engine.store.row_types import Experiment

NONE = "No experiments yet.\n\n{key}In a shell:\n\n  cockpit run digits"
ADD = "n adds one here. "
START = "w starts workers here. In a shell:\n\n  cockpit work --detach"


def no_experiments(read_only: bool) -> str:
    """The text for a database without experiments."""
    return NONE.format(key="" if read_only else ADD)


def nobody(starting: int, read_only: bool) -> str:
    """The text in place of workers while none has reported."""
    if starting:
        return "workers are starting …"
    return "no workers" if read_only else "no workers: w starts them"


def no_workers(host: Host) -> str:
    """The same, with the key or command that starts workers."""
    said = nobody(host.starting, host.read_only)
    return said if host.starting else f"{said}\n\nIn a shell:\n\n  cockpit work --detach"


def untrained(connection: sqlite3.Connection, name: str, read_only: bool, what: str = "results") -> str:
    """Why an experiment has no results (or other `what`) yet, and the key or command that helps."""
    row = connection.execute("SELECT id FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is None:
        return f"{name} has been removed."
    (found,) = rows.experiments(connection, row[0])
    return f"{name} has no {what} yet.\n\n{_reason(connection, found, read_only)}"


def _reason(connection: sqlite3.Connection, experiment: Experiment, read_only: bool) -> str:
    named = shlex.quote(experiment.name)
    if experiment.status == "running":
        return "It is being trained: the first result appears when a run ends."
    if experiment.status in ("paused", "cancelled"):
        why = f" ({experiment.reason})" if experiment.reason else ""
        key = "" if read_only else "P resumes it. "
        return f"It is {experiment.status}{why}. {key}In a shell:\n\n  cockpit queue resume {named}"
    if experiment.status != "waiting":
        key = "" if read_only or not experiment.failed else "R trains them again. "
        why = f": {experiment.why}" if experiment.why else ""
        return f"{words.problems(experiment)}{why}. {key}In a shell:\n\n  cockpit queue show {named}"
    if any(worker.state not in ("dead", "silent") for worker in workers.present(connection)):
        return f"It waits for {experiment.waits_for}: workers train other runs first."
    if workers.starting(connection):
        return "Workers are starting: they train it."
    return "In a shell:\n\n  cockpit work --detach" if read_only else START
