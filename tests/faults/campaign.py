"""Workers killed by the dozen, two at a time, on real training; what they leave is compared with undisturbed work."""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from signal import SIGKILL, SIGTERM

from engine.desk.wire import Address
from engine.store import database, leases
from engine.store.records import LOST_ALLOWED
from tests import heads
from tests.faults import outcomes, victim

AT_ONCE = 2
ENDED = (0, -SIGTERM)  # the latter where a worker was asked to end before it had begun
RANDOM = "a random moment"  # as against the named points
RANDOM_SHARE = 5  # for each kill at every named point
LONGEST_DELAY = 1.0  # seconds from a worker's first claim to a random moment
MOST_PASSINGS = {"mid epoch": 150, "checkpoint half written": 150, "between checkpoint and record": 12}
FEW_PASSINGS = 3
CHECKPOINT_SECONDS = (0.0, 0.05, 60.0)  # at every step, now and then, never


@dataclass
class Attack:
    """One worker that is to be killed, where, and with which checkpoints."""

    point: str
    times: int
    checkpoint_seconds: float
    delay: float
    worker: victim.Victim
    claimed_at: float | None = None

    def at_random(self) -> None:
        """Kill from outside when the delay is over, if the moment is a random one."""
        if self.claimed_at is None and self.worker.claimed():
            self.claimed_at = time.monotonic()
        if self.point == RANDOM and self.claimed_at and time.monotonic() - self.claimed_at >= self.delay:
            self.worker.process.kill()

    def __str__(self) -> str:
        self.worker.claimed()
        moment = f"{self.delay:.2f} s after its first claim" if self.point == RANDOM else f"passing {self.times}"
        saved = f"checkpoints every {self.checkpoint_seconds:g} s"
        return f"{self.point}, {moment}; {self.worker.run}; {saved}"


@dataclass
class Campaign:
    """At least so many kills, at every named point and at random moments, on as many databases as that takes.

    In a `cluster`, those who are killed have joined a head of the database, which this process is.
    """

    kills: int
    seed: int
    cluster: bool = False
    say: Callable[[str], None] = print
    killed: Counter[str] = field(default_factory=Counter)
    agenda: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.points = [point for point in victim.POINTS if not (self.cluster and point in victim.OF_THE_HEAD)]
        self.head: Address | None = None

    def run(self, folder: Path) -> None:
        """Kill, let the work be finished, and compare. Raises AssertionError where anything differs."""
        self.say(f"seed {self.seed}")
        expected = outcomes.undisturbed(folder / "undisturbed.db")
        for number in count(1):
            path = folder / f"{number}.db"
            outcomes.queue_work(path)
            with heads.leading(path) if self.cluster else nullcontext() as self.head:
                self._attack(path)
                last = victim.start(path, head=self.head)
                while self.head and _is_open(path):
                    time.sleep(0.1)
                self._end(last)
                assert last.end() in ENDED
            outcomes.check_done_once(path)
            assert outcomes.outcome(path) == expected
            self.say(f"database {number}: every run done once, tables and files equal those of undisturbed work")
            if self._over():
                return

    def _over(self) -> bool:
        return self.killed.total() >= self.kills and self.killed.keys() >= {*self.points, RANDOM}

    def _attack(self, path: Path) -> None:
        """Send one worker after the other to a database, until its work or the kills are done."""
        live: list[Attack] = []
        finished = False
        while live or not (finished or self._over()):
            if len(live) < AT_ONCE and not (finished or self._over()):
                live.append(self._send(path))
            time.sleep(0.005)
            finished = finished or bool(self.head and not _is_open(path))
            for attack in live:
                attack.at_random()
                if finished:
                    self._end(attack.worker)
            for attack in [attack for attack in live if attack.worker.process.exitcode is not None]:
                live.remove(attack)
                if attack.worker.end() in ENDED:  # it found no work any more before it came to its point
                    finished = True
                    self.agenda.append(attack.point)
                else:
                    assert attack.worker.end() == -SIGKILL, victim.log_of(path).read_text()
                    self.killed[attack.point] += 1
                    self.say(f"{self.killed.total():4} {attack}")

    def _end(self, worker: victim.Victim) -> None:
        """Ask a worker to end that would wait for more work of its head."""
        if self.head:
            worker.process.terminate()

    def _send(self, path: Path) -> Attack:
        point = self._next_point(path)
        times = self.draw.randint(1, MOST_PASSINGS.get(point, FEW_PASSINGS))
        delay = self.draw.uniform(0, LONGEST_DELAY)
        seconds = 0.0 if "checkpoint" in point else self.draw.choice(CHECKPOINT_SECONDS)
        worker = victim.start(path, "--checkpoint-seconds", seconds, trap=victim.Trap(point, times), head=self.head)
        return Attack(point, times, seconds, delay, worker)

    def _next_point(self, path: Path) -> str:
        """The next on the agenda, unless a run is near the number of ends after which it counts as failed.

        Each of the workers that were sent may add one to those that are recorded, and so may one not found yet.
        """
        with closing(database.reader(path)) as connection:
            lost = connection.execute("SELECT max(lost) FROM runs").fetchone()[0]
        if lost + 2 * AT_ONCE > LOST_ALLOWED:
            return "after done"
        if not self.agenda:
            self.agenda = [*self.points, *[RANDOM] * RANDOM_SHARE]
            self.draw.shuffle(self.agenda)
        return self.agenda.pop()


def _is_open(path: Path) -> bool:
    """Whether work is left in a database."""
    with closing(database.reader(path)) as connection:
        return bool(leases.unfinished(connection))
