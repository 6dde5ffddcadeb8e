"""Instability of tickets: the error barrier between two trainings of one ticket, by level. Imports no torch.

Source: Frankle, Dziugaite, Roy and Carbin 2020, section 2.
"""

import sqlite3
from itertools import groupby
from statistics import fmean, stdev
from typing import Any, NamedTuple

from engine.store import rows

PARTS = ("train_accuracy", "test_accuracy")


class Spread(NamedTuple):
    """Mean over replicates and sample standard deviation; None for one replicate."""

    mean: float
    std: float | None


class Barrier(NamedTuple):
    """The error barriers of one level of a curve of lines: fractions of the images, over `n` replicates."""

    curve: str
    level: int
    fraction_pruned: float
    n: int
    train: Spread
    test: Spread


def read(connection: sqlite3.Connection, experiment: str) -> list[Barrier]:
    """The error barriers of an experiment, in the order of its curves and levels; empty without curves of lines.

    A barrier is the highest error on the line minus the mean error of the line's two ends (Frankle et al. 2020,
    section 2). It is 0 if both trainings end in one linearly connected basin.
    """
    heading, lines = rows.export(connection, "lines", experiment)
    records: list[dict[str, Any]] = [dict(zip(heading, row, strict=True)) for row in lines]
    barriers = []
    for (curve, level), group in groupby(records, key=lambda row: (row["curve"], row["level"])):
        each = [list(line) for _, line in groupby(group, key=lambda row: row["replicate"])]
        heights = {part: [_height([row[part] for row in line]) for line in each] for part in PARTS}
        pruned = fmean(line[0]["fraction_pruned"] for line in each)
        barriers.append(Barrier(curve, level, pruned, len(each), *(_spread(heights[part]) for part in PARTS)))
    return barriers


def planned(connection: sqlite3.Connection, experiment: str) -> tuple[int, int]:
    """The number of lines of an experiment, and of those not evaluated yet."""
    query = """
        SELECT count(*), count(*) FILTER (WHERE r.status <> 'done')
        FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id AND c.ticket = 'line'
        JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id WHERE e.name = ?
    """
    total, left = connection.execute(query, (experiment,)).fetchone()
    return int(total), int(left)


def _height(accuracies: list[float]) -> float:
    return (accuracies[0] + accuracies[-1]) / 2 - min(accuracies)


def _spread(values: list[float]) -> Spread:
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)
