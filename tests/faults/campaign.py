"""Many workers killed, two at a time, in real training; their results are compared with undisturbed work."""

import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

from engine.desk.wire import Address
from engine.store import database, leases
from engine.store.records import LOST_ALLOWED
from tests import heads
from tests.faults import outcomes, victim

AT_ONCE = 2
ENDED = (0, -SIGTERM)  # SIGTERM: asked to end before it began
RANDOM = "a random moment"  # not a named point
STOPPED, ASKED, HEAD = "stopped past its lease", "asked to end", "the head"  # faults of a cluster, at random moments
RANDOM_SHARE = 5  # for each kill at every named point
AT_RANDOM = (RANDOM, STOPPED, ASKED, HEAD)
LONGEST_DELAY = 1.0  # seconds from a worker's first claim to a random moment
MOST_PASSINGS = {"mid epoch": 150, "checkpoint half written": 150, "between checkpoint and record": 12}
FEW_PASSINGS = 3
LEASE_SECONDS = 6.0  # in a cluster; two minutes in the product
PAUSE_SECONDS = 1.5 * LEASE_SECONDS
CHECKPOINT_SECONDS = (0.0, 0.05, 60.0)  # at every step, now and then, never


@dataclass
class Attack:
    """A worker to kill: at which point, and with which checkpoints."""

    point: str
    times: int
    checkpoint_seconds: float
    delay: float
    worker: victim.Victim
    claimed_at: float | None = None
    asked: bool = False  # to end
    stopped: bool = False

    @property
    def is_due(self) -> bool:
        """Whether the delay since its first claim is over."""
        if self.claimed_at is None and self.worker.claimed():
            self.claimed_at = time.monotonic()
        return self.claimed_at is not None and time.monotonic() - self.claimed_at >= self.delay

    def __str__(self) -> str:
        self.worker.claimed()
        moment = f"{self.delay:.2f} s after its first claim" if self.point in AT_RANDOM else f"passing {self.times}"
        saved = f"checkpoints every {self.checkpoint_seconds:g} s"
        return f"{self.point}, {moment}; {self.worker.run}; {saved}"


@dataclass
class Campaign:
    """Kill at least a number of workers, at all named points and at random moments, on as many databases as needed.

    In a `cluster`, the victims have joined a head of the database. Further workers are stopped for longer than their
    lease, or asked to end, and the head is killed; these workers then continue, and are killed like the rest.
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
        self.others = [STOPPED, ASKED, HEAD] if self.cluster else []
        self.head: Address | None = None
        self.leader: BaseProcess | None = None

    def run(self, folder: Path) -> None:
        """Kill, let the work be finished, and compare. Raises AssertionError for any difference."""
        self.say(f"seed {self.seed}")
        expected = outcomes.undisturbed(folder / "undisturbed.db")
        for number in count(1):
            path = folder / f"{number}.db"
            outcomes.queue_work(path)
            with self._led(path):
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

    @contextmanager
    def _led(self, path: Path) -> Iterator[None]:
        """Have a head for the database, if this is a cluster, in a process that may be killed."""
        if self.cluster:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.head = Address("tcp", "127.0.0.1", free.getsockname()[1])
            self.leader = heads.start(path, self.head, LEASE_SECONDS)
        try:
            yield
        finally:
            if self.leader:
                self.leader.kill()
                self.leader.join()

    def _over(self) -> bool:
        return self.killed.total() >= self.kills and self.killed.keys() >= {*self.points, *self.others, RANDOM}

    def _attack(self, path: Path) -> None:
        """Start one worker after the other on a database, until its work or the kills are done."""
        live: list[Attack] = []
        finished = False
        while live or not (finished or self._over()):
            if len(live) < AT_ONCE and not (finished or self._over()):
                live.append(self._send(path))
            time.sleep(0.005)
            finished = finished or bool(self.head and not _is_open(path))
            for attack in live:
                if attack.is_due:
                    with suppress(ProcessLookupError):  # it ended meanwhile
                        self._strike(path, attack)
                if finished:
                    self._end(attack.worker)
            for attack in [attack for attack in live if attack.worker.process.exitcode is not None]:
                live.remove(attack)
                if attack.asked and attack.worker.end() in ENDED:
                    self._count(attack, ASKED)
                elif attack.worker.end() in ENDED:  # no work was left before its point
                    finished = True
                    self.agenda.append(attack.point)
                else:
                    assert attack.worker.end() == -SIGKILL, victim.log_of(path).read_text()
                    self._count(attack, attack.point)

    def _count(self, attack: Attack, what: str) -> None:
        self.killed[what] += 1
        self.say(f"{self.killed.total():4} {attack}")

    def _strike(self, path: Path, attack: Attack) -> None:
        """Do what is due at a random moment. Whoever outlives it is killed at another."""
        if attack.point == RANDOM:
            attack.worker.process.kill()
        elif attack.point == ASKED and not attack.asked:
            attack.asked = True
            attack.worker.process.terminate()
        elif attack.point == STOPPED and not attack.stopped:
            attack.stopped = True
            attack.worker.signal(SIGSTOP)
            attack.delay += PAUSE_SECONDS
        elif attack.point == STOPPED:
            attack.worker.signal(SIGCONT)
            self._go_on(attack)
        elif attack.point == HEAD:
            assert self.leader
            assert self.head
            self.leader.kill()
            self.leader.join()
            self.leader = heads.start(path, self.head, LEASE_SECONDS)
            self._go_on(attack)

    def _go_on(self, attack: Attack) -> None:
        self._count(attack, attack.point)
        attack.point = RANDOM
        attack.delay += self.draw.uniform(0, LONGEST_DELAY)

    def _end(self, worker: victim.Victim) -> None:
        """Ask a worker to end, which would wait for more work from its head."""
        if self.head:
            worker.process.terminate()
            with suppress(ProcessLookupError):
                worker.signal(SIGCONT)

    def _send(self, path: Path) -> Attack:
        point = self._next_point(path)
        times = self.draw.randint(1, MOST_PASSINGS.get(point, FEW_PASSINGS))
        delay = self.draw.uniform(0, LONGEST_DELAY)
        seconds = 0.0 if "checkpoint" in point else self.draw.choice(CHECKPOINT_SECONDS)
        trap = victim.Trap(point, times, lease=LEASE_SECONDS if self.cluster else None)
        worker = victim.start(path, "--checkpoint-seconds", seconds, trap=trap, head=self.head)
        return Attack(point, times, seconds, delay, worker)

    def _next_point(self, path: Path) -> str:
        """The next kill, unless a run is close to the number of lost workers after which it has failed.

        Each worker started may add one to the recorded number, and so may one whose death is not recorded yet.
        """
        with closing(database.reader(path)) as connection:
            lost = connection.execute("SELECT max(lost) FROM runs").fetchone()[0]
        if lost + 2 * AT_ONCE > LOST_ALLOWED:
            return "after done"
        if not self.agenda:
            self.agenda = [*self.points, *self.others, *self.others, *[RANDOM] * RANDOM_SHARE]
            self.draw.shuffle(self.agenda)
        return self.agenda.pop()


def _is_open(path: Path) -> bool:
    """Whether work is left in a database."""
    with closing(database.reader(path)) as connection:
        return bool(leases.unfinished(connection))
