"""What the tests of the verbs share."""

import json
from pathlib import Path

import pytest

from tests.conftest import Cockpit, add


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with two experiments of two runs each waiting: one, and other, which wants the same and more."""
    found = tmp_path / "experiments.db"
    add(found, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    add(found, "other", levels=0, replicates=2, random=["none"], target=["digits-a"])
    return found


def status(cockpit: Cockpit) -> dict[str, str]:
    """The status of each experiment, as `queue list` says it."""
    return {row["name"]: row["status"] for row in json.loads(cockpit("queue", "list", "--json").stdout)}
