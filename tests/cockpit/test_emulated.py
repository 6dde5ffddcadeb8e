"""Warnings before training in arithmetic that this machine emulates."""

from pathlib import Path
from typing import Any

import pytest

from cockpit.cli import work
from engine.machine import devices
from engine.machine.devices import Device
from tests import inprocess

SAID = "profile fast is emulated on this machine"
ADD = ("queue", "add", "--source", "digits-a", "--levels", "1", "--replicates", "1", "--epochs", "2")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def emulating(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose processor has no native bfloat16."""
    monkeypatch.setattr(devices, "usable", lambda: [Device("cpu", None, False)])


def interrupted(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("emulating")
def test_whoever_queues_or_trains_in_a_profile_that_is_emulated_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "Pool", interrupted)
    for more in (("--dry-run",), ()):
        code, _, err = inprocess.run(*ADD, "--profile", "fast", "--name", "slow", *more)
        assert (code, err.count(SAID)) == (0, 1)
        assert "took 10 times as long as in exact: choose the profile exact" in err
    for command in (("work",), ("run", *ADD[2:], "--profile", "fast", "--name", "slow")):
        code, _, err = inprocess.run(*command)
        assert (code, err.count(SAID)) == (130, 1)


@pytest.mark.usefixtures("emulating")
def test_exact_is_emulated_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "Pool", interrupted)
    for command in ((*ADD, "--name", "here"), ("work",)):
        assert SAID not in inprocess.run(*command)[2]


def test_fast_is_no_reason_to_warn_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable", lambda: [Device("cpu", None, True)])
    code, _, err = inprocess.run(*ADD, "--profile", "fast", "--name", "quick")
    assert (code, SAID in err) == (0, False)
