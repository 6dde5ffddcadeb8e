"""The runs in training, epoch by epoch."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True)
class Live:
    """A run in training: its place on a curve, its accuracy so far, and its course. Accuracies are fractions."""

    level: int
    remaining: float  # fraction of weights
    accuracy: float  # on test images if the newest epoch was tested, else on training images
    epochs: int  # planned
    losses: tuple[float, ...]  # means on training images, of each finished epoch and the current one
    accuracies: tuple[float, ...]  # on training images, likewise


def of_curves(connection: sqlite3.Connection, experiment: str) -> dict[str, list[Live]]:
    """The runs of an experiment in training that have trained at least one batch, by curve."""
    by_curve: dict[str, list[Live]] = {}
    running = connection.execute(
        """
        SELECT c.name, p.level, r.id, r.epochs, r.attempt, w.epoch, w.loss, w.accuracy,
               r.weights_remaining * 1.0 / r.weights_total AS remaining
        FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id JOIN curve_points p ON p.curve_id = c.id
        JOIN runs r ON r.id = p.run_id AND r.status = 'running' LEFT JOIN workers w ON w.id = r.worker
        WHERE e.name = ? ORDER BY c.id, p.level, r.id
        """,
        (experiment,),
    )
    for row in running.fetchall():
        ended = connection.execute(
            "SELECT train_loss, train_accuracy, test_accuracy FROM epochs WHERE run_id = ? AND attempt = ?"
            " AND train_loss IS NOT NULL ORDER BY epoch",
            (row["id"], row["attempt"]),
        ).fetchall()
        points = [(epoch["train_loss"], epoch["train_accuracy"]) for epoch in ended]
        if row["loss"] is not None and row["accuracy"] is not None and row["epoch"] == len(points):
            points.append((row["loss"], row["accuracy"]))
        if not points or row["remaining"] is None:  # its place on the curve is not known yet
            continue
        tested = ended[-1]["test_accuracy"] if len(points) == len(ended) else None
        losses, accuracies = zip(*points, strict=True)
        accuracy = accuracies[-1] if tested is None else tested
        by_curve.setdefault(row["name"], []).append(
            Live(row["level"], row["remaining"], accuracy, row["epochs"], losses, accuracies)
        )
    return by_curve
