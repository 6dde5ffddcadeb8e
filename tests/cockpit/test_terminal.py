"""Hostile names on all kinds of terminals: output cannot control the terminal, and no command fails."""

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
import tomllib
from pathlib import Path

import pytest

from cockpit.text import words
from tests.cockpit.commands import ALL
from tests.cockpit.terminals import SECONDS, in_terminal
from tests.conftest import Cockpit, run_cockpit
from tests.hostile import COMMANDS, MARKUP, NAMES, hostile

# Commands that print users' names; {name} is an experiment.
LISTINGS: dict[tuple[str, ...], str] = {
    ("claims",): "",
    ("data", "list"): "",
    ("connect",): "{name}",
    ("diff",): "{name}",
    ("doctor",): "",
    ("export",): "--table runs --json",
    ("ls",): "",
    ("plot",): "{name}",
    ("queue", "annotate"): "{name} --tag x",
    ("queue", "archive"): "{name}",
    ("queue", "cancel"): "{name}",
    ("queue", "curve"): "{name}",
    ("queue", "estimate"): "",
    ("queue", "list"): "",
    ("queue", "logs"): "{name}",
    ("queue", "ls"): "",
    ("queue", "move"): "{name} --by 1",
    ("queue", "pause"): "{name}",
    ("queue", "remove"): "{name}",
    ("queue", "resume"): "{name}",
    ("queue", "retry"): "{name}",
    ("queue", "show"): "{name} --runs",
    ("queue", "unarchive"): "{name}",
    ("queue", "wait"): "{name} --timeout 0",
    ("show",): "{name}",
    ("status",): "",
    ("store", "check"): "",
    ("store", "gc"): "--dry-run",
    ("store", "merge"): "other.db",
    ("tickets", "list"): "",
    ("work",): "--status",
}
NAMELESS = {
    ("run",), ("serve",), ("join",), ("cluster", "keys"),
    ("figure",), ("queue", "add"), ("queue", "extend"), ("store", "backup"),
    ("data", "get"), ("data", "locate"), ("data", "name"), ("data", "path"), ("data", "check"),
    ("models", "list"), ("models", "show"),
    ("presets", "list"), ("presets", "show"), ("tickets", "export"), ("tickets", "verify"), ("tickets", "import"),
}  # fmt: skip


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """A database with hostile names in the current folder, and another one to merge."""
    hostile(tmp_path / "other.db")
    return hostile(tmp_path / "experiments.db")


def called(command: tuple[str, ...], name: str) -> list[str]:
    return [*command, *(part.replace("{name}", name) for part in shlex.split(LISTINGS[command]))]


def test_every_command_is_tried_here_or_prints_no_names() -> None:
    assert set(ALL) == set(LISTINGS) | NAMELESS


@pytest.mark.parametrize("command", LISTINGS, ids=" ".join)
def test_no_name_reaches_the_terminal_as_a_command_and_none_breaks_a_listing(
    cockpit: Cockpit, names: list[str], command: tuple[str, ...]
) -> None:
    for name in names[:3] if "{name}" in LISTINGS[command] else names[:1]:
        found = cockpit(*called(command, name))
        assert "Traceback" not in found.stderr, found.stderr
        assert not COMMANDS.search(found.stdout + found.stderr)


def test_a_name_takes_one_line_of_a_table_and_nothing_in_it_is_markup(cockpit: Cockpit, names: list[str]) -> None:
    lines = cockpit("queue", "list").stdout.splitlines()
    assert len(lines) == 1 + len(names) + 1  # the total time left
    assert lines[1].startswith(f"'{MARKUP} ␛[2J␛]0;owned␇' ")
    assert lines[5].startswith("'two␊lines and a␉tab␍' ")


def test_on_a_terminal_only_colours_are_obeyed(names: list[str], tmp_path: Path) -> None:
    for arguments in (("queue", "list"), ("plot", names[0]), ("export", "--table", "curves"), ("show", names[1])):
        shown, _ = in_terminal(tmp_path, *arguments, until="never", keys=b"")
        assert "Traceback" not in shown
        text = re.sub(r"\x1b\[[\d;]*m", "", shown).replace("\r\n", "\n")
        assert not COMMANDS.search(text), arguments
        assert not re.search(r"\x1b\[(8|31)m", shown)  # escape sequences of a name


def test_names_in_listings_can_be_pasted_into_a_shell(cockpit: Cockpit, trained: Path) -> None:
    for command, column in ((("queue", "show", "tiny"), 0), (("show", "tiny"), 0), (("queue", "curve", "tiny"), 0)):
        lines = cockpit(*command, "--db", trained).stdout.splitlines()
        named = [line for line in lines if line.startswith("'") and "winning" in line]
        assert named, command
        for line in named:
            assert shlex.split(line)[column].startswith("digits-a -> digits-"), line
        assert not [line for line in lines if re.search(r"(^|\s)[^'\s]+ > ", line)]


def test_diff_fits_a_terminal_of_80_columns(trained: Path, tmp_path: Path) -> None:
    shown, _ = in_terminal(tmp_path, "diff", "tiny", "--db", str(trained), until="never", keys=b"", COLUMNS="80")
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).replace("\r\n", "\n").splitlines()
    assert max(map(len, lines)) <= 80
    assert (
        sum(line.startswith("conv1") for line in lines) > 1
    )  # the table is split into parts that each name the layers


