"""Commands in a read-only folder and on a full disk: one clear line, and nothing is lost."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from engine.machine import processes
from engine.store import database
from engine.store.files import Folder
from tests.conftest import add, run_cockpit
from tests.faults.disks import fill
from tests.waiting import wait_until

FILE = '[[experiment]]\nsource = "digits-a"\nlevels = 1\nseed = 70\n'
WRITING = (
    "queue add digits",
    "queue add paper.toml",
    "queue extend one --levels 4",
    "queue pause one",
    "queue resume one",
    "queue cancel one",
    "queue retry one",
    "queue move one --priority 3",
    "queue annotate one --notes text",
    "queue archive one",
    "queue unarchive one",
    "queue remove one",
    "run digits",
    "work --drain",
    "work --detach",
    "export -o results.csv",
    "store check --repair",
    "store backup copy.db",
    "queue add digits --db new.db",
)
READING = (
    "queue list",
    "queue show one",
    "queue show one --toml",
    "queue logs one",
    "queue estimate",
    "export",
    "work --status",
)


@pytest.fixture
def disk(small_disk: Path) -> Path:
    """A small file system with a database of a waiting experiment, and an experiment file."""
    add(small_disk / "experiments.db", "one", levels=1)
    (small_disk / "paper.toml").write_text(FILE)
    return small_disk


@pytest.fixture
def read_only(disk: Path) -> Iterator[Path]:
    """The same, mounted read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield disk
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def contents(folder: Path) -> list[str]:
    """The content of the database, read from a copy, as SQLite cannot open the original on a full disk."""
    with TemporaryDirectory() as elsewhere:
        for file in folder.glob("experiments.db*"):
            if not file.name.endswith("-shm") and file.is_file():
                shutil.copy(file, elsewhere)
        with closing(sqlite3.connect(Path(elsewhere) / "experiments.db")) as connection:
            found = list(connection.iterdump())
    assert any('INSERT INTO "experiments"' in line for line in found)
    return found


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_where_nothing_can_be_written_each_command_that_would_says_so_and_the_others_work(read_only: Path) -> None:
    for command in WRITING:
        found = run_cockpit(read_only, *command.split())
        assert (found.returncode, found.stdout) == (2, ""), command
        assert found.stderr.startswith("cockpit: error: "), command
        assert "cannot be written" in found.stderr, command
        assert found.stderr.count("\n") == 1, command
    for command in READING:
        assert run_cockpit(read_only, *command.split()).returncode == 0, command
    assert run_cockpit(read_only, "queue", "add", "paper.toml", "--dry-run").returncode == 0
    assert files(read_only) == {"experiments.db", "paper.toml"}


def test_the_copy_that_is_advised_where_nothing_can_be_written_goes_on(read_only: Path, tmp_path: Path) -> None:
    found = run_cockpit(read_only, "queue", "pause", "one")
    assert "`cockpit store backup PLACE --db experiments.db` makes a copy" in found.stderr
    assert run_cockpit(read_only, "store", "backup", tmp_path / "copy.db").returncode == 0
    paused = run_cockpit(tmp_path, "queue", "pause", "one", "--db", "copy.db")
    assert paused.stdout == "‖ paused  one: 14 of 14 runs left\n"


def test_on_a_full_disk_a_command_does_all_or_says_that_the_disk_is_full(disk: Path) -> None:
    fill(disk / "ballast")
    for command in WRITING:
        before = contents(disk)
        found = run_cockpit(disk, *command.split())
        if found.returncode:
            assert found.returncode == 2, command
            assert found.stderr.startswith("cockpit: error: "), command
            assert "full" in found.stderr or "make room" in found.stderr, (command, found.stderr)
            assert found.stderr.count("\n") == 1, (command, found.stderr)
            assert contents(disk) == before, command
    assert files(disk) == {"experiments.db", "paper.toml", "ballast"}
    (disk / "ballast").unlink()
    assert "no problem found" in run_cockpit(disk, "store", "check").stdout
    added = run_cockpit(disk, "queue", "add", "paper.toml")
    assert (added.returncode, added.stderr) == (0, "train with `cockpit work`\n")


