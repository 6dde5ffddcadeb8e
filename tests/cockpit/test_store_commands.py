"""The commands of `cockpit store`, with the real program in an empty folder."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import care, database
from tests.conftest import Cockpit, add
from tests.databases import change, silently, ticket_files

SAMPLE = Path(__file__).parents[2] / "experiments.db"


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A trained database with links to its files, which may be deleted but not changed."""
    care.backup(trained, tmp_path / "experiments.db", silently)
    return tmp_path / "experiments.db"


def test_check_says_that_all_is_well(cockpit: Cockpit, path: Path) -> None:
    runs, files = 50, len(ticket_files(path))
    found = cockpit("store", "check")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.endswith(f"runs and {files} ticket files, no problem found\n")
    told = json.loads(cockpit("store", "check", "--json").stdout)
    assert told["runs"] >= runs
    assert {**told, "runs": runs} == {
        "ok": True, "errors": {}, "notes": [], "repaired": [], "runs": runs, "files": files,
    }  # fmt: skip


def test_check_repairs_what_it_can_and_its_exit_code_says_what_is_left(cockpit: Cockpit, path: Path) -> None:
    change(path, "UPDATE runs SET unmet = 1 WHERE id = 1", "UPDATE runs SET test_accuracy = NULL WHERE id = 2")
    found = cockpit("store", "check")
    assert found.returncode == 1
    assert [line[0] for line in found.stdout.splitlines()] == ["✗", "✗"]
    assert re.fullmatch(r"Repair with `cockpit store check --repair --db \S+`\n", found.stderr)
    found = cockpit("store", "check", "--repair")
    assert found.returncode == 1
    assert found.stdout.endswith("✓ runs whose place in the queue was derived again: 1\n")
    change(path, "UPDATE runs SET test_accuracy = 0.5 WHERE id = 2", "UPDATE runs SET unmet = 1 WHERE id = 1")
    told = json.loads(cockpit("store", "check", "--repair", "--json").stdout)
    assert (told["ok"], list(told["errors"]), len(told["repaired"])) == (True, ["queue"], 1)
    assert cockpit("store", "check").returncode == 0


def test_check_of_the_sample_finds_it_well_and_leaves_it_as_it_is(cockpit: Cockpit, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path)
    for arguments in (("check",), ("gc", "--tickets", "--runs", "--dry-run")):
        assert cockpit("store", *arguments).returncode == 0
    assert [place.name for place in tmp_path.iterdir()] == ["experiments.db"]
    assert (tmp_path / "experiments.db").read_bytes() == SAMPLE.read_bytes()


def test_gc_says_what_it_would_free_and_frees_it_when_told_to(cockpit: Cockpit, path: Path) -> None:
    assert cockpit("store", "gc").stdout.startswith("nothing to free (")
    files = ticket_files(path)
    cockpit("queue", "remove", "tiny")
    found = cockpit("store", "gc", "--dry-run", "--runs")
    assert found.returncode == 0
    assert found.stdout.startswith(f"ticket files: {len(files)} (")
    asked = cockpit("store", "gc")
    assert (asked.returncode, ticket_files(path)) == (2, files)
    assert asked.stderr == (
        "cockpit: error: no terminal to confirm on: confirm with --yes, or preview with --dry-run\n"
    )
    told = json.loads(cockpit("store", "gc", "--yes", "--runs", "--json").stdout)
    assert told["plan"] == told["freed"]
    assert told["freed"]["tickets"] == len(files)
    assert ticket_files(path) == set()
    assert cockpit("store", "check").stdout.endswith("0 runs and 0 ticket files, no problem found\n")


@pytest.mark.parametrize("answer", ["y", "n"])
def test_gc_asks_on_a_terminal(cockpit: Cockpit, path: Path, answer: str) -> None:
    files = ticket_files(path)
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [sys.executable, "-m", "cockpit", "store", "gc", "--tickets"]
    found = subprocess.run(command, cwd=path.parent, stdin=theirs, capture_output=True, text=True, check=False)
    assert found.returncode == 0
    assert "Delete these? [y/N]" in found.stderr
    assert ticket_files(path) == (set() if answer == "y" else files)


def test_backup_makes_a_database_of_its_own(cockpit: Cockpit, path: Path) -> None:
    files = len(ticket_files(path))
    found = cockpit("store", "backup", "copy.db")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"copied experiments.db to copy.db, with {files} ticket files and 0 checkpoints\n"
    again = cockpit("store", "backup", "copy.db")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == (
        "cockpit: error: copy.db exists: name another file, or let it be overwritten with --force\n"
    )
    told = json.loads(cockpit("store", "backup", "copy.db", "--force", "--no-files", "--json").stdout)
    assert told == {"backup": "copy.db", "files": 0, "checkpoints": 0, "absent": 0}
    assert cockpit("store", "check", "--db", "copy.db").returncode == 0
    assert cockpit("plot", "tiny", "--db", "copy.db").stdout == cockpit("plot", "tiny").stdout
    assert cockpit("store", "backup", "x.db", "--db", "absent.db").returncode == 2


def test_merge_says_what_it_brought(cockpit: Cockpit, path: Path) -> None:
    files = len(ticket_files(path))
    add(path.with_name("mine.db"), "tiny", seed=7)
    add(path, "later", seed=8)
    found = cockpit("store", "merge", "experiments.db", "--db", "mine.db")
    assert (found.returncode, found.stderr) == (0, "")
    first, *rest = found.stdout.splitlines()
    assert first.startswith("experiments.db: ")
    assert first.endswith(f" new runs, 0 runs finished only there, {files} ticket files")
    assert rest == [
        "new: 'tiny (experiments.db)' later",
        "tiny names another experiment here, so the one of experiments.db is now tiny (experiments.db)",
        "paused (train them here with `cockpit queue resume --db mine.db`): later",
    ]
    again = json.loads(cockpit("store", "merge", "experiments.db", "--db", "mine.db", "--json").stdout)
    assert {**again, "known": {}} == {
        "new": 0, "finished": 0, "running": 0, "differing": 0, "experiments": {}, "paused": [], "known": {},
        "files": 0, "absent": 0,
    }  # fmt: skip
    assert cockpit("store", "check", "--db", "mine.db").returncode == 0
    itself = cockpit("store", "merge", "mine.db", "--db", "mine.db")
    assert itself.stderr == "cockpit: error: mine.db is the database itself: name another one, to be merged into it\n"
    assert cockpit("store", "merge", "absent.db").returncode == 2


def test_a_merge_into_the_sample_goes_into_its_local_copy(cockpit: Cockpit, path: Path) -> None:
    other = path.rename(path.with_name("other.db"))
    database.files_folder(path).rename(database.files_folder(other))
    shutil.copy(SAMPLE, path)
    found = cockpit("store", "merge", "other.db")
    assert found.returncode == 0
    assert "is a read-only sample" in found.stderr
    assert path.read_bytes() == SAMPLE.read_bytes()
    with closing(database.reader(path.with_name("experiments.local.db"))) as connection:
        names = [row["name"] for row in connection.execute("SELECT name FROM experiments ORDER BY id")]
    with closing(database.reader(SAMPLE)) as connection:
        assert names == [
            *(row["name"] for row in connection.execute("SELECT name FROM experiments ORDER BY id")),
            "tiny",
        ]