def test_data_keep_the_names_as_they_are(cockpit: Cockpit, names: list[str], tmp_path: Path) -> None:
    for encoding in ("utf-8", "ascii"):
        csv = subprocess.run(
            [sys.executable, "-m", "cockpit", "export", "--csv"], cwd=tmp_path, capture_output=True, check=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        ).stdout  # fmt: skip
        assert all(name.encode() in csv for name in names[:2])
    table = cockpit("queue", "show", *names, "--toml").stdout
    assert [one["name"] for one in tomllib.loads(table)["experiment"]] == names
    assert not COMMANDS.search(table)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "command", [("queue", "list"), ("plot",), ("diff",), ("show",), ("queue", "show"), ("claims",)]
)
def test_what_an_encoding_lacks_is_replaced(
    names: list[str], tmp_path: Path, command: tuple[str, ...], encoding: str
) -> None:
    arguments = [sys.executable, "-m", "cockpit", *called(command, names[0])]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).strip()


def test_states_and_curves_are_told_apart_in_ascii(names: list[str], tmp_path: Path) -> None:
    from cockpit.text import terminal
    from cockpit.views import legends

    for glyphs in (legends.MARKERS, words.OF_EXPERIMENTS.values(), words.OF_CHECKS.values()):
        found = [terminal._nearest(glyph) for glyph in glyphs]
        assert len(set(found)) == len(found)
        assert "?" not in found
    assert [terminal._nearest(one) for one in "é½日±"] == ["e", "?", "?", "+/-"]


@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/null"])
@pytest.mark.parametrize("command", ["", "queue list", "queue list --json", "plot '[/]'", "store gc", "nonsense"])
def test_a_closed_stream_is_no_error(names: list[str], tmp_path: Path, command: str, shell: str) -> None:
    before = (tmp_path / "experiments.db").read_bytes()
    line = f"{shlex.quote(sys.executable)} -m cockpit {command} {shell}"
    expected = run_cockpit(tmp_path, *shlex.split(command)).returncode
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == expected
    assert "Traceback" not in done.stderr
    assert not (">&-" in shell.split() and done.stdout)
    assert not ("2>&-" in shell and "error" in done.stdout)  # errors go to stderr
    assert (tmp_path / "experiments.db").read_bytes() == before


@pytest.mark.parametrize("command", ["--help", "queue list", "export --table runs", "show '[/]'", "queue list --json"])
@pytest.mark.parametrize("pipe", ["2>&1 |", "|"])
def test_a_reader_that_has_seen_enough_ends_the_program(
    names: list[str], tmp_path: Path, command: str, pipe: str
) -> None:
    line = f"{shlex.quote(sys.executable)} -m cockpit {command} {pipe} true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize("size", ["999999", "0", "-1", "abc", "", "1", "9" * 30, "٣"])
@pytest.mark.parametrize("command", ["queue list", "plot '[/]'", "--help", "show '[/]'"])
def test_a_size_of_the_terminal_that_makes_no_sense_is_bounded(
    names: list[str], tmp_path: Path, size: str, command: str
) -> None:
    found = run_cockpit(tmp_path, *shlex.split(command), COLUMNS=size, LINES=size, TERMINAL_WIDTH=size)
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("environment", "why"),
    [({"TERM": "dumb"}, "not TERM=dumb"), ({"PYTHONIOENCODING": "latin-1"}, "UTF-8, not iso8859-1")],
)
def test_the_dashboard_says_in_a_line_which_terminal_it_needs(
    tmp_path: Path, environment: dict[str, str], why: str
) -> None:
    shown, code = in_terminal(tmp_path, until="never", keys=b"", **environment)
    assert code == 2
    assert "cockpit: error: the dashboard needs a terminal" in shown
    assert why in shown
    assert "Traceback" not in shown


def test_the_dashboard_has_the_size_of_its_terminal_not_of_the_environment(tmp_path: Path) -> None:
    shown, code = in_terminal(tmp_path, until="cockpit run digits", keys=b"q", COLUMNS="999999", LINES="999999")
    assert code == 0
    assert "cockpit run digits" in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_one_line_is_printable_and_what_is_seen_of_a_text_can_be_printed(name: str) -> None:
    assert not COMMANDS.search(words.visible(name))
    assert words.visible(name).count("\n") == name.count("\n")
    assert words.line(name).isprintable()
    assert not COMMANDS.search(words.stripped(name))


def test_ctrl_z_gives_the_terminal_back_and_fg_paints_the_dashboard_again(names: list[str], tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "cockpit"], {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    try:
        read_until(terminal, "no workers")
        os.write(terminal, b"\x1a")
        assert "\x1b[?1049l" in read_until(terminal, "\x1b[?1049l")  # the shell's screen
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        os.kill(pid, signal.SIGCONT)
        read_until(terminal, "\x1b[?1049h")
        read_until(terminal, "[@click=app.quit]")
        os.write(terminal, b"q")
        read_until(terminal, "\x1b[?1049l")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, text: str) -> str:
    """The output to a terminal until it contains a text."""
    shown, deadline = b"", time.monotonic() + SECONDS
    while text.encode() not in shown:
        assert time.monotonic() < deadline, shown.decode(errors="replace")[-2000:]
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")
