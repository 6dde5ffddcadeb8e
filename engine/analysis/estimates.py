"""Estimates of the time and disk that the queue takes on given devices, from finished runs. No torch.

The time of a run on a card is the median over finished runs of its kind on cards of this model, else over runs of its
network on other images, scaled by the pixels trained on. If none ran on this model, runs on other CUDA cards (or other
CPUs) count; if none did either, the longest time on another device of the estimate. The runs are then scheduled on the
devices in the order of claims, each once the runs that it needs are done, and each only on a worker with the number of
devices that share its batches.
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

# The columns of `Work`. Files: a dense run leaves two states, a later run of a chain one mask, other runs nothing. Few
# recipes set a validation part or limit testing, and finding the word is faster than parsing.
_WORK = f"""
    model, width, batch_size, profile, {SPLIT}, target_dataset, epochs,
    iif(instr(recipe, '"validation"'), json_extract(recipe, '$.training.validation'), 0.0),
    iif(instr(recipe, '"test_images"'), json_extract(recipe, '$.training.test_images'), NULL),
    iif(ticket = 'line', json_extract(recipe, '$.ticket.points'), 0), target,
    CASE WHEN ticket = 'dense' THEN 'dense'
         WHEN {IS_LINK} THEN 'link' END
"""


class Card(NamedTuple):
    """A card, for the time of a run."""

    kind: str  # cpu or cuda
    model: str | None = None  # None: any

    @staticmethod
    def of(device: str | None, model: str | None) -> "Card":
        """The card of a device as recorded for workers and runs: cpu, cuda:0, cuda:0+cuda:1."""
        return Card(re.split("[:+]", device or "", maxsplit=1)[0], model)


class Place(NamedTuple):
    """The cards and machine of one worker, which trains one run at a time, or a device for which one may be started."""

    card: Card
    host: str
    split: int | None = None  # the worker's number of devices, and that of each run that it takes; None: no worker yet


Key = tuple[object, ...]  # what runs of the same time or file size have in common, of `Work`


@dataclass(frozen=True)
class Unknown:
    """A number of runs whose time is unknown until the first of their kind is done."""

    model: str
    data_set: str
    runs: int


@dataclass(frozen=True)
class Untaken:
    """A number of runs that no worker takes, as none has as many devices as they are split over."""

    split: int
    runs: int


@dataclass(frozen=True)
class Estimate:
    """The runs left to train of one or several experiments, and their cost. Runs of unknown cost count as 0."""

    runs: int
    device_seconds: float  # summed over devices
    seconds: float  # from now until the last of these runs ends, with all runs claimed before them
    bytes: int  # of new ticket files
    untimed: tuple[Unknown, ...]
    untaken: tuple[Untaken, ...]
    unsized: int  # number of runs that will leave files of unknown size

    @property
    def timed(self) -> int:
        """The number of runs with a known time."""
        return self.runs - sum(one.runs for one in self.untimed + self.untaken)


class Work(NamedTuple):
    """All that the time and the files of a run depend on, except the device."""

    model: str
    width: float
    batch_size: int
    profile: str
    split: int  # number of devices that share each batch
    data_set: str  # its identity
    epochs: int
    validation: float
    test_images: int | None  # None: all
    points: int  # networks to evaluate on a line, which trains none; 0: no line
    name: str  # of the data set
    leaves: str | None  # kind of files: dense, link, or None

    @property
    def kind(self) -> Key:
        """Runs of one kind take the same time."""
        return self[:10]

    @property
    def network(self) -> Key:
        """Runs of one network take a time proportional to the pixels trained on."""
        return self[:5]

    @property
    def file(self) -> Key:
        """Runs of one key leave files of the same size."""
        return (self.model, self.width, self.leaves)


class Task(NamedTuple):
    """A run left to train, with what orders it in the queue."""

    id: int
    elapsed: float | None  # seconds since training began; None if it has not
    alone: int
    dependents: int
    work: Work
    card: Card | None = None  # that trains it; None if it waits


@dataclass
class Times:
    """The times of finished runs on cards of one model."""

    seconds: dict[Key, float] = field(default_factory=dict)  # by `Work.kind`
    seconds_per_pixel: dict[Key, float] = field(default_factory=dict)  # by `Work.network`


@dataclass(frozen=True)
class Measured:
    """The times and file sizes of finished runs."""

    times: Mapping[Card, Times]
    pixels: Mapping[str, int]  # of an epoch, by the data set's identity
    bytes: Mapping[Key, float]  # by `Work.file`

    def time(self, work: Work, card: Card) -> float | None:
        """The seconds that such a run takes on a card; None if no run of its network was measured on this kind."""
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
        """The seconds that such a run takes on each of these cards; None if they are known for none."""
        times = [self.time(work, card) for card in cards]
        longest = max((one for one in times if one is not None), default=None)
        return None if longest is None else [longest if one is None else one for one in times]


@dataclass(frozen=True)
class Load:
    """The runs left to train by id, pairs of a run and one that it needs, and the experiments' runs and priorities."""

    tasks: dict[int, Task]
    needs: list[tuple[int, int]]
    wanted: dict[str, set[int]]
    priorities: dict[str, int]

    def in_order(self) -> list[Task]:
        """The runs of all experiments in the order of claims, after those in training."""
        highest: dict[int, int] = {}
        for name in sorted(self.wanted, key=self.priorities.__getitem__):
            highest.update(dict.fromkeys(self.wanted[name], self.priorities[name]))
        tasks = (self.tasks[run] for run in highest)
        return sorted(tasks, key=lambda t: (t.elapsed is None, -t.alone, -highest[t.id], -t.dependents, t.id))


