"""A queued experiment, and the head of its database."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.desk.wire import Address
from tests import heads
from tests.conftest import add


@pytest.fixture(scope="session")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queued") / "experiments.db"
    add(path, "one", **heads.SMALL)
    return path


@pytest.fixture
def path(queued: Path, tmp_path: Path) -> Path:
    """A database with one small experiment."""
    return Path(shutil.copy(queued, tmp_path))


@pytest.fixture
def address(path: Path) -> Iterator[Address]:
    """The address of the head of that database."""
    with heads.leading(path) as address:
        yield address
