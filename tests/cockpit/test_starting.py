"""A command starts with its own modules: those of other commands, and what it does not use, are not imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from cockpit.cli.commands import COMMANDS, GROUPS

ALL: dict[tuple[str, ...], str] = {(name,): module for name, module in COMMANDS.items()} | {
    (group, name): module for group, members in GROUPS.items() for name, module in members.items()
}
MODULES = set(ALL.values())
# What one command takes from another's module.
TAKES: dict[tuple[str, ...], set[str]] = {("run",): {"cockpit.cli.results"}, ("work",): {"cockpit.cli.results"}}
HEAVY = {"torch", "torchvision", "numpy", "scipy", "sklearn", "textual", "plotext", "matplotlib", "pydantic", "psutil"}
LIGHT = ("queue list", "queue pause one", "queue logs one", "export", "store gc --dry-run")


def imported(folder: Path, *arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    script = (
        "import sys\nfrom cockpit.cli import main\ntry:\n    main()\nfinally:\n"
        "    sys.stderr.write('modules: ' + ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return set(done.stderr.rpartition("modules: ")[2].split())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_a_command_imports_no_other_commands_modules(tmp_path: Path, words: tuple[str, ...]) -> None:
    found = imported(tmp_path, *words, "--help")
    own = {name for name in found if name in MODULES}
    assert own == {ALL[words]} | TAKES.get(words, set())
    assert not HEAVY & found


@pytest.mark.parametrize("command", LIGHT)
def test_what_a_command_does_not_use_is_not_imported(tmp_path: Path, command: str) -> None:
    add = ("queue", "add", "--source", "digits-a", "--levels", "0", "--replicates", "1", "--name", "one")
    assert not HEAVY & imported(tmp_path, *add)
    found = imported(tmp_path, *command.split())
    assert not {*HEAVY, "rich.console", "tomllib", "cockpit.config", "engine.plan.presets"} & found
    if command == "queue list":
        assert not {"engine.recipes", "engine.plan.definitions", "sqlite_utils"} & found  # msgspec types the rows
