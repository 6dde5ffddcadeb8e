"""The same layers are prunable at level 0 and above, although chains of several rules share the dense run."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.analysis import comparing
from engine.store import database, rows, schema, sides
from engine.store.files import Folder
from tests.conftest import add, work_off

LINEAR = """
from torch import nn

def linear(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, classes))

def mixed(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 8),
        nn.ReLU(), nn.Linear(8, classes))
"""
SMALL: dict[str, Any] = {"width": None, "levels": 1, "replicates": 1, "epochs": 1, "random": ["local"]}
RULES = ("conv", "conv+output", "conv+linear")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experiments of all rules with one model, which share dense runs, and one with linear layers only."""
    path = tmp_path_factory.mktemp("rules") / "experiments.db"
    (path.parent / "nets.py").write_text(LINEAR)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(path.parent)
        for rule in RULES:
            add(path, rule, model="nets:mixed", prunable=rule, **SMALL)
        add(path, "linear", model="nets:linear", prunable="conv+linear", **SMALL)
    work_off(path)
    return path


def counted(connection: sqlite3.Connection, experiment: str) -> dict[str, list[tuple[str, int, int]]]:
    """The exported layers of an experiment's runs, by digest."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for digest, _, _, name, kept, weights, _, _ in rows.export(connection, "layers", experiment)[1]:
        found.setdefault(str(digest), []).append((str(name), int(str(kept)), int(str(weights))))
    return found


CONV, HIDDEN, OUTPUT = ("0.weight", 36), ("4.weight", 128), ("6.weight", 80)


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("conv", [CONV]),
        ("conv+output", [CONV, OUTPUT]),
        ("conv+linear", [CONV, HIDDEN, OUTPUT]),
        ("linear", [("1.weight", 768), ("3.weight", 120)]),
    ],
)
def test_every_level_counts_the_same_weights(shared: Path, experiment: str, expected: list[tuple[str, int]]) -> None:
    total = sum(weights for _, weights in expected)
    with closing(database.reader(shared)) as connection:
        columns, exported = rows.export(connection, "runs", experiment)
        runs = [dict(zip(columns, row, strict=True)) for row in exported]
        assert {run["status"] for run in runs} == {"done"}
        assert {run["weights_total"] for run in runs} == {total}
        assert {run["fraction_pruned"] for run in runs if not run["level"]} == {0.0}
        of_runs = counted(connection, experiment)
        assert {run["digest"] for run in runs} == set(of_runs)
        for run in runs:
            found = of_runs[str(run["digest"])]
            assert [(name, weights) for name, _, weights in found] == expected
            assert sum(kept for _, kept, _ in found) == run["weights_remaining"]
        side = sides.find(connection, f"{experiment}:digits-a -> digits-a winning")
        heat = comparing.heat_map(connection, side)
        assert [*heat.layers] == [*dict(expected), "total"]
        assert {fractions[0] for fractions in heat.layers.values()} == {1.0}
        dense = sides.find(connection, next(str(run["digest"]) for run in runs if run["ticket"] == "winning"))
        for a, b in ((side, None), (side, dense), (dense, side)):
            compared = comparing.compare(connection, Folder(shared.parent), a, b, 0)
            assert [(layer.name, layer.weights) for layer in compared.layers] == expected
            assert not compared.notes


def state(connection: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    """The records of layers and weights, sorted."""
    queries = (
        "SELECT run_id, name, weights_remaining, weights_total, prunable FROM layers ORDER BY run_id, name",
        "SELECT id, weights_remaining, weights_total FROM runs ORDER BY id",
    )
    return [[tuple(row) for row in connection.execute(query)] for query in queries]


def test_an_older_database_is_filled_in(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    shutil.copy(shared, path)
    with closing(database.writer(path)) as connection:
        expected = state(connection)
        older = "ticket = 'dense' OR (level = 0 AND ticket LIKE 'random%')"
        connection.execute(
            f"DELETE FROM layers WHERE prunable <> 'conv' AND run_id IN (SELECT id FROM runs WHERE {older})"
        )
        connection.execute(
            f"UPDATE runs SET weights_total = 36, weights_remaining = 36 WHERE model LIKE '%mixed%' AND ({older})"
        )
        connection.execute("DROP VIEW layers_by_rule")
        connection.execute("DROP VIEW layer_ratios")
        connection.execute("ALTER TABLE layers DROP COLUMN prunable")
        connection.execute(f"CREATE VIEW layer_ratios AS {schema.LAYER_RATIOS}")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'version_3'")
        connection.execute("PRAGMA user_version = 2")
    with closing(database.writer(path)) as connection:
        found = state(connection)
        # Older versions could not train a network of linear layers.
        linear = {row[0] for row in connection.execute("SELECT id FROM runs WHERE model LIKE '%linear%'")}
        mixed = [[row for row in of_table if row[0] not in linear] for of_table in (*found, *expected)]
        assert mixed[:2] == mixed[2:]
        assert connection.execute("SELECT count(*) FROM layer_ratios").fetchone()[0] == 0
