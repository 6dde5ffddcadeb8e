"""The outcome of a database's trainings, for comparing two databases, and invariants of finished work."""

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.recipes import Run
from engine.store import database
from tests.conftest import add
from tests.faults import victim

# Two masks, a transfer, random tickets: 13 runs with every kind of need and file.
WORK: dict[str, Any] = {"levels": 2, "replicates": 1, "epochs": 6, "width": 0.5, "random": ["global", "local"]}
UNDER_WAY = ("runs", "epochs", "layers", "files", "attempts", "experiments")


def queue_work(path: Path) -> None:
    """Make a database with the work of the tests of faults."""
    add(path, "work", **WORK)


def undisturbed(path: Path) -> dict[str, Any]:
    """The outcome of that work by one undisturbed worker."""
    queue_work(path)
    assert victim.start(path).end() == 0
    return outcome(path)


def outcome(path: Path) -> dict[str, Any]:
    """The results of all trainings, independent of workers, times and numbers of attempts.

    The epochs of all attempts are one set, so that an attempt with other bits than the last shows as a difference.
    """
    return _read(
        path,
        runs="SELECT digest, status, test_accuracy, test_epoch, weights_remaining, weights_total, error FROM runs"
        " ORDER BY id",
        epochs="SELECT DISTINCT run_id, epoch, train_loss, train_accuracy, test_accuracy, learning_rate FROM epochs"
        " ORDER BY 1, 2",
        layers="SELECT * FROM layers ORDER BY run_id, layer",
        files="SELECT * FROM files ORDER BY run_id, kind",  # their rows hold the SHA-256
    )


def everything(path: Path) -> dict[str, Any]:
    """All values that late writers must not change."""
    return _read(path, **{table: f"SELECT * FROM {table}" for table in UNDER_WAY})


def check_done_once(path: Path) -> None:
    """Assert that each run was done once, by its last attempt, and that exactly the recorded files exist, whole."""
    found = _read(
        path,
        runs="SELECT id, status, lost, attempt, claim, recipe FROM runs",
        attempts="SELECT run_id, attempt, outcome, claim FROM attempts ORDER BY run_id, claim",
        epochs="SELECT run_id, attempt, epoch FROM epochs ORDER BY run_id, attempt, epoch",
        files="SELECT sha256 FROM files",
    )
    for run, status, lost, last, claim, recipe in found["runs"]:
        assert (status, lost) == ("done", 0), run
        attempts = [row[1:] for row in found["attempts"] if row[0] == run]
        assert {outcome for _, outcome, _ in attempts[:-1]} <= {"lost", "stopped"}
        assert attempts[-1] == (last, "done", claim)
        numbers = [number for number, _, _ in attempts]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(1, last + 1))
        trained = Run.from_json(recipe)
        planned = list(range(trained.first_epoch, trained.training.epochs))
        for number in range(1, last + 1):
            epochs = [row[2] for row in found["epochs"] if row[:2] == (run, number)]
            assert epochs == planned[: None if number == last else len(epochs)]
    recorded = {digest for (digest,) in found["files"]}
    folder = database.files_folder(path)
    assert {file.name for file in folder.glob("*/*")} == {f"{digest}.safetensors" for digest in recorded}
    assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("tickets/*")} == recorded


def _read(path: Path, **queries: str) -> dict[str, Any]:
    with closing(database.reader(path)) as connection:
        return {name: [tuple(row) for row in connection.execute(query)] for name, query in queries.items()}
