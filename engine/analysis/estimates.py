"""How long what is queued will take on some devices, and how much disk: from what was measured. No torch here.

The time of a run on a card is the median of the finished runs of its kind on cards of this model, else that of the same
network on other images, scaled by the pixels trained on. If none ran on this model, those on other CUDA cards (or other
CPUs) count; if none did either, the longest time on another device of the estimate. The runs are then listed on the
devices in the order of claims, each as soon as those that it needs are done.
"""

import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple

from engine.machine import devices, processes
from engine.store.chains import IS_LINK
from engine.store.database import now
from engine.store.leases import SPLIT
from engine.store.workers import AT_WORK, present

# The columns of `Work`. What a run leaves behind: a dense network two states, a later link of a chain one mask, others
# nothing. Few recipes hold out a validation part or limit testing, and looking for a word is faster than parsing.
_WORK = f"""
    model, width, batch_size, profile, {SPLIT}, target_dataset, epochs,
    iif(instr(recipe, '"validation"'), json_extract(recipe, '$.training.validation'), 0.0),
    iif(instr(recipe, '"test_images"'), json_extract(recipe, '$.training.test_images'), NULL),
    iif(ticket = 'line', json_extract(recipe, '$.ticket.points'), 0), target,
    CASE WHEN ticket = 'dense' THEN 'dense'
         WHEN {IS_LINK} THEN 'link' END
"""


class Card(NamedTuple):
    """What the time of a run depends on beside its work: cpu or cuda, and the model; None for any."""

    kind: str
    model: str | None = None

    @staticmethod
    def of(device: str | None, model: str | None) -> "Card":
        """The card of a device as workers and runs record it: cpu, cuda:0, cuda:0+cuda:1."""
        return Card(re.split("[:+]", device or "", maxsplit=1)[0], model)


class Place(NamedTuple):
    """Where one worker trains one run at a time: its card, and its machine."""

    card: Card
    host: str


@dataclass(frozen=True)
class Unknown:
    """Runs whose time is unknown until the first of their kind has ended."""

    model: str
    data_set: str
    runs: int


@dataclass(frozen=True)
class Estimate:
    """What is left to train of one experiment, or of several. What is unknown comes on top."""

    runs: int
    device_seconds: float  # of all devices together
    seconds: float  # until the last run ends, after all that is claimed before
    bytes: int  # of new ticket files
    untimed: tuple[Unknown, ...]
    unsized: int  # runs that will leave files of unknown size

    @property
    def timed(self) -> int:
        """How many of the runs have a known time."""
        return self.runs - sum(unknown.runs for unknown in self.untimed)


class Work(NamedTuple):
    """What the time and the files of a run depend on, beside the device."""

    model: str
    width: float
    batch_size: int
    profile: str
    split: int  # over so many devices
    data_set: str  # its identity
    epochs: int
    validation: float
    test_images: int | None  # None: all
    points: int  # networks to evaluate on a line, which trains none; 0: no line
    name: str  # of the data set
    leaves: str | None  # dense, link, or nothing

    @property
    def kind(self) -> tuple[object, ...]:
        """Runs of the same kind take the same time."""
        return self[:10]

    @property
    def network(self) -> tuple[object, ...]:
        """Runs of the same network take a time that is proportional to the pixels trained on."""
        return self[:5]

    @property
    def file(self) -> tuple[object, ...]:
        """Runs that are the same in this leave files of the same size."""
        return (self.model, self.width, self.leaves)


class Task(NamedTuple):
    """A run that is still to be trained, and its place in the queue."""

    id: int
    elapsed: float | None  # seconds since training began; None where it has not
    alone: int
    dependents: int
    work: Work
    card: Card | None = None  # that trains it


@dataclass
class Times:
    """What finished runs took on cards of one model."""

    seconds: dict[tuple[object, ...], float] = field(default_factory=dict)  # by kind
    seconds_per_pixel: dict[tuple[object, ...], float] = field(default_factory=dict)  # by network


@dataclass(frozen=True)
class Measured:
    """What finished runs took, and what they left."""

    times: Mapping[Card, Times]
    pixels: Mapping[str, int]  # of an epoch, by the data set's identity
    bytes: Mapping[tuple[object, ...], float]  # by file

    def time(self, work: Work, card: Card) -> float | None:
        """The seconds that such a run takes on a card, or None if nothing like it was measured on one of its kind."""
        for times in (self.times.get(card), self.times.get(Card(card.kind))):
            if times is None:
                continue
            if (exact := times.seconds.get(work.kind)) is not None:
                return exact
            rate = times.seconds_per_pixel.get(work.network)
            if rate is not None and not work.points:
                return rate * self.pixels[work.data_set] * work.epochs
        return None

    def on_each(self, work: Work, cards: Sequence[Card]) -> list[float] | None:
        """The seconds that such a run takes on each of these cards; None if that is known of none."""
        found = [self.time(work, card) for card in cards]
        longest = max((one for one in found if one is not None), default=None)
        return None if longest is None else [longest if one is None else one for one in found]


