"""What tests of the engine share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.models import user_model
from tests.engine.own import NET


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module `mynets`; what is imported from it is forgotten afterwards."""
    (tmp_path / "mynets.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(user_model, "_loaded", {})
    yield tmp_path
    for name in ("mynets", "given"):
        sys.modules.pop(name, None)
