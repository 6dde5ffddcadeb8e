"""Files with the names of cockpit's packages that are imported in their place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.machine import processes


def run(first: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """The program with a folder before it on Python's path."""
    script = "import lottery_cockpit; lottery_cockpit.main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(first), str(processes.ROOT)])}
    arguments = [sys.executable, "-P", "-c", script, *command]
    done = subprocess.run(arguments, cwd=first, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    return done


@pytest.mark.parametrize("command", [("queue", "list"), ("--version",), ()])
@pytest.mark.parametrize("place", ["engine.py", "engine/__init__.py", "cockpit.py"])
def test_a_file_with_the_name_of_an_own_package_is_named_in_a_line(
    place: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    package = place.partition("/")[0].removesuffix(".py")
    assert f"{file} has the name of cockpit's own package {package!r}" in run(tmp_path, *command).stderr


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("msgspec/__init__.py", ("queue", "list")),
        ("typer.py", ("queue", "list")),
        ("typer/__init__.py", ("--version",)),
        ("plotext.py", ("plot", "fig1a@vgg11", "--db", str(processes.ROOT / "experiments.db"))),  # imported late
    ],
)
def test_a_file_with_the_name_of_a_library_is_named_in_a_line(
    place: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    library = place.partition("/")[0].removesuffix(".py")
    assert (
        f"{file} is imported as {library} and is not the version that cockpit needs" in run(tmp_path, *command).stderr
    )
