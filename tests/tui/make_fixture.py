"""Makes `tests/data/cockpit.db`, on which the screens are tested: `python -m tests.tui.make_fixture`.

All of it is really trained, in about half a minute. Update the snapshots after making it again:
`python -m pytest tests/tui --snapshot-update`.
"""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from engine.store import database, queue
from tests.conftest import add, work_off

FIXTURE = Path(__file__).parents[1] / "data" / "cockpit.db"
SMALL: dict[str, Any] = {"epochs": 4, "width": 0.5, "replicates": 2}


def make(path: Path, folder: Path) -> None:
    """Experiments in all states: done, paused, partly waiting, failed, diverged, cancelled."""
    add(path, "halves", **SMALL, levels=6, scope=["global", "layerwise"], random=["global", "preserved"])
    add(path, "to the whole", **SMALL, levels=6, target=["digits"])
    add(path, "wild", levels=1, learning_rate=1e30)
    lost = folder / "lost.npz"
    images, labels = np.zeros((80, 8, 8), np.uint8), np.arange(80, dtype=np.uint8) % 10
    np.savez(lost, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    add(path, "lost", source=[f"npz:{lost}"], target=[f"npz:{lost}"], levels=1, replicates=1, batch_size=16)
    lost.unlink()
    work_off(path)
    add(path, "optimizers", **SMALL, levels=3, optimizer=["sgd", "adam"])
    add(path, "later", **SMALL, levels=9)
    add(path, "never", **SMALL, levels=2, seed=100)
    with closing(database.writer(path)) as connection:
        queue.set_state(connection, queue.experiment_id(connection, "later"), "paused")
        queue.set_state(connection, queue.experiment_id(connection, "never"), "cancelled")


def main() -> None:
    """Make the file, without logs and a folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cockpit.db"
        make(path, Path(folder))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("UPDATE workers SET host = 'bench', log = NULL")
            connection.commit()
            connection.execute("VACUUM")
        shutil.copyfile(path, FIXTURE)


if __name__ == "__main__":
    main()
