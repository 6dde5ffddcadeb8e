"""What the tests of faults compare with."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import outcomes


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of `outcomes.WORK` where nothing happened to its worker."""
    return outcomes.undisturbed(tmp_path_factory.mktemp("undisturbed") / "experiments.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with that work in its queue."""
    path = tmp_path / "experiments.db"
    outcomes.queue_work(path)
    return path


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test() -> Iterator[None]:
    """Where a test fails, its workers may be at work, or stopped."""
    yield
    for process in multiprocessing.active_children():
        process.kill()