@dataclass(frozen=True)
class Load:
    """What is to be trained: the runs by id, which needs which, and what each experiment wants at which priority."""

    tasks: dict[int, Task]
    needs: list[tuple[int, int]]
    wanted: dict[str, set[int]]
    priorities: dict[str, int]

    def in_order(self) -> list[Task]:
        """The runs that an experiment wants in the order of claims, first those that are being trained."""
        highest: dict[int, int] = {}
        for name in sorted(self.wanted, key=self.priorities.__getitem__):
            highest.update(dict.fromkeys(self.wanted[name], self.priorities[name]))
        tasks = (self.tasks[run] for run in highest)
        return sorted(tasks, key=lambda t: (t.elapsed is None, -t.alone, -highest[t.id], -t.dependents, t.id))


def places(connection: sqlite3.Connection | None) -> list[Place]:
    """The places of the workers of all machines; without workers, one for each device of this machine."""
    at_work = [row for row in present(connection) if row.state in AT_WORK] if connection else []
    return [Place(Card.of(row.device, row.device_name), row.host) for row in at_work] or here(devices.usable())


def here(found: Iterable[devices.Device]) -> list[Place]:
    """The places of devices of this machine."""
    return [Place(Card.of(one.name, one.model), processes.place().host) for one in found]


def estimate(
    connection: sqlite3.Connection, names: Sequence[str], where: Sequence[Place]
) -> tuple[dict[str, Estimate], Estimate]:
    """What is left of these experiments, or if none is named of all that are active: of each, and of all together.

    An experiment that is named is taken as if it were active.
    """
    waiting = load(connection, names)
    return each(waiting, names or list(waiting.wanted), measurements(connection), where)


def schedule(
    seconds: Sequence[Sequence[float]], needs: Iterable[tuple[int, int]], slots: Sequence[int]
) -> tuple[list[float], list[float]]:
    """When each run ends and how long it takes, in seconds, if the first that can start takes the next free slot.

    Runs are numbers from 0, the order in which they are taken; `seconds` has the time of each on each kind of slot, and
    `slots` the kind of each slot. `needs` are pairs of a run and one that must end first.
    """
    unmet, dependents = [0] * len(seconds), defaultdict(list)
    for run, needed in needs:
        unmet[run] += 1
        dependents[needed].append(run)
    ready = [run for run, number in enumerate(unmet) if not number]  # sorted, so it is a heap
    busy: list[tuple[float, int, int]] = []
    free, time = list(range(len(slots))), 0.0
    ends, took = [0.0] * len(seconds), [0.0] * len(seconds)
    while ready or busy:
        while ready and free:
            run, slot = heappop(ready), heappop(free)
            took[run] = seconds[run][slots[slot]]
            ends[run] = time + took[run]
            heappush(busy, (ends[run], run, slot))
        time = busy[0][0]
        while busy and busy[0][0] == time:
            _, ended, slot = heappop(busy)
            heappush(free, slot)
            for run in dependents[ended]:
                unmet[run] -= 1
                if not unmet[run]:
                    heappush(ready, run)
    return ends, took


def load(connection: sqlite3.Connection, names: Sequence[str]) -> Load:
    """The runs that have not ended, and what the active experiments, and those named, want of them."""
    cursor = connection.cursor()
    cursor.row_factory = None  # plain tuples: there may be 100,000
    # Where most runs have not ended, reading all in order is faster than finding them by the index on their status.
    cursor.execute(
        f"""
        SELECT id, CASE WHEN status = 'running' AND lease_expires_at > :now
                   THEN (julianday(:now) - julianday(started_at)) * 86400.0 END, alone, dependents, device, device_name,
               {_WORK}
        FROM runs NOT INDEXED WHERE status IN ('waiting', 'running')
        """,
        {"now": now()},
    )
    works: dict[tuple[Any, ...], Work] = {}  # there are but a few
    tasks: dict[int, Task] = {}
    for row in cursor:
        if (work := works.get(row[6:])) is None:
            work = works[row[6:]] = Work._make(row[6:])
        card = None if row[1] is None else Card.of(row[4], row[5])
        tasks[row[0]] = Task(row[0], row[1], row[2], row[3], work, card)
    needs = cursor.execute("SELECT run_id, needs_id FROM run_needs").fetchall()
    cursor.execute(
        """
        SELECT e.name, e.priority, p.run_id FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id
        JOIN curve_points p ON p.curve_id = c.id
        WHERE e.state = 'active' OR e.name IN (SELECT value FROM json_each(?))
        """,
        (json.dumps(names),),
    )
    wanted: dict[str, set[int]] = defaultdict(set)
    priorities: dict[str, int] = {}
    for name, priority, run in cursor:
        priorities[name] = priority
        if run in tasks:
            wanted[name].add(run)
    return Load(tasks, needs, dict(wanted), priorities)


