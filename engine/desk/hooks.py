"""The user's command, called once for each experiment that ends."""

import os
import sqlite3
import subprocess
from pathlib import Path

from engine.machine import processes
from engine.store import history, rows


def notify(connection: sqlite3.Connection, path: Path, command: str, run_id: int) -> None:
    """Call `command` in a shell for each experiment that ended with this run, or was paused because of it.

    The environment tells the command the experiment's name (COCKPIT_EXPERIMENT), its status (COCKPIT_STATUS: done,
    failed, diverged, blocked or paused) and the database (COCKPIT_DB). The worker does not wait for the command, whose
    output goes to the worker's log.
    """
    ended = history.take_endings(connection, run_id)
    for found in (row for experiment in ended for row in rows.experiments(connection, experiment)):
        about = {
            "COCKPIT_EXPERIMENT": found.name,
            "COCKPIT_STATUS": found.status,
            "COCKPIT_DB": str(path.absolute()),
        }
        processes.say(f"{found.name} is {found.status}: calling {command}")
        try:
            subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL, env={**os.environ, **about})
        except OSError as error:
            processes.say(f"cannot call {command}: {error}")
