"""Commands import neither other commands' modules nor what they do not use."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from cockpit.cli.commands import COMMANDS, GROUPS
from cockpit.text import words

ALL: dict[tuple[str, ...], str] = {(name,): module for name, module in COMMANDS.items()} | {
    (group, name): module for group, members in GROUPS.items() for name, module in members.items()
}
MODULES = set(ALL.values())
# Modules that commands share.
TAKES: dict[tuple[str, ...], set[str]] = {("run",): {"cockpit.cli.results"}, ("work",): {"cockpit.cli.results"}}
HEAVY = {"torch", "torchvision", "numpy", "scipy", "sklearn", "textual", "plotext", "matplotlib", "pydantic", "psutil"}
# Each takes a tenth of Python's start or more; `queue add`, `queue list` and `export` need none.
UNUSED = {
    *("importlib.metadata", "zipfile", "logging", "email", "asyncio", "ssl", "concurrent.futures", "argparse"),
    *("tomllib", "statistics", "secrets", "socket", "engine.datasets.npz", "engine.analysis.estimates"),
}
# The libraries that any command may import at its start; typer of some versions brings click.
LIBRARIES = {"typer", "click", "annotated_doc", "shellingham", "msgspec", "typing_extensions"}
OURS = {"cockpit", "engine"}
# Values with a field that is not compared, which msgspec's structs cannot have.
DATA_CLASSES = {"DataSet", "Source", "TicketSource"}
LIGHT = ("status", "queue list", "queue pause one", "queue logs one", "export", "store gc --dry-run")


def imported(folder: Path, *arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    return _listed(folder, "set(sys.modules) - before", *arguments)


def data_classes(folder: Path, *arguments: str) -> set[str]:
    """The data classes of this project that Python has made when a command ends."""
    ours = f"[one for name, one in sys.modules.items() if name.partition('.')[0] in {OURS}]"
    made = "isinstance(made, type) and made.__module__ == one.__name__ and '__dataclass_fields__' in vars(made)"
    return _listed(folder, f"[name for one in {ours} for name, made in vars(one).items() if {made}]", *arguments)


def _listed(folder: Path, names: str, *arguments: str) -> set[str]:
    """The value of an expression when a command ends: names."""
    script = (
        "import sys\nbefore = set(sys.modules)\nfrom cockpit.cli import main\ntry:\n    main()\nfinally:\n"
        f"    sys.stderr.write('names: ' + ' '.join({names}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "names: " in done.stderr, done.stderr
    return set(done.stderr.rpartition("names: ")[2].split())


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
    if command in ("status", "queue list", "export"):
        assert (
            not {"engine.recipes", "engine.plan.definitions", "sqlite_utils", "hashlib"} & found
        )  # msgspec types rows


def test_what_is_often_started_imports_no_more_than_it_uses(tmp_path: Path) -> None:
    add = ("queue", "add", "--source", "digits-a", "--levels", "0", "--replicates", "1", "--name", "one")
    for typed in (add, ("status",), ("queue", "list"), ("export", "--table", "runs")):
        found = imported(tmp_path, *typed)
        assert not UNUSED & found, typed
        others = {name.partition(".")[0] for name in found} - OURS - sys.stdlib_module_names
        assert others <= LIBRARIES | ({"platformdirs"} if typed == add else set()), typed


def test_what_is_often_started_makes_structs_instead_of_data_classes(tmp_path: Path) -> None:
    """Python compiles the methods of a data class at each start: docs/decisions/code.md."""
    add = ("queue", "add", "--source", "digits-a", "--levels", "0", "--replicates", "1", "--name", "one")
    assert data_classes(tmp_path, *add) <= DATA_CLASSES
    for typed in (("status",), ("queue", "list"), ("export", "--table", "runs")):
        assert not data_classes(tmp_path, *typed), typed


def test_presets_are_planned_without_torch(tmp_path: Path) -> None:
    assert not HEAVY & imported(tmp_path, "presets", "show", "fig1a")


def test_nothing_is_searched_for_garbage_at_the_end(tmp_path: Path) -> None:
    script = "import gc\nfrom lottery_cockpit import main\ntry: main()\nfinally: print(gc.get_freeze_count())"
    command = [sys.executable, "-c", script, "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert int(done.stdout.split()[-1]) > 10_000


def test_glyphs_are_as_wide_as_letters() -> None:
    assert {cell_len(glyph) for glyph in words.GLYPHS} == {1}
