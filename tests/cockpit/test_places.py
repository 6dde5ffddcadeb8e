"""Paths given to commands: `~` is the home folder, and devices and pipes are written to, not replaced."""

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from cockpit.views.export import whole
from engine.errors import InputError
from engine.machine.paths import given, is_replaceable
from tests.cockpit.commands import ALL
from tests.conftest import Cockpit, add, work_off

TRAINED = {"levels": 1, "epochs": 1, "replicates": 1, "random": ["none"]}


def test_every_option_that_is_a_path_expands_the_home_folder() -> None:
    found: list[Any] = [parameter.type_descriptor for command in ALL.values() for parameter in command.params]  # type: ignore[attr-defined]
    paths = [about for about in found if "Path" in str(about.annotation)]
    assert len(paths) > 6
    assert {about.parameter_info.parser for about in paths} == {given}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and next to it a database with a trained experiment `one`."""
    found = tmp_path / "home"
    found.mkdir()
    monkeypatch.setenv("HOME", str(found))
    add(tmp_path / "experiments.db", "one", **TRAINED)
    work_off(tmp_path / "experiments.db")
    return found


def test_the_home_folder_is_expanded_and_what_is_no_file_stays(cockpit: Cockpit, home: Path, tmp_path: Path) -> None:
    for command, file in (
        ("export -o ~/rows.csv", "rows.csv"),
        ("figure one -o ~/one.svg", "one.svg"),
        ("tickets export one:global --level 1 -o ~/one.safetensors", "one.safetensors"),
        ("store backup ~/copy.db", "copy.db"),
    ):
        done = cockpit(*command.split())
        assert done.returncode == 0, done.stderr
        assert (home / file).stat().st_size > 0, command
    (home / "config.toml").write_text("[work]\nwrong = 1\n")
    (home / "study.toml").write_text("[[experiment]]\nname = 'more'\nsource = 'digits-a'\nlevels = 0\n")
    for command in ("tickets verify ~/one.safetensors", "store merge ~/copy.db", "queue add ~/study.toml"):
        done = cockpit(*command.split())
        assert done.returncode == 0, (command, done.stderr)
    assert "config.toml" in cockpit("work", "--drain", COCKPIT_CONFIG="~/config.toml").stderr
    _write_through(cockpit, home, tmp_path)


def _write_through(cockpit: Cockpit, home: Path, folder: Path) -> None:
    """Outputs to a device, a link and a pipe, which all stay."""
    ticket, pipe = (home / "one.safetensors").read_bytes(), folder / "pipe"
    (folder / "kept").touch()
    (folder / "link").symlink_to("kept")
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    for place in ("/dev/null", "link", "pipe"):
        done = cockpit("tickets", "export", "one:global", "--level", "1", "-o", place)
        assert done.returncode == 0, done.stderr
    reader.join(60)
    assert read == [ticket]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert (folder / "link").is_symlink()
    assert (folder / "kept").read_bytes() == ticket
    rows = cockpit("export", "--table", "runs").stdout
    assert cockpit("export", "--table", "runs", "-o", "/dev/stdout").stdout == rows
    done = cockpit("store", "backup", "/dev/null", "--force")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_what_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert is_replaceable(tmp_path / "file")
    assert is_replaceable(tmp_path / "new")
    assert not any(map(is_replaceable, (tmp_path / "pipe", tmp_path, Path("/dev/stdout"), Path("/proc/self/fd/1"))))


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises((InputError, IsADirectoryError)), whole(tmp_path) as partial:
        partial.write_text("")
