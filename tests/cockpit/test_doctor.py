"""`cockpit doctor`: it finds faults, names the fix, and never fails itself."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cockpit.cli import diagnosis
from cockpit.cli.diagnosis import Card, Finding, Torch, explain, findings
from engine.machine import devices
from engine.machine.devices import Device
from tests.conftest import Cockpit, add, run_cockpit

ROOT = Path(__file__).parents[2]
NMS = """Traceback (most recent call last):
  File "<string>", line 14, in <module>
RuntimeError: operator torchvision::nms does not exist
"""
CPU = Device("cpu", None, False)
CARD = Device("cuda:0", "GPU-0", True)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the check of torch, which takes seconds and has its own tests."""
    monkeypatch.setattr(diagnosis, "_torch", lambda: iter(()))


def states(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in findings(path):
        found.setdefault(one.subject, []).append(one.state)
    return found


def said(path: Path, subject: str) -> list[Finding]:
    return [one for one in findings(path) if one.subject == subject]


def test_where_everything_works_it_says_so_in_a_line_each_and_ends_with_0(cockpit: Cockpit, tmp_path: Path) -> None:
    cockpit("queue", "add", "digits")
    found = cockpit("doctor")
    assert (found.returncode, found.stderr) == (0, "")
    lines = [line for line in found.stdout.splitlines() if not line.startswith(" ")]
    assert all(line.startswith(("✓ ok ", "! warning ")) for line in lines)
    for subject in ("python", "torch", "devices", "bfloat16", "data", "database", "disk", "workers", "terminal"):
        assert any(f" {subject}: " in line for line in lines), subject
    assert "experiments.db: 60 runs" in found.stdout
    as_json = json.loads(cockpit("doctor", "--json").stdout)
    assert as_json["ok"] is True
    said = [f"{one['subject']}: {one['said']}"[:20] for one in as_json["findings"]]
    without = [[re.sub(r"[\d.]+ GiB", "", one) for one in found] for found in (said, [line[11:31] for line in lines])]
    assert without[0] == without[1]  # free disk space may change


def test_torch_that_cannot_be_imported_is_explained_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "torch.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    path = f"{tmp_path / 'lib'}{os.pathsep}{ROOT}"
    found = run_cockpit(tmp_path, "doctor", PYTHONPATH=path)
    assert found.returncode == 1
    assert "✗ problem  torch: torch and torchvision are not of one release" in found.stdout
    assert "pip install --upgrade --force-reinstall torch torchvision" in found.stdout
    assert "devices: " in found.stdout  # later checks still run


@pytest.mark.parametrize(
    ("code", "stderr", "words"),
    [
        (1, NMS, "are not of one release (RuntimeError: operator torchvision::nms does not exist)"),
        (1, "ModuleNotFoundError: No module named 'torch'\n", "a library is missing (ModuleNotFoundError"),
        (-11, "", "importing it kills the process (signal 11)"),
        (1, "ImportError: libcudart.so.12: cannot open\n", "it cannot be imported (ImportError: libcudart"),
    ],
)
def test_why_torch_cannot_be_imported(code: int, stderr: str, words: str) -> None:
    found = explain(code, stderr)
    assert found.state == "problem"
    assert words in found.said
    assert found.do.startswith("pip install")


@pytest.mark.parametrize(
    ("there", "torch", "expected"),
    [
        ([CPU, CPU], Torch(None), []),
        ([CARD], Torch("13.0", (Card("H100"),)), []),
        ([CARD], Torch(None), ["1 CUDA device, but torch is built for CPUs"]),
        ([CARD], Torch("13.0"), ["torch sees 0 of 1 CUDA device"]),
        (
            [CARD],
            Torch("13.0", (Card("K80", "no kernel image is available"),)),
            ["cuda:0 (K80) cannot be used: no kernel image is available"],
        ),
    ],
)
def test_devices_that_torch_cannot_use_are_problems(there: list[Device], torch: Torch, expected: list[str]) -> None:
    found = list(diagnosis._devices(there, torch))
    assert [one.said for one in found if one.state == "problem"] == expected
    assert all(one.do for one in found if one.state == "problem")


@pytest.mark.usefixtures("without_torch")
def test_databases_that_cannot_be_used_are_problems_and_nothing_is_changed(tmp_path: Path) -> None:
    assert states(tmp_path / "none" / "x.db")["database"] == ["problem"]
    assert states(tmp_path / "x.db")["database"] == ["ok"]
    (tmp_path / "notes.db").write_text("no database " * 100)
    assert states(tmp_path / "notes.db")["database"] == ["problem"]
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
    assert "another program" in said(tmp_path / "other.db", "database")[0].said
    shutil.copy(ROOT / "tests" / "data" / "version-1.db", tmp_path / "old.db")
    before = (tmp_path / "old.db").read_bytes()
    (old,) = said(tmp_path / "old.db", "database")
    assert (old.state, "is of schema 1" in old.said) == ("warning", True)
    assert (tmp_path / "old.db").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"notes.db", "other.db", "old.db"}


