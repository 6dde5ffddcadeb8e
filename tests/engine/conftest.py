"""Fixtures of the engine's tests."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from engine.models import user_model
from engine.store import database
from engine.training import profiles
from tests.engine.user_models import NET


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a database."""
    return tmp_path / "experiments.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """An empty database to write to."""
    with closing(database.writer(path)) as found:
        yield found


@pytest.fixture
def exact_on_cpu() -> Iterator[None]:
    """The settings of a worker's process in the profile `exact`, undone afterwards."""
    profiles.configure("exact", torch.device("cpu"))
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder with a module `mynets`; imports from it are forgotten afterwards."""
    (tmp_path / "mynets.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(user_model, "_loaded", {})
    yield tmp_path
    for name in ("mynets", "given"):
        sys.modules.pop(name, None)
