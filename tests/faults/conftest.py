"""What the tests of faults compare with."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults import records


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of `records.WORK` where nothing happened to its worker."""
    return records.undisturbed(tmp_path_factory.mktemp("undisturbed") / "experiments.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with that work in its queue."""
    path = tmp_path / "experiments.db"
    records.queue_work(path)
    return path
