"""`cockpit queue estimate`, and what `queue add --dry-run` says before anything is queued."""

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import database
from tests.conftest import ADD, SMALL, Cockpit, work_off


def test_estimates_become_known_when_runs_end_and_are_right(cockpit: Cockpit, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    cockpit(*ADD, "--name", "small", "--levels", 1, "--replicates", 1)
    before = cockpit("queue", "estimate", "--workers", 1).stdout
    assert before.splitlines() == [
        "experiment  runs left  device time  done in  ticket files",
        "small               7      unknown  unknown       unknown",
        "with 1 worker on this machine",
        "time unknown until the first run ends",
    ]
    work_off(path)
    assert cockpit("queue", "estimate").stdout == "no runs left in the active experiments\n"
    assert cockpit("queue", "estimate", "small").stdout == "nothing left\n"
    cockpit("queue", "extend", "small", "--replicates", 4)
    found = json.loads(cockpit("queue", "estimate", "small", "--workers", 1, "--json").stdout)
    (one,) = found["experiments"]
    assert found["total"] == {key: value for key, value in one.items() if key != "experiment"}
    assert (found["workers"], one["runs"], one["untimed"], one["unsized"]) == (1, 21, [], 0)
    assert one["seconds"] == pytest.approx(one["device_seconds"])
    began = time.monotonic()
    work_off(path)
    took = time.monotonic() - began
    assert one["seconds"] / 3 < took < one["seconds"] * 3 + 15  # the worker's start comes on top
    with closing(database.reader(path)) as connection:
        left = connection.execute("SELECT sum(bytes) FROM files JOIN runs ON id = run_id WHERE seed > 0").fetchone()[0]
    assert one["bytes"] == pytest.approx(left, rel=0.01)


def test_what_is_known_is_told_apart_from_what_is_not(cockpit: Cockpit, tmp_path: Path) -> None:
    cockpit(*ADD, "--name", "first", "--levels", 0, "--replicates", 1)
    work_off(tmp_path / "experiments.db")
    cockpit(*ADD, "--name", "same", "--seed", 5)
    cockpit(*ADD, "--name", "wider", "--width", 0.5)
    cockpit(*ADD, "--name", "halted", "--seed", 7)
    cockpit("queue", "pause", "halted")
    found = cockpit("queue", "estimate").stdout
    assert [line.split()[:2] for line in found.splitlines()[:4]] == [
        ["experiment", "runs"],
        ["same", "26"],
        ["wider", "26"],
        ["all", "52"],
    ]
    known, unknown, together = found.splitlines()[1:4]
    assert known.count("at least") == 1  # dense runs have left files, links of chains have not
    assert unknown.split()[2:] == ["unknown", "unknown", "unknown"]
    assert together.count("at least") == 3
    assert "unknown until the first run of vgg-digits on digits-a ends: 8 runs\n" in found
    assert "unknown until the first run of vgg-digits on digits-b ends: 18 runs\n" in found
    assert "halted" in cockpit("queue", "estimate", "halted").stdout


def test_a_dry_run_says_what_would_be_new_and_makes_nothing(cockpit: Cockpit, tmp_path: Path) -> None:
    found = cockpit(*ADD, "--dry-run")
    assert found.stdout.startswith("digits-a-to-digits-b-vgg-digits: 4 curves, 26 runs: 26 new, 0 exist already\n")
    assert "unknown until the first run ends" in found.stdout
    assert list(tmp_path.iterdir()) == []
    cockpit(*ADD, "--name", "first", "--levels", 1)
    work_off(tmp_path / "experiments.db")
    before = (tmp_path / "experiments.db").read_bytes()
    planned = json.loads(cockpit(*ADD, "--name", "mine", "--dry-run", "--json").stdout)
    assert (planned["experiment"], planned["new"], planned["existing"]) == ("mine", 12, 14)
    assert planned["estimate"]["untimed"] == []
    refused = cockpit(*ADD, "--name", "first", "--dry-run")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'first' exists with another definition" in refused.stderr
    assert (tmp_path / "experiments.db").read_bytes() == before
    cockpit(*ADD, "--name", "mine")
    (one,) = json.loads(cockpit("queue", "estimate", "mine", "--json").stdout)["experiments"]
    assert {"experiment": "mine", **planned["estimate"]} == one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("frist",), "did you mean 'first'?"),
        (("--workers", 99), "--workers 99 is out of range"),
        (("--db", "absent.db"), "database absent.db does not exist"),
    ],
)
def test_bad_input_is_refused(cockpit: Cockpit, arguments: tuple[object, ...], message: str) -> None:
    cockpit("queue", "add", *SMALL, "--name", "first")
    found = cockpit("queue", "estimate", *arguments)
    assert (found.returncode, found.stdout) == (2, "")
    assert message in found.stderr
