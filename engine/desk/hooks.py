"""Telling someone that an experiment has ended: a command of theirs, called once for each end."""

import os
import sqlite3
import subprocess
from pathlib import Path

from engine.machine import processes
from engine.store import history, rows


def notify(connection: sqlite3.Connection, path: Path, command: str, run_id: int) -> None:
    """Call `command` in a shell for each experiment that ended with this run, or was paused because of it.

    It finds what it is about in COCKPIT_EXPERIMENT, COCKPIT_STATUS (done, failed, diverged, blocked, paused) and
    COCKPIT_DB. It is not waited for; its output goes to the worker's log.
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
            processes.say(f"it cannot be called: {error}")
