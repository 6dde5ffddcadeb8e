"""Names of runs are distinct, and a run that does not train says why."""

from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from cockpit.views import runs
from engine.store import database, queue, rows
from engine.store.row_types import Run
from tests.conftest import add
from tests.tui.make_fixture import FIXTURE


def every(path: Path, name: str) -> list[Run]:
    with closing(database.reader(path)) as connection:
        return rows.runs(connection, queue.experiment_id(connection, name))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"scope": ["global", "layerwise"]}, "layerwise"),
        ({"optimizer": ["sgd", "adam"]}, "adam"),
        ({"optimizer": ["sgd", "adam"], "target_optimizer": ["sgd", "adamw"]}, "found by adam"),
    ],
)
def test_runs_of_an_experiment_have_different_names(tmp_path: Path, options: dict[str, Any], word: str) -> None:
    path = tmp_path / "some.db"
    add(path, "some", levels=2, replicates=2, random=["global", "preserved", "local"], **options)
    found = every(path, "some")
    names = runs.named(found)
    assert len(set(names.values())) == len(found)
    assert any(word in name for name in names.values())


@pytest.mark.parametrize(
    "more",
    [
        {"prune_rate": 0.5},
        {"learning_rate": 0.01},
        {"width": 0.5},
        {"epochs": 3},
        {"momentum": 0.5},
        {"batch_size": 32},
    ],
    ids=str,
)
def test_runs_that_differ_in_any_setting_have_different_names(tmp_path: Path, more: dict[str, Any]) -> None:
    path = tmp_path / "some.db"
    for name, options in (("one", {}), ("two", more)):
        add(path, name, **{"levels": 1, "replicates": 1, **options})
    found = {run.digest: run for name in ("one", "two") for run in every(path, name)}
    names = runs.named(found.values())
    assert all(names[a] != names[b] for a, b in combinations(found, 2))


def test_a_blocked_run_names_in_words_the_run_that_it_needs() -> None:
    blocked = [run for run in every(FIXTURE, "wild") if run.status == "blocked"]
    assert blocked
    for run in blocked:
        assert (run.error or "").startswith("stands on run ")  # as versions before 2026-11-27 stored it
        assert run.waits_for.startswith(f"dense level 0 on digits-a, seed {run.seed} (")
        assert run.waits_for.endswith("), which diverged")


def test_an_experiment_that_failed_says_why() -> None:
    with closing(database.reader(FIXTURE)) as connection:
        found = {row.name: row for row in rows.experiments(connection)}
    assert found["lost"].why.startswith("data set file ")
    assert found["wild"].why == "not finite after epoch 0"
    assert not found["halves"].why
