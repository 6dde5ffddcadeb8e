"""Files that have the names of this program's packages, and are found in their place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.machine import processes


@pytest.mark.parametrize("command", [("queue", "list"), ("--version",), ("models", "list"), ("doctor",), ()])
@pytest.mark.parametrize("place", ["engine.py", "engine/__init__.py"])
def test_another_engine_is_named_in_a_line(place: str, command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "other" / place
    file.parent.mkdir(parents=True)
    file.write_text("")
    script = "from cockpit.cli import main; main()"
    paths = os.pathsep.join([str(tmp_path / "other"), str(processes.ROOT)])
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *command],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert f"{file} has the name of cockpit's own package 'engine'" in done.stderr


def test_another_cockpit_is_named_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "cockpit.py").write_text("")
    script = "import lottery_cockpit; lottery_cockpit.main()"
    paths = os.pathsep.join([str(tmp_path), str(processes.ROOT)])
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "queue", "list"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert f"{tmp_path / 'cockpit.py'} has the name of cockpit's own package 'cockpit'" in done.stderr
