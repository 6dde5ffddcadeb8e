"""Fixtures of the tests of faults."""

import multiprocessing
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import outcomes

DISK_BYTES = 8 * 2**20


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of `outcomes.WORK` by an undisturbed worker."""
    return outcomes.undisturbed(tmp_path_factory.mktemp("undisturbed") / "experiments.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with that work in its queue."""
    path = tmp_path / "experiments.db"
    outcomes.queue_work(path)
    return path


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test() -> Iterator[None]:
    """Kill workers that a failed test left running or stopped."""
    yield
    for process in multiprocessing.active_children():
        process.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
