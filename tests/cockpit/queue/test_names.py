"""The names that verbs of `cockpit queue` take."""

from pathlib import Path

import pytest

from tests.conftest import Cockpit, run_cockpit


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "remove", "retry", "show", "wait"])
def test_an_unknown_name_changes_nothing_and_suggests_the_nearest(path: Path, cockpit: Cockpit, verb: str) -> None:
    before = path.read_bytes()
    found = cockpit("queue", verb, "one", "othr")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "cockpit: error: unknown experiment 'othr': choose from one, other; did you mean 'other'?\n"
    )
    assert path.read_bytes() == before
    assert run_cockpit(path.parent, "queue", verb).returncode == 2
