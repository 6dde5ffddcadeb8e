"""Fixtures of the tests of `cockpit queue`."""

import json
from pathlib import Path

import pytest

from tests.conftest import Cockpit, add


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with two waiting experiments: `one`, and `other`, which has the runs of `one` and more."""
    found = tmp_path / "experiments.db"
    add(found, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    add(found, "other", levels=0, replicates=2, random=["none"], target=["digits-a"])
    return found


def status(cockpit: Cockpit) -> dict[str, str]:
    """The status of each experiment in `queue list`."""
    return {row["name"]: row["status"] for row in json.loads(cockpit("queue", "list", "--json").stdout)}
