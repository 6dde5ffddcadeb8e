"""User data sets that have moved: refused commands, and locating them."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Cockpit
from tests.engine.folders import make
from tests.images import gray, save

OPTIONS = ("--name", "own", "--levels", 1, "--epochs", 1, "--replicates", 1, "--batch-size", 4, "--model", "resnet20")


@pytest.fixture(params=["npz", "folder"])
def spec(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's data set whose halves were both queued."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "npz":
        return save(tmp_path / "here.npz", gray(40))
    return f"folder:{make(tmp_path / 'here')}"


def move(tmp_path: Path, spec: str) -> str:
    """Move a file or folder; returns its new spec."""
    kind, _, path = spec.partition(":")
    (tmp_path / "other").mkdir()
    return f"{kind}:{shutil.move(path, tmp_path / 'other' / f'renamed{Path(path).suffix}')}"


def blank(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "experiments.db")) as connection:
        connection.execute("UPDATE datasets SET location = ''")
        connection.execute("UPDATE runs SET status = 'failed', error = 'gone'")
        connection.commit()


def test_what_has_no_place_is_refused_until_it_is_located(cockpit: Cockpit, tmp_path: Path, spec: str) -> None:
    assert cockpit("queue", "add", *OPTIONS, "--source", f"{spec}-a", "--target", f"{spec}-b").returncode == 0
    moved = move(tmp_path, spec)
    blank(tmp_path)
    written = cockpit("queue", "show", "own", "--toml").stdout
    assert all(f'["{spec.partition(":")[0]}:here-{half}"]' in written for half in "ab")
    before = json.loads(cockpit("queue", "list", "--json").stdout)
    for command in (("queue", "extend", "own", "--replicates", 2), ("queue", "retry", "own")):
        refused = cockpit(*command)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "-a has no known place on this machine: name where it is with `cockpit data locate " in refused.stderr
        assert "its content is compared, so path and name may be others" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    gone = cockpit("data", "locate", spec)  # its old name
    assert (gone.returncode, gone.stdout, len(gone.stderr.splitlines())) == (2, "", 1)
    assert gone.stderr.endswith("; name the path that it has now: its content is compared, not its name\n")
    assert json.loads(cockpit("queue", "list", "--json").stdout) == before
    assert {row["state"] for row in json.loads(cockpit("data", "list", "--json").stdout)["files"]} == {"unknown"}
    located = json.loads(cockpit("data", "locate", moved, "--json").stdout)
    assert set(located.values()) == {moved.partition(":")[2]}
    assert len(located) == 2  # both halves
    for command in (("queue", "extend", "own", "--replicates", 2), ("queue", "retry", "own")):
        done = cockpit(*command)
        assert done.returncode == 0
        assert "data locate" not in done.stderr


def test_what_is_gone_from_its_place_is_named(cockpit: Cockpit, tmp_path: Path, spec: str) -> None:
    cockpit("queue", "add", *OPTIONS, "--source", spec)
    move(tmp_path, spec)
    extended = cockpit("queue", "extend", "own", "--replicates", 2)
    assert extended.returncode == 0
    assert f"is gone from {spec.partition(':')[2]}: put it back, or name where it is with" in extended.stderr
    assert {row["state"] for row in json.loads(cockpit("data", "list", "--json").stdout)["files"]} == {"gone"}


def test_only_what_an_experiment_reads_is_located(cockpit: Cockpit, tmp_path: Path) -> None:
    cockpit("queue", "add", *OPTIONS, "--source", save(tmp_path / "one.npz", gray(40)))
    other = cockpit("data", "locate", save(tmp_path / "other.npz", gray(40, seed=1)))
    assert (other.returncode, other.stdout) == (2, "")
    assert "no experiment reads npz:" in other.stderr
    assert cockpit("data", "locate", "digits").returncode == 2
