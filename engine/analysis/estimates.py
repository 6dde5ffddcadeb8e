"""How long what is queued will take on some devices, and how much disk: from what was measured. No torch here.

The time of a run is the median of the finished runs of its kind on such a device, else that of the same network on
other images, scaled by the pixels trained on. The runs are then listed on the devices in the order of claims, each as
soon as those that it needs are done.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

from engine.machine.devices import Device
from engine.store.chains import IS_LINK
from engine.store.database import now
from engine.store.leases import SPLIT

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


@dataclass(frozen=True)
class Measured:
    """What finished runs took, and what they left."""

    seconds: Mapping[tuple[object, ...], float]  # by kind
    seconds_per_pixel: Mapping[tuple[object, ...], float]  # by network
    pixels: Mapping[str, int]  # of an epoch, by the data set's identity
    bytes: Mapping[tuple[object, ...], float]  # by file

    def time(self, work: Work) -> float | None:
        """The seconds that such a run takes, or None if nothing like it was measured."""
        if (exact := self.seconds.get(work.kind)) is not None:
            return exact
        rate = self.seconds_per_pixel.get(work.network)
        return None if rate is None or work.points else rate * self.pixels[work.data_set] * work.epochs


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


def estimate(
    connection: sqlite3.Connection, names: Sequence[str], places: Sequence[Device]
) -> tuple[dict[str, Estimate], Estimate]:
    """What is left of these experiments, or if none is named of all that are active: of each, and of all together.

    An experiment that is named is taken as if it were active.
    """
    waiting = load(connection, names)
    return each(waiting, names or list(waiting.wanted), measurements(connection, places[0].name), len(places))


def schedule(seconds: Sequence[float], needs: Iterable[tuple[int, int]], slots: int) -> list[float]:
    """When each run ends, in seconds from now, if the first that can start takes the next slot that is free.

    Runs are numbers from 0, the order in which they are taken; `needs` are pairs of a run and one that must end first.
    """
    unmet, dependents = [0] * len(seconds), defaultdict(list)
    for run, needed in needs:
        unmet[run] += 1
        dependents[needed].append(run)
    ready = [run for run, number in enumerate(unmet) if not number]  # sorted, so it is a heap
    busy: list[tuple[float, int]] = []
    ends, time = [0.0] * len(seconds), 0.0
    while ready or busy:
        while ready and len(busy) < slots:
            run = heappop(ready)
            ends[run] = time + seconds[run]
            heappush(busy, (ends[run], run))
        time = busy[0][0]
        while busy and busy[0][0] == time:
            for run in dependents[heappop(busy)[1]]:
                unmet[run] -= 1
                if not unmet[run]:
                    heappush(ready, run)
    return ends


def load(connection: sqlite3.Connection, names: Sequence[str]) -> Load:
    """The runs that have not ended, and what the active experiments, and those named, want of them."""
    cursor = connection.cursor()
    cursor.row_factory = None  # plain tuples: there may be 100,000
    # Where most runs have not ended, reading all in order is faster than finding them by the index on their status.
    cursor.execute(
        f"""
        SELECT id, CASE WHEN status = 'running' AND lease_expires_at > :now
                   THEN (julianday(:now) - julianday(started_at)) * 86400.0 END, alone, dependents, {_WORK}
        FROM runs NOT INDEXED WHERE status IN ('waiting', 'running')
        """,
        {"now": now()},
    )
    works: dict[tuple[Any, ...], Work] = {}  # there are but a few
    tasks: dict[int, Task] = {}
    for row in cursor:
        if (work := works.get(row[4:])) is None:
            work = works[row[4:]] = Work._make(row[4:])
        tasks[row[0]] = Task(row[0], row[1], row[2], row[3], work)
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


def measurements(connection: sqlite3.Connection, device: str) -> Measured:
    """What the runs took that ended on devices of the same kind, CUDA or not; what files they left, on any."""
    from statistics import fmean, median  # with fractions: nothing else here needs them

    cursor = connection.cursor()
    cursor.row_factory = None
    pixels = dict(cursor.execute("SELECT identity, train_images * height * width FROM datasets").fetchall())
    cursor.execute(
        f"SELECT seconds, {_WORK} FROM runs WHERE status = 'done' AND device LIKE ? || '%'",
        (device.partition(":")[0],),
    )
    times: dict[tuple[object, ...], list[float]] = defaultdict(list)
    rates: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for work, found in _by_work(cursor):
        times[work.kind] += found
        if not work.points:
            pixels_of_run = pixels[work.data_set] * work.epochs
            rates[work.network] += [seconds / pixels_of_run for seconds in found]
    cursor.execute(
        f"""
        SELECT bytes, {_WORK} FROM (SELECT run_id, sum(bytes) AS bytes FROM files GROUP BY run_id)
        JOIN runs ON id = run_id WHERE status = 'done'
        """
    )
    sizes: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for work, found in _by_work(cursor):
        sizes[work.file] += found
    return Measured(
        seconds={kind: median(found) for kind, found in times.items()},
        seconds_per_pixel={network: median(found) for network, found in rates.items()},
        pixels=pixels,
        bytes={file: fmean(found) for file, found in sizes.items()},
    )


def _by_work(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Work, list[float]]]:
    """The first values of rows by the others, the columns of `Work`."""
    found: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        found[row[1:]].append(row[0])
    return ((Work._make(columns), values) for columns, values in found.items())


def each(load: Load, names: Sequence[str], measured: Measured, slots: int) -> tuple[dict[str, Estimate], Estimate]:
    """The estimate of each of these experiments, and of all of them, if the whole load is trained on so many slots."""
    order = load.in_order()
    places = {task.id: place for place, task in enumerate(order)}
    times = {work: measured.time(work) for work in {task.work for task in order}}
    left = [max(0.0, (times[task.work] or 0.0) - (task.elapsed or 0.0)) for task in order]
    needs = ((places[run], places[needed]) for run, needed in load.needs if run in places and needed in places)
    ends = schedule(left, needs, slots) if any(left) else left

    def of(runs: set[int]) -> Estimate:
        mine = [places[run] for run in runs]
        works = Counter(order[place].work for place in mine)
        untimed: Counter[tuple[str, str]] = Counter()
        for work, number in works.items():
            if times[work] is None:
                untimed[work.model, work.name] += number
        leaving = {work: number for work, number in works.items() if work.leaves}
        return Estimate(
            runs=len(mine),
            device_seconds=sum(left[place] for place in mine),
            seconds=max((ends[place] for place in mine), default=0.0),
            bytes=round(sum(measured.bytes.get(work.file, 0.0) * number for work, number in leaving.items())),
            untimed=tuple(Unknown(*key, number) for key, number in sorted(untimed.items())),
            unsized=sum(number for work, number in leaving.items() if work.file not in measured.bytes),
        )

    wanted = {name: load.wanted.get(name, set()) for name in names}
    return {name: of(runs) for name, runs in wanted.items()}, of(set().union(*wanted.values()))