@pytest.mark.parametrize("fault", ["the files cannot be written", "the database is damaged"])
def test_a_fault_of_the_place_stops_the_worker_and_is_charged_to_no_run(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=1, epochs=200)
    if fault == "the files cannot be written":
        Path(f"{path}.files").mkdir()
        Path(f"{path}.files", "tickets").write_text("a file where the folder is to be")
    command = [sys.executable, "-m", "engine.workers.worker", "--db", str(path), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        if fault == "the database is damaged":
            with closing(database.reader(path)) as connection:
                wait_until(lambda: connection.execute("SELECT count(*) FROM epochs").fetchone()[0] > 0)
                connection.execute("SELECT 1")
            for file in (path, Path(f"{path}-wal")):
                with file.open("r+b") as opened:
                    opened.write(b"damaged " * (file.stat().st_size // 8))
        output, errors = worker.communicate(timeout=120)
    assert worker.returncode == processes.HALTED, output + errors
    assert "Traceback" not in output + errors
    (said,) = (line for line in output.splitlines() if line.startswith(processes.HALT))
    assert str(path) in said
    if fault == "the files cannot be written":
        with closing(database.reader(path)) as connection:
            assert {row[0] for row in connection.execute("SELECT DISTINCT status FROM runs")} == {"waiting"}


@pytest.mark.parametrize("harm", ["renamed", "deleted", "replaced", "moved with its files"])
def test_workers_whose_database_is_gone_stop_with_a_checkpoint_and_say_so(tmp_path: Path, harm: str) -> None:
    path, away = tmp_path / "experiments.db", tmp_path / "away"
    add(path, "one", levels=0, epochs=2000)
    command = [sys.executable, "-m", "cockpit", "work", "--drain", "--workers", "1", "--db", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as workers:
        with closing(database.reader(path)) as connection:
            wait_until(lambda: connection.execute("SELECT count(*) FROM epochs").fetchone()[0] > 0)
        if harm == "deleted":
            path.unlink()
        elif harm == "moved with its files":
            away.mkdir()
            for one in tmp_path.glob("experiments.db*"):
                one.rename(away / one.name)
        else:
            path.rename(tmp_path / "moved.db")
        if harm == "replaced":
            shutil.copy(tmp_path / "moved.db", path)
        _, errors = workers.communicate(timeout=120)
    assert workers.returncode != 0
    assert "experiments.db was renamed, deleted or replaced while workers had it open" in errors
    assert "Traceback" not in errors
    assert path.exists() == (harm == "replaced")
    assert list(tmp_path.glob("**/checkpoints/*.safetensors"))
    if harm == "moved with its files":
        assert not list(tmp_path.glob("experiments.db*"))
        assert f"with checkpoints in {away / 'experiments.db.files'}" in errors


@pytest.mark.parametrize(("cwd", "named"), [(".", "lab/experiments.db"), ("lab", "experiments.db")])
def test_workers_whose_folder_is_renamed_stop_with_a_checkpoint_where_it_is_now(
    tmp_path: Path, cwd: str, named: str
) -> None:
    old, new = tmp_path / "lab", tmp_path / "moved"
    old.mkdir()
    add(old / "experiments.db", "one", levels=0, epochs=2000)
    command = [*processes.python("cockpit"), "work", "--drain", "--workers", "1", "--db", named]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": processes.environment()}
    with subprocess.Popen(command, cwd=tmp_path / cwd, **output) as workers:  # type: ignore[call-overload]
        with closing(database.reader(old / "experiments.db")) as connection:
            wait_until(lambda: connection.execute("SELECT count(*) FROM epochs").fetchone()[0] > 0)
        old.rename(new)
        _, errors = workers.communicate(timeout=120)
    assert workers.returncode != 0
    assert f"{old / 'experiments.db'} was renamed, deleted or replaced while workers had it open" in errors
    assert f"with checkpoints in {new / 'experiments.db.files'}" in errors
    assert "Traceback" not in errors
    assert not old.exists()
    (checkpoint,) = (new / "experiments.db.files" / "checkpoints").iterdir()
    with closing(database.reader(new / "experiments.db")) as connection:
        found = connection.execute("SELECT status, attempt FROM runs WHERE digest = ?", (checkpoint.stem,)).fetchone()
        assert tuple(found) == ("waiting", 1)


def test_what_is_written_follows_a_folder_that_is_renamed_and_makes_none_anew(tmp_path: Path) -> None:
    lab, digest = tmp_path / "lab", "0" * 64
    lab.mkdir()
    folder, fixed = Folder.followed(lab / "x.db.files"), Folder(lab / "x.db.files")
    folder.write_checkpoint(digest, b"first")
    lab.rename(tmp_path / "moved")
    folder.write_checkpoint(digest, b"second")
    assert Folder(tmp_path / "moved" / "x.db.files").read_checkpoint(digest) == b"second"
    with pytest.raises(FileNotFoundError):
        fixed.write_checkpoint(digest, b"third")
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        folder.write_checkpoint(digest, b"fourth")
    assert not list(tmp_path.iterdir())
