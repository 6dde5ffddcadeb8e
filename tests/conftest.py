"""Shared fixtures: small experiments on the digits, really trained, and the program as users run it."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from cockpit.text import hints
from engine.plan import defining
from engine.store import adding, database
from tests.workers import Worker

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
TINY: dict[str, Any] = {
    "source": ["digits-a"],
    "target": ["digits-b"],
    "width": 0.25,
    "levels": 3,
    "epochs": 2,
    "replicates": 2,
    "profile": "exact",
}
# `TINY` on the command line.
SMALL = (
    "--source",
    "digits-a",
    "--target",
    "digits-b",
    "--width",
    0.25,
    "--levels",
    3,
    "--epochs",
    2,
    "--replicates",
    2,
)
ADD = ("queue", "add", *SMALL, "--profile", "exact")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts background jobs like this; processes of the tests would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it: parallel tests leave no cores for more threads
GIB_A_WORKER = 3  # memory of a test that trains in several processes


def pytest_xdist_auto_num_workers() -> int:
    """The number of processes of `-n auto`: three for two cores, as many tests wait for something, if memory allows."""
    available: int = psutil.virtual_memory().available
    return max(1, min(8, (os.cpu_count() or 1) * 3 // 2, available // (GIB_A_WORKER * 2**30)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that no process is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


Cockpit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def _trusted_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Models that tests trust are not recorded for the user who runs them."""
    os.environ["COCKPIT_TRUSTED_MODELS"] = str(tmp_path_factory.mktemp("trust") / "trusted-models")


@pytest.fixture(scope="session", autouse=True)
def _tables_are_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new database is a copy of the first one: to make its tables takes a process of half a second."""
    migrate, first = database._migrate, tmp_path_factory.mktemp("first") / "experiments.db"

    def copy(file: Path, asked: Path | None = None) -> None:
        if asked is None:  # an older database
            migrate(file)
            return
        if not first.exists():
            migrate(first)
        try:
            shutil.copyfile(first, file)
        except OSError:
            migrate(file, asked)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database, "_migrate", copy)
        yield


@pytest.fixture(autouse=True)
def _nobody_told_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the --db of commands that ran in this process."""
    monkeypatch.setattr(hints, "_told", None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image sets on the project's machines; elsewhere the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip("needs the real image sets in ../shared/data")
    return SHARED


def run_cockpit(folder: Path, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in `folder` as users do."""
    clean = {key: value for key, value in os.environ.items() if key not in ("COCKPIT_DB", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-m", "cockpit", *map(str, arguments)],
        cwd=folder,
        env={**clean, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def cockpit(tmp_path: Path) -> Cockpit:
    """The program, run in an empty folder."""

    def run(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        return run_cockpit(tmp_path, *arguments, **environment)

    return run


def copied(path: Path, folder: Path) -> Path:
    """A copy of a database to write to. SQLite makes it: some of the original may still lie in its write-ahead log."""
    copy = folder / "experiments.db"
    with closing(sqlite3.connect(path)) as original, closing(sqlite3.connect(copy)) as target:
        original.backup(target)
    return copy


def work_off(path: Path, **options: Any) -> str:
    """Train the whole queue of a database in a worker process; returns its output."""
    given = {"device": "cpu", **options}
    worker = Worker("--db", path, "--drain", *(part for key, value in given.items() for part in (f"--{key}", value)))
    assert worker.wait() == 0, worker.said()
    return worker.said()


def add(path: Path, name: str, **options: Any) -> adding.Added:
    """Queue an experiment: `TINY`, changed by `options`."""
    with closing(database.writer(path)) as connection:
        return adding.add(connection, name, defining.define(**{**TINY, **options}), "cockpit queue add")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of one small experiment with both scopes and all random tickets, trained to the end. Read only."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # shared by the processes of pytest-xdist
    folder, unfinished = shared / "trained", shared / "in-training"
    with FileLock(shared / "trained.lock"):
        if not folder.exists():
            unfinished.mkdir(exist_ok=True)
            path = unfinished / "experiments.db"
            add(path, "tiny", scope=["global", "layerwise"], random=["global", "local", "preserved"])
            work_off(path)
            unfinished.rename(folder)
    return folder / "experiments.db"
