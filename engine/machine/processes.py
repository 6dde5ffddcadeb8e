"""How this program starts another Python process of its own, and tells whether one has ended."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.errors import InputError

ROOT = Path(__file__).parents[2]


def python(module: str) -> list[str]:
    """The command that runs a module of this project, whatever files lie in the current folder (hence -P)."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The environment for it, in which this project is found even if it runs from a checkout."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)}


def ask(module: str, *arguments: object) -> Any:
    """What a module of this project, run as a process of its own, `answer`s; what it says on stderr is passed on.

    So a program that imports no torch can ask for what needs it. Raises the InputError that was raised there.
    """
    done = subprocess.run(
        [*python(module), *map(str, arguments)], env=environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise InputError(f"{module} ended with code {done.returncode} and no answer") from None
    if "error" in found:
        raise InputError(found["error"])
    return found["answer"]


def answer(find: Callable[[], object]) -> None:
    """In the process that was asked: print what `find` returns, or why it cannot, as JSON on stdout."""
    try:
        print(json.dumps({"answer": find()}))
    except InputError as error:
        print(json.dumps({"error": str(error)}))
    except OSError as error:
        print(json.dumps({"error": f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"}))
    except KeyboardInterrupt:
        sys.exit(130)


HALTED = 3  # exit code of a worker that cannot use its database: another one in its place could not either
RENEWED = 4  # exit code of a worker whose process can train no more, for another one to take its place
HALT = "halted: "  # before the reason, in its log


def say(line: str) -> None:
    """Print a line, which a worker's pool writes into its log. On a full disk it is lost, and work goes on."""
    with suppress(OSError):
        print(line, flush=True)


_spent: list[str] = []


def spend(why: str) -> None:
    """Say that this process should train nothing more: what a library keeps in it may be broken from now on."""
    say(f"this process trains nothing more after this run: {why}")
    _spent.append(why)


def is_spent() -> bool:
    """Whether this process should train nothing more (`spend`)."""
    return bool(_spent)


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
