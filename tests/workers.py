"""Worker processes that tests start, and what their trainings recorded."""

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.store import database

SLOW = {"levels": 1, "replicates": 1, "epochs": 12, "random": ["none"], "width": 0.5}


def records(path: Path) -> dict[str, Any]:
    """All that trainings yielded, without what the clock and the claims put there."""
    with closing(database.reader(path)) as connection:
        return {
            table: [tuple(row) for row in connection.execute(query)]
            for table, query in {
                "runs": "SELECT digest, status, attempt, test_accuracy, test_epoch, weights_remaining"
                " FROM runs ORDER BY id",
                "epochs": "SELECT run_id, attempt, epoch, train_loss, train_accuracy, test_accuracy, learning_rate"
                " FROM epochs ORDER BY run_id, attempt, epoch",
                "layers": "SELECT * FROM layers ORDER BY run_id, layer",
                "files": "SELECT * FROM files ORDER BY run_id, kind",  # with the hash of their bytes
            }.items()
        }


def start_worker(path: Path, checkpoint_seconds: float, **options: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "engine.workers.worker", "--db", str(path), "--device", "cpu", "--drain"]
    return subprocess.Popen([*command, "--checkpoint-seconds", str(checkpoint_seconds)], **options)


def wait_for_epochs(path: Path, recorded: int, worker: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    with closing(database.reader(path)) as connection:
        while connection.execute("SELECT count(*) FROM epochs").fetchone()[0] < recorded and worker.poll() is None:
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.01)
