"""Curves with the accuracy of each replicate, for statistics. (The view `curves` has only their means.)"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from math import fsum

from engine.datasets import specs
from engine.store.chains import IS_CHAIN

# How the paper finds tickets and trains them (section 3), in the names of an experiment's definition.
BY_THE_PAPER = {"criterion": "magnitude", "prune_at": "end", "granularity": "weight", "retrain": "rewind"}
IS_BY_THE_PAPER = " AND ".join(
    f"coalesce(json_extract(e.definition, '$.{key}'), '{value}') = '{value}'" for key, value in BY_THE_PAPER.items()
)
ACCURACIES = f"""
    SELECT c.id AS curve_id, e.name AS experiment, c.name, c.source, c.target, c.model, c.source_optimizer, c.optimizer,
           c.scope, c.ticket, {IS_CHAIN} AS is_chain, p.level, r.id AS run, r.seed, r.status, r.test_accuracy,
           1.0 - r.weights_remaining * 1.0 / r.weights_total AS fraction_pruned, r.width, r.epochs,
           max(r.source_dataset) OVER (PARTITION BY c.id) AS source_dataset, r.target_dataset,
           d.name AS dataset, d.classes, json_extract(e.definition, '$.head') IS 'fresh' AS fresh_head,
           {IS_BY_THE_PAPER} AS by_the_paper
    FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id
    JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id
    LEFT JOIN datasets d ON d.identity = r.target_dataset
    WHERE :experiment IS NULL OR e.name = :experiment ORDER BY e.id, c.id, p.level, r.seed
"""
FACTS = (
    "experiment", "name", "source", "target", "model", "source_optimizer", "optimizer", "scope", "ticket", "is_chain",
    "source_dataset", "target_dataset", "width", "epochs", "fresh_head",
    "by_the_paper",
)  # fmt: skip
NEAR_CHANCE = 0.02  # fraction of the way from chance to 1 up to which a network has collapsed


@dataclass(frozen=True)
class Curve:
    """A curve and its replicates, by seed. Levels are in order; a level without results maps to nothing."""

    experiment: str
    name: str
    source: str | None
    target: str
    model: str
    source_optimizer: str | None
    optimizer: str
    scope: str | None
    ticket: str
    is_chain: (
        bool  # whether its tickets are trained on their source as in their chain, so that its runs are the chain's
    )
    source_dataset: str | None  # the identity
    target_dataset: str
    width: float
    epochs: int
    fresh_head: bool  # whether output layers are drawn anew even if the ticket's would fit
    by_the_paper: bool  # whether its experiment prunes single weights by magnitude after training, and rewinds
    accuracies: Mapping[int, Mapping[int, float]]  # level -> seed -> test accuracy, of the runs that are done
    pruned: Mapping[int, float]  # level -> mean fraction of weights pruned, of the runs that are done
    runs: Mapping[int, Mapping[int, int]]  # level -> seed -> id of the run, of all planned runs
    chance: float  # the accuracy of always answering the most frequent class
    collapsed: Mapping[int, frozenset[int]]  # level -> seeds that are done with an accuracy near chance
    diverged: Mapping[int, frozenset[int]]  # level -> seeds that diverged, and so have no accuracy

    @property
    def planned(self) -> int:
        """Number of its runs, done or not."""
        return sum(map(len, self.runs.values()))

    @property
    def done(self) -> int:
        """Number of its runs that are done."""
        return sum(map(len, self.accuracies.values()))


def read(connection: sqlite3.Connection, experiment: str | None = None) -> list[Curve]:
    """The curves of an experiment, or of all, in the order of queueing."""
    rows = connection.execute(ACCURACIES, {"experiment": experiment})
    return [_curve(list(group)) for _, group in groupby(rows, key=lambda row: row["curve_id"])]


def collapsed(accuracy: float, chance: float) -> bool:
    """Whether an accuracy is near chance (`NEAR_CHANCE`), so that the network has collapsed."""
    return accuracy <= min(chance + NEAR_CHANCE * (1 - chance), 2 * chance)


def _curve(rows: list[sqlite3.Row]) -> Curve:
    accuracies: dict[int, dict[int, float]] = {}
    fractions: dict[int, list[float]] = {}
    diverged: dict[int, set[int]] = {}
    runs: dict[int, dict[int, int]] = {}
    for row in rows:
        level, seed = row["level"], row["seed"]
        runs.setdefault(level, {})[seed] = row["run"]
        by_seed = accuracies.setdefault(level, {})
        if row["status"] == "done":
            by_seed[seed] = row["test_accuracy"]
            fractions.setdefault(level, []).append(row["fraction_pruned"])
        elif row["status"] == "diverged":
            diverged.setdefault(level, set()).add(seed)
    chance = specs.chance(rows[0]["dataset"], rows[0]["classes"]) if rows[0]["classes"] else 0.0
    return Curve(
        **{key: rows[0][key] for key in FACTS},
        accuracies=accuracies,
        pruned={level: fsum(values) / len(values) for level, values in fractions.items()},
        runs=runs,
        chance=chance,
        collapsed={
            level: frozenset(seed for seed, accuracy in by_seed.items() if collapsed(accuracy, chance))
            for level, by_seed in accuracies.items()
        },
        diverged={level: frozenset(seeds) for level, seeds in diverged.items()},
    )