@pytest.mark.usefixtures("without_torch")
def test_a_network_file_system_and_a_folder_that_cannot_be_written_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=0)
    monkeypatch.setattr(diagnosis, "file_system", lambda folder: "nfs4")
    network, plain = said(path, "database")
    assert (network.state, plain.state) == ("warning", "ok")
    assert "network file system (nfs4)" in network.said
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK)  # root may write anywhere
    assert [one.state for one in said(path, "database")] == ["warning", "ok", "problem"]


def test_the_kind_of_a_file_system_is_that_of_the_innermost_mount() -> None:
    assert diagnosis.file_system(Path("/proc/self")) == "proc"


@pytest.mark.usefixtures("without_torch")
def test_too_little_disk_and_data_that_runs_wait_for_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCKPIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    path = tmp_path / "experiments.db"
    add(path, "clothes", source=["fashion-mnist"], target=["fashion-mnist"], model="resnet20")
    absent = said(path, "data")[-1]
    assert absent.state == "problem"
    assert "data set fashion-mnist is not on this machine" in absent.said
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=2**29))
    disk = said(path, "disk")
    assert [one.state for one in disk] == ["problem", "warning"]
    assert "below 1.0 GiB no run is started" in disk[0].said


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("", "ok"),
        ("[work]\nmin-fre = 1", "problem"),
        ("[screen]\ntheme = 1", "warning"),
        ("[screen]\ntheme = 'cockpit-lite'", "warning"),
        ('[keys]\n"act.paus" = "p"', "warning"),
        ("no toml", "problem"),
    ],
)
def test_a_wrong_configuration_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, state: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    monkeypatch.setenv("COCKPIT_CONFIG", str(tmp_path / "config.toml"))
    assert said(tmp_path / "x.db", "configuration")[-1].state == state


@pytest.mark.parametrize("check", ["_python", "_torch", "_data", "_database", "_disk", "_workers", "_terminal"])
def test_a_check_that_fails_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_torch: None, check: str
) -> None:
    def broken(*_: object) -> Iterator[Finding]:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(diagnosis, check, broken)
    found = [one for one in findings(tmp_path / "x.db") if "out of luck" in one.said]
    assert [one.state for one in found] == ["warning"]


def test_a_terminal_without_unicode_gets_an_answer(tmp_path: Path) -> None:
    found = run_cockpit(tmp_path, "doctor", PYTHONIOENCODING="ascii", COCKPIT_CONFIG="/proc/none/x")
    assert found.returncode == 0, found.stderr
    assert "+ ok" in found.stdout
    assert "its encoding is ascii: charts need Unicode" in found.stdout


def test_devices_are_those_that_workers_would_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable", lambda: [CPU, CPU, CPU])
    (first, second) = list(diagnosis._devices(devices.usable(), None))
    assert "3 CPU cores" in first.said
    assert "float32" in second.said


@pytest.mark.parametrize("inner", ["", "tickets", "checkpoints", "logs"])
def test_files_that_workers_cannot_write_are_a_problem(cockpit: Cockpit, tmp_path: Path, inner: str) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=0)
    in_the_way = tmp_path / "experiments.db.files" / inner
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("a file")
    found = cockpit("doctor")
    assert found.returncode == 1
    assert f"{in_the_way.name} is no folder: workers stop there" in found.stdout
