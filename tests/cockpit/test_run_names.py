"""Names of runs are distinct, and a run that does not train says why."""

import shutil
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from cockpit.text import words
from cockpit.views import names, runs
from engine.store import database, history, leases, queue, rows, titles, workers
from engine.store.row_types import Event, Failure, Run, Running, Worker
from tests.conftest import add
from tests.databases import worker
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


def test_data_sets_are_named_for_display_wherever_runs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    shutil.copyfile(FIXTURE, path)
    with closing(database.writer(path)) as connection:
        titles.name_data(connection, "digits", "Handwriting")
        own = worker(connection)
        assert leases.claim(connection, own) is not None
        found: list[Any] = [*workers.present(connection), *rows.running(connection)]
        for one in rows.experiments(connection):
            if one.name != "lost":
                found += [
                    *rows.runs(connection, one.id),
                    *history.events(connection, one.id),
                    *rows.errors(connection, one.id),
                ]
                labels = names.of_curves(connection, one.name)
                assert not any("digits" in label for label in labels.values())
    shown = [
        *runs.named(row for row in found if isinstance(row, Run | Event | Worker)).values(),
        *(row.waits_for for row in found if isinstance(row, Run)),
        *(words.error(row) for row in found if isinstance(row, Failure)),
        *map(names.ends, (row for row in found if isinstance(row, Running))),
    ]
    assert any("Handwriting a → Handwriting winning" in text for text in shown)
    assert any(text.startswith("Handwriting a winning") for text in shown)
    assert [text for text in shown if "digits" in text.replace("VGG-digits", "")] == []


def test_a_prune_rate_tells_no_runs_apart_before_anything_is_pruned(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    add(path, "some", levels=2, replicates=1, random=["global"], prune_rate=0.36)
    assert not any("rate" in name for name in runs.named(every(path, "some")).values())
