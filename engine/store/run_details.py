"""All records of one run."""

import sqlite3
from dataclasses import dataclass

from engine.store import rows
from engine.store.row_types import Attempt, Epoch, File, Run, typed


@dataclass(frozen=True)
class RunDetail:
    """A run, with its recipe (JSON), its experiments, the runs it needs, its attempts, last epochs and files."""

    run: Run
    recipe: str
    epochs_planned: int
    experiments: tuple[tuple[int, str], ...]  # id and name
    needs: tuple[Run, ...]
    needed_by: int  # number of runs
    data_sets: dict[str, str]  # names by identity
    attempts: tuple[Attempt, ...]  # oldest first
    epochs: tuple[Epoch, ...]  # of the last attempt
    files: tuple[File, ...]


def read(connection: sqlite3.Connection, run: int) -> RunDetail | None:
    """The run of this id; None if it was removed."""
    found = rows.with_needs(connection, run)
    if not found or found[0].id != run:
        return None
    this, *needs = found
    about = connection.execute("SELECT recipe, epochs, attempt, dependents FROM runs WHERE id = ?", (run,)).fetchone()
    experiments = connection.execute(
        """
        SELECT DISTINCT e.id, e.name FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
        JOIN experiments e ON e.id = c.experiment_id WHERE p.run_id = ? ORDER BY e.id
        """,
        (run,),
    )
    attempts = connection.execute(
        """
        SELECT a.attempt, a.claim, a.started_at, a.ended_at, a.outcome, a.error,
               w.device, w.device_name, w.host, w.pid
        FROM attempts a LEFT JOIN workers w ON w.id = a.worker WHERE a.run_id = ? ORDER BY a.claim
        """,
        (run,),
    )
    epochs = connection.execute(
        """
        SELECT epoch, train_loss, train_accuracy, validation_accuracy, test_accuracy, learning_rate, images_per_second,
               validation_loss, test_loss, test_top5
        FROM epochs WHERE run_id = ? AND attempt = ? ORDER BY epoch
        """,
        (run, about["attempt"]),
    )
    files = connection.execute("SELECT kind, sha256, bytes FROM files WHERE run_id = ? ORDER BY kind", (run,))
    names = connection.execute("SELECT identity, name FROM datasets WHERE instr(?, identity)", (about["recipe"],))
    return RunDetail(
        run=this,
        recipe=about["recipe"],
        epochs_planned=about["epochs"],
        experiments=tuple((row["id"], row["name"]) for row in experiments),
        needs=tuple(needs),
        needed_by=about["dependents"],
        data_sets={row["identity"]: row["name"] for row in names},
        attempts=tuple(typed(Attempt, row) for row in attempts),
        epochs=tuple(typed(Epoch, row) for row in epochs),
        files=tuple(typed(File, row) for row in files),
    )