def measurements(connection: sqlite3.Connection) -> Measured:
    """What the runs took that ended, by the card that trained them; what files they left, on any."""
    from statistics import fmean, median  # with fractions: nothing else here needs them

    cursor = connection.cursor()
    cursor.row_factory = None
    pixels = dict(cursor.execute("SELECT identity, train_images * height * width FROM datasets").fetchall())
    cursor.execute(f"SELECT seconds, device, device_name, {_WORK} FROM runs WHERE status = 'done'")
    seconds: dict[tuple[Card, tuple[object, ...]], list[float]] = defaultdict(list)
    rates: dict[tuple[Card, tuple[object, ...]], list[float]] = defaultdict(list)
    for (device, model, *columns), found in _alike(cursor):
        work, own = Work._make(columns), Card.of(device, model)
        for card in {own, Card(own.kind)}:
            seconds[card, work.kind] += found
            if not work.points:
                pixels_of_run = pixels[work.data_set] * work.epochs
                rates[card, work.network] += [one / pixels_of_run for one in found]
    times: dict[Card, Times] = defaultdict(Times)
    for (card, kind), found in seconds.items():
        times[card].seconds[kind] = median(found)
    for (card, network), found in rates.items():
        times[card].seconds_per_pixel[network] = median(found)
    cursor.execute(
        f"""
        SELECT bytes, {_WORK} FROM (SELECT run_id, sum(bytes) AS bytes FROM files GROUP BY run_id)
        JOIN runs ON id = run_id WHERE status = 'done'
        """
    )
    sizes: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for about, found in _alike(cursor):
        sizes[Work._make(about).file] += found
    return Measured(times, pixels, {file: fmean(found) for file, found in sizes.items()})


def _alike(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[tuple[Any, ...], list[float]]]:
    """The first values of rows by the others."""
    found: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        found[row[1:]].append(row[0])
    return found.items()


def each(
    load: Load, names: Sequence[str], measured: Measured, where: Sequence[Place]
) -> tuple[dict[str, Estimate], Estimate]:
    """The estimate of each of these experiments, and of all of them, if the whole load is trained in these places."""
    order = load.in_order()
    numbers = {task.id: number for number, task in enumerate(order)}
    cards = list(dict.fromkeys(place.card for place in where))
    times = {work: measured.on_each(work, cards) for work in {task.work for task in order}}
    zero = [0.0] * len(cards)
    left = [_left(task, measured, times[task.work], cards) or zero for task in order]
    needs = ((numbers[run], numbers[needed]) for run, needed in load.needs if run in numbers and needed in numbers)
    slots = _slots([task.card for task in order if task.card], [place.card for place in where])
    known = any(seconds is not zero for seconds in left)
    ends, took = schedule(left, needs, list(map(cards.index, slots))) if known else ([0.0] * len(left),) * 2

    def of(runs: set[int]) -> Estimate:
        mine = [numbers[run] for run in runs]
        works = Counter(order[number].work for number in mine)
        untimed: Counter[tuple[str, str]] = Counter()
        for work, number in works.items():
            if times[work] is None:
                untimed[work.model, work.name] += number
        leaving = {work: number for work, number in works.items() if work.leaves}
        return Estimate(
            runs=len(mine),
            device_seconds=sum(took[number] for number in mine),
            seconds=max((ends[number] for number in mine), default=0.0),
            bytes=round(sum(measured.bytes.get(work.file, 0.0) * number for work, number in leaving.items())),
            untimed=tuple(Unknown(*key, number) for key, number in sorted(untimed.items())),
            unsized=sum(number for work, number in leaving.items() if work.file not in measured.bytes),
        )

    wanted = {name: load.wanted.get(name, set()) for name in names}
    return {name: of(runs) for name, runs in wanted.items()}, of(set().union(*wanted.values()))


def _left(task: Task, measured: Measured, times: list[float] | None, cards: Sequence[Card]) -> list[float] | None:
    """The seconds that a run still takes on each card; None if unknown. A run under way stays where it is."""
    if task.card is None or task.elapsed is None:
        return times
    whole = measured.time(task.work, task.card)
    if whole is None:
        return times and [max(0.0, one - task.elapsed) for one in times]
    return [max(0.0, whole - task.elapsed)] * len(cards)


def _slots(running: Sequence[Card], cards: Sequence[Card]) -> list[Card]:
    """The cards in the order in which they are taken: first those of the runs under way, which are first in line."""
    left = Counter(cards)
    first = []
    for card in running:
        if left[card]:
            left[card] -= 1
            first.append(card)
    return first + list(left.elements())