def places(connection: sqlite3.Connection | None) -> list[Place]:
    """The places of the workers of all machines; without workers, the devices of this machine."""
    at_work = [row for row in present(connection) if row.state in AT_WORK] if connection else []
    found = [Place(Card.of(row.device, row.device_name), row.host, row.device.count("+") + 1) for row in at_work]
    return found or [place._replace(split=None) for place in here(devices.usable())]


def here(found: Iterable[devices.Device]) -> list[Place]:
    """The places of workers on these devices of this machine."""
    return [Place(Card.of(one.name, one.model), processes.place().host, one.split) for one in found]


def taking(where: Sequence[Place], split: int) -> list[Card]:
    """The card of each worker that takes runs split over that number of devices; devices without one are grouped."""
    free = [place.card for place in where if place.split is None]
    return [place.card for place in where if place.split == split] + free[: len(free) // split]


def estimate(
    connection: sqlite3.Connection, names: Sequence[str], where: Sequence[Place]
) -> tuple[dict[str, Estimate], Estimate]:
    """The estimate of each of these experiments (without names: of all active ones), and of all together.

    A named experiment is estimated as if it were active.
    """
    waiting = load(connection, names)
    return each(waiting, names or list(waiting.wanted), measurements(connection), where)


def schedule(
    seconds: Sequence[Sequence[float]],
    needs: Iterable[tuple[int, int]],
    pools: Sequence[Sequence[int]],
    takers: Sequence[int],
) -> tuple[list[float], list[float]]:
    """The end and the duration of each run, in seconds, if a free slot takes the first run of its pool that can start.

    Runs are numbered from 0 in the order of claims. `seconds` has the duration of each run on each kind of slot,
    `pools` the kind of each slot of each pool, and `takers` the pool of each run. `needs` are pairs of a run and one
    that must end before it.
    """
    unmet, dependents = [0] * len(seconds), defaultdict(list)
    for run, needed in needs:
        unmet[run] += 1
        dependents[needed].append(run)
    ready: list[list[int]] = [[] for _ in pools]
    for run, number in enumerate(unmet):
        if not number:
            ready[takers[run]].append(run)  # sorted, so each is a heap
    free = [list(range(len(slots))) for slots in pools]
    busy: list[tuple[float, int, int]] = []
    time = 0.0
    ends, took = [0.0] * len(seconds), [0.0] * len(seconds)
    while True:
        for waiting, idle, slots in zip(ready, free, pools, strict=True):
            while waiting and idle:
                run, slot = heappop(waiting), heappop(idle)
                took[run] = seconds[run][slots[slot]]
                ends[run] = time + took[run]
                heappush(busy, (ends[run], run, slot))
        if not busy:
            return ends, took
        time = busy[0][0]
        while busy and busy[0][0] == time:
            _, ended, slot = heappop(busy)
            heappush(free[takers[ended]], slot)
            for run in dependents[ended]:
                unmet[run] -= 1
                if not unmet[run]:
                    heappush(ready[takers[run]], run)


def load(connection: sqlite3.Connection, names: Sequence[str]) -> Load:
    """The unfinished runs, and those of each experiment that is active or named."""
    cursor = connection.cursor()
    cursor.row_factory = None  # plain tuples: there may be 100,000
    # If most runs are unfinished, reading all in order is faster than the index on the status.
    cursor.execute(
        f"""
        SELECT id, CASE WHEN status = 'running' AND lease_expires_at > :now
                   THEN (julianday(:now) - julianday(started_at)) * 86400.0 END, alone, dependents, device, device_name,
               {_WORK}
        FROM runs NOT INDEXED WHERE status IN ('waiting', 'running')
        """,
        {"now": now()},
    )
    works: dict[tuple[Any, ...], Work] = {}  # few, shared by many tasks
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
    """The times of all runs done, by card, and the sizes of their files."""
    from statistics import fmean, median  # imported here, as it imports fractions

    cursor = connection.cursor()
    cursor.row_factory = None
    pixels = dict(cursor.execute("SELECT identity, train_images * height * width FROM datasets").fetchall())
    cursor.execute(  # a run that was brought here may lack its time or device
        f"SELECT seconds, device, device_name, {_WORK} FROM runs"
        " WHERE status = 'done' AND seconds IS NOT NULL AND device IS NOT NULL"
    )
    seconds: dict[tuple[Card, Key], list[float]] = defaultdict(list)
    rates: dict[tuple[Card, Key], list[float]] = defaultdict(list)
    for (device, model, *columns), values in _grouped(cursor):
        work, own = Work._make(columns), Card.of(device, model)
        for card in {own, Card(own.kind)}:
            seconds[card, work.kind] += values
            if not work.points:
                pixels_of_run = pixels[work.data_set] * work.epochs
                rates[card, work.network] += [one / pixels_of_run for one in values]
    times: dict[Card, Times] = defaultdict(Times)
    for (card, kind), values in seconds.items():
        times[card].seconds[kind] = median(values)
    for (card, network), values in rates.items():
        times[card].seconds_per_pixel[network] = median(values)
    cursor.execute(
        f"""
        SELECT bytes, {_WORK} FROM (SELECT run_id, sum(bytes) AS bytes FROM files GROUP BY run_id)
        JOIN runs ON id = run_id WHERE status = 'done'
        """
    )
    sizes: dict[Key, list[float]] = defaultdict(list)
    for about, values in _grouped(cursor):
        sizes[Work._make(about).file] += values
    return Measured(times, pixels, {file: fmean(values) for file, values in sizes.items()})


def _grouped(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[tuple[Any, ...], list[float]]]:
    """The other columns of rows, each distinct combination with the values of the first column."""
    groups: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        groups[row[1:]].append(row[0])
    return groups.items()


def each(
    load: Load, names: Sequence[str], measured: Measured, where: Sequence[Place]
) -> tuple[dict[str, Estimate], Estimate]:
    """The estimate of each of these experiments, and of all of them, if the workers of `where` train the whole load."""
    order = load.in_order()
    numbers = {task.id: number for number, task in enumerate(order)}
    works = {task.work for task in order}
    taken = {work.split: taking(where, work.split) for work in works}
    cards = {split: list(dict.fromkeys(found)) for split, found in taken.items()}
    times = {work: measured.on_each(work, cards[work.split]) for work in works}
    zero = [0.0] * max(1, len(where))
    left = [_left(task, measured, times[task.work], cards[task.work.split]) or zero for task in order]
    needs = ((numbers[run], numbers[needed]) for run, needed in load.needs if run in numbers and needed in numbers)
    running: dict[int, list[Card]] = defaultdict(list)
    for task in order:
        if task.card:
            running[task.work.split].append(task.card)
    # Runs that no worker takes count as those of unknown time: a slot of their own ends each at once.
    pools = [
        [cards[split].index(one) for one in _slots(running[split], found)] or [0] for split, found in taken.items()
    ]
    position = {split: number for number, split in enumerate(taken)}
    takers = [position[task.work.split] for task in order]
    known = any(seconds is not zero for seconds in left)
    ends, took = schedule(left, needs, pools, takers) if known else ([0.0] * len(left),) * 2

    def of(runs: set[int]) -> Estimate:
        mine = [numbers[run] for run in runs]
        works = Counter(order[number].work for number in mine)
        untimed: Counter[tuple[str, str]] = Counter()
        untaken: Counter[int] = Counter()
        for work, number in works.items():
            if not taken[work.split]:
                untaken[work.split] += number
            elif times[work] is None:
                untimed[work.model, work.name] += number
        leaving = {work: number for work, number in works.items() if work.leaves}
        return Estimate(
            runs=len(mine),
            device_seconds=sum(took[number] for number in mine),
            seconds=max((ends[number] for number in mine), default=0.0),
            bytes=round(sum(measured.bytes.get(work.file, 0.0) * number for work, number in leaving.items())),
            untimed=tuple(Unknown(*key, number) for key, number in sorted(untimed.items())),
            untaken=tuple(Untaken(split, number) for split, number in sorted(untaken.items())),
            unsized=sum(number for work, number in leaving.items() if work.file not in measured.bytes),
        )

    wanted = {name: load.wanted.get(name, set()) for name in names}
    return {name: of(runs) for name, runs in wanted.items()}, of(set().union(*wanted.values()))


def _left(task: Task, measured: Measured, times: list[float] | None, cards: Sequence[Card]) -> list[float] | None:
    """The seconds that a run still takes on each card; None if unknown. A running run stays on its card."""
    if task.card is None or task.elapsed is None:
        return times
    whole = measured.time(task.work, task.card)
    if whole is None:
        return times and [max(0.0, one - task.elapsed) for one in times]
    return [max(0.0, whole - task.elapsed)] * len(cards)


def _slots(running: Sequence[Card], cards: Sequence[Card]) -> list[Card]:
    """The cards in the order in which runs take them: first those of the running runs, which come first."""
    left = Counter(cards)
    first = []
    for card in running:
        if left[card]:
            left[card] -= 1
            first.append(card)
    return first + list(left.elements())
