"""The overhead of a run, besides its training, by runs in the database, levels of a chain, and number of workers.

Training is replaced by a sleep; claim, start, ticket, records of epochs, pruning and files are real. The rest of the
time of a run is its overhead, however busy the machine's cores are.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import queue as queues
from benchmarks.measuring import CPU, Rows
from cockpit.views import figures
from engine.datasets.feed import Feed
from engine.desk.desk import Room
from engine.desk.local import LocalDesk
from engine.plan.defining import define
from engine.recipes import Training
from engine.store import adding, database, queue, workers
from engine.store.files import Folder
from engine.store.records import Epoch
from engine.training import loop, profiles
from engine.workers.run import RunContext, execute

RUNS_IN_DATABASE = (100, 1_000, 10_000, 100_000)
RUNS_OF_FILLER = 108  # of each experiment with which `queues.fill` fills a database
LEVELS = 30
WORKERS = (1, 2, 4, 8)
EPOCHS = 10
TIMED = 30  # runs in each database, and of each worker a third of it
CHAINS = 3
TRAINING_SECONDS = 1.0  # of a worker's run, beside other workers
# ResNet-20 on the digits: 270,000 prunable weights, 1 MB a state.
STUDY: dict[str, Any] = {
    "source": ["digits"],
    "model": "resnet20",
    "epochs": EPOCHS,
    "random": ["none"],
    "profile": "exact",
}


def measure(quick: bool, plot: Path | None = None) -> dict[str, float | Rows]:
    """Milliseconds per run, in a table for each of the three; drawn into the file `plot`, if given."""
    timed = TIMED // 3 if quick else TIMED
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Rows] = {
            "runs in the database": [
                _row("runs", runs, _in_database(folder / f"{runs}.db", runs, timed))
                for runs in (RUNS_IN_DATABASE[:2] if quick else RUNS_IN_DATABASE)
            ],
            "level of a chain": [
                _row("level", level, costs)
                for level, costs in _of_levels(folder / "chain.db", LEVELS // 10 if quick else LEVELS).items()
            ],
            "workers on one database": [
                _row("workers", workers, _beside(folder / f"{workers}.db", workers, timed // 3))
                for workers in (WORKERS[:2] if quick else WORKERS)
            ],
        }
    if plot:
        _draw(plot, found)
    return dict(found)


@dataclass(frozen=True)
class Cost:
    """The overhead of one run in milliseconds, and the part of its claim."""

    level: int
    claim: float
    whole: float


def _row(what: str, value: int, costs: Sequence[Cost]) -> dict[str, float]:
    low, middle, high = statistics.quantiles((cost.whole for cost in costs), n=4)
    claim = statistics.median(cost.claim for cost in costs)
    return {what: float(value), "claim, ms": claim, "all, ms": middle, "lower quartile": low, "upper quartile": high}


def _in_database(path: Path, runs: int, timed: int) -> list[Cost]:
    """The costs of the first runs trained in a database of this number of runs, three in five already trained."""
    count = max(1, runs // RUNS_OF_FILLER)
    queues.fill(path, count)
    with closing(database.writer(path)) as connection, database.transaction(connection):
        connection.execute(
            """
            UPDATE runs SET status = 'done', attempt = 1, finished_at = :now, test_accuracy = 0.9
            WHERE id IN (SELECT p.run_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
                         WHERE c.experiment_id <= :trained)
            """,
            {"now": database.now(), "trained": count * 3 // 5},
        )
        connection.execute(
            """
            WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :epochs)
            INSERT INTO epochs (run_id, attempt, epoch, train_loss, train_accuracy, test_accuracy, learning_rate)
            SELECT id, 1, n, 0.1, 0.9, 0.9, 0.1 FROM runs, numbers WHERE status = 'done'
            """,
            {"epochs": EPOCHS},
        )
    _want(path, levels=0, replicates=1 + timed)
    return _train(path, timed)


def _of_levels(path: Path, levels: int) -> dict[int, list[Cost]]:
    """The costs of runs of chains, by level."""
    _want(path, levels=levels, replicates=1 + CHAINS)
    found = defaultdict(list)
    for cost in _train(path, (1 + CHAINS) * (levels + 1) - 1):
        found[cost.level].append(cost)
    return dict(sorted(found.items()))


def _beside(path: Path, workers: int, timed: int) -> list[Cost]:
    """The costs of runs that this number of worker processes train at the same time."""
    _want(path, levels=0, replicates=workers * (1 + timed))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return [
            cost
            for costs in pool.map(partial(_train, path, timed), [TRAINING_SECONDS] * workers, chunksize=1)
            for cost in costs
        ]


def _want(path: Path, levels: int, replicates: int) -> None:
    """Queue one chain per replicate, before anything else."""
    with closing(database.writer(path)) as connection:
        wanted = define(levels=levels, replicates=replicates, **STUDY)
        queue.move(connection, adding.add(connection, "timed", wanted, "benchmark").experiment, 1)


def _train(path: Path, runs: int, seconds: float = 0.0) -> list[Cost]:
    """Claim and train a number of runs, each for a number of seconds, as a worker does.

    A run before them makes the process read the data set and import its modules.
    """
    profiles.configure("exact", CPU)
    with closing(database.writer(path)) as connection, mock.patch.object(loop, "train", _sleep(seconds)):
        worker = workers.open_worker(connection, "cpu", None, None)
        context = RunContext(LocalDesk(connection, Folder(database.files_folder(path)), worker), CPU)
        return [_train_next(context, seconds) for _ in range(1 + runs)][1:]


def _train_next(context: RunContext, seconds: float) -> Cost:
    began = time.perf_counter()
    claim = context.desk.claim((), lambda: Room(0, 0))
    claimed = time.perf_counter()
    assert claim is not None
    execute(claim, context)
    whole = time.perf_counter() - began - seconds
    return Cost(claim.run.ticket.level, (claimed - began) * 1000, whole * 1000)


def _sleep(seconds: float) -> Callable[..., Iterator[Epoch]]:
    """A substitute for `training.train` whose epochs take a total number of seconds and change nothing."""

    def train(
        state: loop.State, data: Feed, wanted: Training, after_batch: Callable[[loop.State], None], team: object
    ) -> Iterator[Epoch]:
        until = time.perf_counter()
        while state.epoch < wanted.epochs:
            until += seconds / wanted.epochs
            time.sleep(max(0.0, until - time.perf_counter()))
            after_batch(state)
            record = Epoch(state.epoch, 0.1, 0.9, None, 0.9, loop.learning_rate(wanted, state.epoch), 1000.0)
            state.epoch += 1
            yield record

    return train


def _draw(path: Path, found: dict[str, Rows]) -> None:
    """The three tables side by side on one axis of milliseconds, medians with their quartiles as a shade."""
    with figures.drawn(path, 2 * figures.WIDTH, figures.HEIGHT) as figure:
        panels = figure.subplots(1, len(found), sharey=True)
        for axes, (title, rows) in zip(panels, found.items(), strict=True):
            what, *_ = rows[0]
            places = [row[what] for row in rows]
            axes.fill_between(
                places,
                [row["lower quartile"] for row in rows],
                [row["upper quartile"] for row in rows],
                alpha=figures.SHADE,
                linewidth=0,
            )
            axes.plot(places, [row["all, ms"] for row in rows], "-o", markersize=4, label="all but its training")
            axes.plot(places, [row["claim, ms"] for row in rows], "--s", markersize=4, label="of that, its claim")
            if what == "runs":
                axes.set_xscale("log")
            if what == "workers":
                axes.set_xscale("log", base=2)
                axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.set_xlabel(title)
            axes.grid(alpha=figures.SHADE)
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("ms a run")
        panels[0].legend(loc="upper left", frameon=False, fontsize="small")
