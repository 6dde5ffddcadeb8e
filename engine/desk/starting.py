"""A head starts machines that join it while the queue can use more of them, and lets idle ones end.

It runs the user's command once for each machine. The command must run until the machine's `cockpit join` ends, as ssh,
srun and `sbatch --wait` do, because the head counts the commands that run.
"""

import math
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

import msgspec

from engine.machine import processes

Machine = tuple[str, str]  # of a pool that joined: its host and the name of its log

STEP_SECONDS = 5.0  # between two looks at the queue
GRACE_SECONDS = 20.0  # for machines that joined a killed head to join this one
PAUSE_SECONDS = 20.0  # after the first failure; twice as long after each further one
YOUNG_SECONDS = 60.0  # a command that ends earlier has failed, unless its machine was told to end
LONGEST_PAUSE = 600.0
FAILURES = 5  # in a row, after which no more are started
CLOSE_SECONDS = 10.0
SHOWN = 500  # characters of stderr


class Plan(msgspec.Struct, frozen=True):
    """What to start, where, for how many machines at most, and after how many idle seconds a machine ends."""

    command: list[str]
    folder: str
    most: int
    idle: float


@dataclass
class _Started:
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    at: float


@dataclass
class Starter:
    """Keeps as many machines at work as the queue can use. `step` is called every STEP_SECONDS."""

    plan: Plan
    now: float
    running: list[_Started] = field(default_factory=list)
    failures: int = 0
    _not_before: float = field(init=False)
    _idle_since: dict[Machine, float] = field(default_factory=dict)
    _why: str = ""  # the last failure that was named
    _told: bool = False  # whether a machine was told to end since the last start

    def __post_init__(self) -> None:
        self._not_before = self.now + GRACE_SECONDS

    def step(self, ready: int, joined: Mapping[Machine, tuple[int, int]], now: float) -> set[Machine]:
        """Start a machine if it is of use; return the machines that should end.

        `ready` runs could start now; `joined` has the number of workers of each machine, and how many of them are idle.
        """
        self._look(now)
        workers, idle = (sum(counts) for counts in zip(*joined.values(), strict=True)) if joined else (0, 0)
        each = max(1, workers // max(1, len(joined)))
        coming = max(0, len(self.running) - sum(count > 0 for count, _ in joined.values())) * each
        if ready > idle + coming and max(len(self.running), len(joined)) < self.plan.most and now >= self._not_before:
            self._start(now)
        return self._idle(joined, now)

    def _idle(self, joined: Mapping[Machine, tuple[int, int]], now: float) -> set[Machine]:
        idle = {machine for machine, (workers, without) in joined.items() if workers and workers == without}
        self._idle_since = {machine: self._idle_since.get(machine, now) for machine in idle}
        ending = {machine for machine, since in self._idle_since.items() if now - since >= self.plan.idle}
        self._told |= bool(ending)
        return ending

    def _start(self, now: float) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the command has ended
        self._told = False
        try:
            process = subprocess.Popen(
                self.plan.command,
                cwd=self.plan.folder,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the head, which tells the machines to end
            )
        except OSError as error:
            errors.close()
            self._failed(f"cannot be run: {error}", now)
            return
        processes.say(f"started a machine (pid {process.pid})")
        self.running.append(_Started(process, errors, now))

    def _look(self, now: float) -> None:
        """Forget the commands that have ended."""
        for one in [*self.running]:
            code = one.process.poll()
            if now - one.at > YOUNG_SECONDS:
                self.failures = 0
            if code is None:
                continue
            self.running.remove(one)
            one.errors.seek(0)
            said = " ".join(one.errors.read().decode(errors="replace").split())[-SHOWN:]
            one.errors.close()
            if self._told and code == 0:
                continue
            if code:
                self._failed(f"ended with code {code}: {said or 'it printed nothing'}", now)
            elif now - one.at < YOUNG_SECONDS:
                self._failed("ended at once: it must run as long as its `cockpit join`, as ssh and srun do", now)

    def _failed(self, why: str, now: float) -> None:
        """Wait before the next start, longer after each failure; name each reason once."""
        self.failures += 1
        pause = min(LONGEST_PAUSE, PAUSE_SECONDS * 2 ** (self.failures - 1))
        self._not_before = now + pause
        if why != self._why:
            self._why = why
            processes.say(f"start command {shlex.join(self.plan.command)!r} {why}; trying again in {pause:.0f} s")
        if self.failures >= FAILURES:
            self._not_before = math.inf
            processes.say(f"the start command failed {FAILURES} times in a row: no more machines are started")

    def close(self) -> None:
        """Wait for the commands, whose machines were told to end; end what is left, such as jobs that still wait."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for one in self.running:
            try:
                one.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.terminate()
            one.errors.close()
        self.running.clear()


def read(text: str) -> Plan:
    """The plan in JSON, as the pool passes it to the head."""
    return msgspec.json.decode(text, type=Plan)


def write(plan: Plan) -> str:
    """The reverse of `read`."""
    return msgspec.json.encode(plan).decode()
