"""How this program starts another Python process of its own, and tells whether one has ended."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.errors import InputError

ROOT = Path(__file__).parents[1]


def python(module: str) -> list[str]:
    """The command that runs a module of this project, whatever files lie in the current folder (hence -P)."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The environment for it, in which this project is found even if it runs from a checkout."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)}


def ask(module: str, *arguments: object) -> Any:
    """The JSON that a module of this project prints, run in a process of its own: one may import torch there.

    Its last line on stderr becomes an InputError if it fails.
    """
    command = [*python(module), *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"{module} ended with {done.returncode}"])[-1]
        raise InputError(said.removeprefix(f"{InputError.__module__}.{InputError.__name__}: "))
    return json.loads(done.stdout)


def say(line: str) -> None:
    """Print a line, which a worker's pool writes into its log. On a full disk it is lost, and work goes on."""
    with suppress(OSError):
        print(line, flush=True)


def started(pid: int) -> float:
    """When a process started, in seconds since 1970. Together with its pid that says which process it is."""
    import psutil

    return float(psutil.Process(pid).create_time())


def gone(pid: int, process_started: float, silent: bool = True) -> bool:
    """Whether the process of this machine that had this pid and start time has ended.

    Its pid may be another's by now, which started at another time. A start time that differs is believed only of a
    process that is `silent` too: start times are told relative to the clock, and move with it when that is set.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return bool(abs(process.create_time() - process_started) >= 1.0 and silent)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # it is there, and another user's
        return False
