"""The start of commands: processor time against an empty Python process's, alternating."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.export import WITHOUT_BYTECODE
from benchmarks.measuring import alternating, ratios, spread
from engine.machine import processes

ROUNDS = 10
EMPTY = "python -c pass"
COMMANDS = {
    "queue list": "queue list",
    "queue list --json": "queue list --json",
    "export": "export --table runs",
    "presets list": "presets list",
}


def measure(quick: bool) -> dict[str, float]:
    """Milliseconds of user and system time of each command, and their ratios to those of `python -c pass`."""
    with tempfile.TemporaryDirectory() as folder:
        path, numbers = Path(folder) / "experiments.db", count()
        add = "queue add --source digits-a --target digits-b"
        program = [*processes.python("cockpit")]
        names = ["queue add", *COMMANDS, "import typer", EMPTY]

        def run(name: str) -> float:
            if name in COMMANDS:
                return _spent(*program, *COMMANDS[name].split(), "--db", str(path))
            if name == "queue add":  # 372 new runs: the paper's transfer, from one half to the other
                new = next(numbers)
                return _spent(*program, *add.split(), "--seed", str(new * 100), "--name", str(new), "--db", str(path))
            return _spent(sys.executable, "-c", name.removeprefix("python -c "))

        timed = alternating(2 if quick else ROUNDS, **{name: partial(run, name) for name in names})
    found: dict[str, float] = {}
    for name, values in timed.items():
        found |= spread(f"{name}, ms", values)
        if name != EMPTY:
            found |= spread(f"{name} against {EMPTY}", ratios(values, timed[EMPTY]))
    return found


def _spent(*command: str) -> float:
    """Milliseconds of processor time of a command with cached bytecode, as users have it."""
    environment = {name: value for name, value in processes.environment().items() if name != WITHOUT_BYTECODE}
    started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, command)
    return (used.ru_utime + used.ru_stime) * 1000
