"""Commands in messages can be copied: they name the database of --db."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cockpit.cli import commands
from cockpit.text import hints
from tests.cockpit.commands import ALL
from tests.conftest import SMALL, Cockpit, add, work_off

ADVICE = re.compile(r"`(cockpit [^`]+)`")
COMMANDS = (
    "queue list --archived",
    "work --drain",
    "work --status",
    "queue resume one",
    "plot one",
    "show one",
    "queue show nobody",
    "queue estimate",
    "store check",
    "diff one:global one:layerwise",
    "tickets list",
    "claims",
)


@pytest.mark.parametrize("name", ["other.db", "an other.db"])
def test_what_is_advised_names_the_database_that_was_named(cockpit: Cockpit, tmp_path: Path, name: str) -> None:
    database = tmp_path / name
    assert cockpit("queue", "add", *SMALL, "--name", "one", "--db", database).returncode == 0
    assert cockpit("queue", "pause", "one", "--db", database).returncode == 0
    advised: list[str] = []
    for command in COMMANDS:
        found = cockpit(*command.split(), "--db", database)
        advised += ADVICE.findall(found.stdout + found.stderr)
    assert len(advised) > 3
    for command in advised:
        words = shlex.split(command)
        if words[1] not in ("data", "models", "presets", "doctor"):
            assert words[words.index("--db") + 1] == str(database), command


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("try `cockpit queue resume NAME`", "try `cockpit queue resume --db a.db NAME`"),
        ("`cockpit work --detach` or `cockpit work`", "`cockpit work --db a.db --detach` or `cockpit work --db a.db`"),
        ("`cockpit store backup PLACE --db b.db`", "`cockpit store backup PLACE --db b.db`"),
        ("`cockpit models list` and `--stop`", "`cockpit models list` and `--stop`"),
        ("`cockpit run digits`", "`cockpit run --db a.db digits`"),
    ],
)
def test_only_commands_that_take_a_database_are_completed(
    monkeypatch: pytest.MonkeyPatch, text: str, completed: str
) -> None:
    monkeypatch.setattr(hints, "_told", None)  # an earlier test in this process may have set it
    assert hints.complete(text) == text
    monkeypatch.setattr(hints, "_told", Path("a.db"))
    assert hints.complete(text) == completed


def test_an_experiment_whose_data_is_absent_is_not_queued_by_run(cockpit: Cockpit) -> None:
    absent = ("run", "--source", "cifar10", "--levels", 1, "--name", "absent")
    found = cockpit(*absent, COCKPIT_DATA="/nowhere", XDG_CACHE_HOME="/nowhere")
    assert found.returncode == 2
    assert found.stderr.startswith("cockpit: error: "), found.stderr
    assert "absent" not in cockpit("queue", "list").stdout


@pytest.mark.usefixtures("read_only_folder")
@pytest.mark.parametrize(
    "command",
    [
        "export -o ro/out.csv",
        "figure one -o ro/out.svg",
        "store backup ro/out.db",
        "tickets export one:global --level 1 -o ro/out.safetensors",
    ],
)
def test_an_output_that_cannot_be_written_is_named_as_it_was_asked_for(
    cockpit: Cockpit, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=1, epochs=1, replicates=1, random=["none"])
    work_off(path)
    found = cockpit(*command.split())
    assert found.returncode == 2
    assert "ro/out." in found.stderr, found.stderr
    assert found.stderr.count("\n") == 1
    assert ".out." not in found.stderr


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """The folder `ro`, which no user, not even root, may write."""
    folder = tmp_path / "ro"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_commands_without_a_database_are_those_that_take_none() -> None:
    found = {words for words, command in ALL.items() if all("--db" not in one.opts for one in command.params)}
    assert found == commands.WITHOUT_DATABASE


@pytest.mark.parametrize(
    "path", ["plain.db", "a b'c.db", "two\nlines\\.db", "it's\x1b[2J.db", "not\udcff utf-8\r.db", "täglich\t.db"]
)
def test_bash_reads_the_path_of_a_hint_back_and_the_hint_is_one_line(path: str) -> None:
    said = hints.quoted(path)
    assert said.isprintable()
    assert subprocess.run(["bash", "-c", f"printf %s {said}"], capture_output=True, check=True).stdout == os.fsencode(
        path
    )


def test_hints_that_name_a_database_of_two_lines_are_one_line(cockpit: Cockpit, tmp_path: Path) -> None:
    database = tmp_path / "two\nlines.db"
    assert cockpit("queue", "add", *SMALL, "--name", "one", "--db", database).returncode == 0
    for command in ("plot one", "work --status", "diff one:global one:layerwise"):
        found = cockpit(*command.split(), "--db", database)
        assert (found.stdout + found.stderr).count("\n") == 1, found
