"""Workers that are killed, stopped, or meet runs that cannot be trained: real processes on real training."""

import hashlib
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.machine import processes
from engine.store import care, database, leases, queue, rows
from engine.store.files import Folder
from tests.conftest import add, work_off
from tests.images import gray, save
from tests.workers import SLOW, records, start_worker, wait_for_epochs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("undisturbed") / "experiments.db"
    add(path, "slow", **SLOW)
    work_off(path)
    return records(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "checkpoint_seconds"),  # checkpoints: after every step, sometimes, never, only on request
    [(signal.SIGKILL, 0.0), (signal.SIGKILL, 0.2), (signal.SIGKILL, 60.0), (signal.SIGTERM, 60.0)],
)
def test_a_worker_killed_and_resumed_gives_the_same_bits_as_one_left_alone(
    tmp_path: Path, undisturbed: dict[str, Any], how: signal.Signals, checkpoint_seconds: float
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "slow", **SLOW)
    for recorded in (1, 4, 14, 30):  # epochs recorded before each kill: in different runs, within epochs
        worker = start_worker(path, checkpoint_seconds)
        wait_for_epochs(path, recorded, worker)
        worker.send_signal(how)
        worker.wait()
    work_off(path)
    found = records(path)
    if how is signal.SIGTERM or checkpoint_seconds == 0.0:
        assert found == undisturbed
    else:  # without a checkpoint the run starts over; the first attempt stays readable
        last = {run: attempt for run, attempt, *_ in found["epochs"]}
        found["epochs"] = [(row[0], 1, *row[2:]) for row in found["epochs"] if row[1] == last[row[0]]]
        found["runs"] = [(row[0], row[1], 1, *row[3:]) for row in found["runs"]]
        assert found == undisturbed
    assert not list((database.files_folder(path) / "checkpoints").glob("*"))


def test_a_run_whose_lease_ran_out_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "short", levels=0, replicates=1, random=["none"])
    with closing(database.writer(path)) as connection:
        holder = connection.execute(
            "INSERT INTO workers (pid, process_started, host) VALUES (1, 0, 'far away')"
        ).lastrowid
        assert holder is not None
        claim = leases.claim(connection, holder)
        assert claim is not None
        connection.execute("UPDATE runs SET lease_expires_at = ? WHERE id = ?", (database.now(-1), claim.run_id))
    work_off(path)
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[0].status == "done"
        assert connection.execute("SELECT claim FROM runs WHERE id = ?", (claim.run_id,)).fetchone()[0] == 2


def test_a_diverging_run_is_recorded_with_its_epoch_and_the_experiment_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "wild", learning_rate=1e30, levels=1)
    add(path, "tame", levels=1)
    work_off(path)
    with closing(database.reader(path)) as connection:
        wild, tame = rows.experiments(connection)
        assert (wild.status, tame.status) == ("diverged", "done")
        assert (wild.diverged, wild.blocked, wild.done) == (8, 6, 0)
        found = connection.execute("SELECT status, diverged_epoch, test_accuracy FROM runs WHERE status = 'diverged'")
        assert {tuple(row) for row in found} == {("diverged", 0, None)}
        assert connection.execute("SELECT count(*) FROM curves WHERE experiment = 'wild'").fetchone()[0] == 0


def test_a_data_set_that_is_gone_fails_its_runs_with_the_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    spec = save(tmp_path / "set.npz", gray(side=8))
    added = add(path, "lost", source=[spec], target=[spec], levels=1, replicates=1)
    add(path, "kept", levels=0, replicates=1)
    content = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "set.npz").unlink()
    work_off(path)
    with closing(database.writer(path)) as connection:
        lost, kept = rows.experiments(connection)
        assert (lost.status, lost.failed, lost.blocked, kept.status) == ("failed", 3, 1, "done")
        errors = {row.error for row in rows.errors(connection, added.experiment)}
        assert errors == {
            f"data set npz:set is gone from {tmp_path / 'set.npz'}: put it back, or name where it is with"
            " `cockpit data locate npz:PATH`; its content is compared, so path and name may be others"
        }
        (tmp_path / "moved.npz").write_bytes(content)  # queued from its new path, it is the same data set
        spec = f"npz:{tmp_path / 'moved.npz'}"
        again = add(path, "lost", source=[spec], target=[spec], levels=1, replicates=1)
        assert again.new == 0
        queue.retry_failed(connection, added.experiment)
    work_off(path)
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[0].status == "done"
        found = "SELECT attempt, group_concat(DISTINCT outcome) FROM attempts GROUP BY 1"
        assert dict(map(tuple, connection.execute(found))) == {1: "failed,done", 2: "done"}


def test_levels_that_leave_a_net_without_weights_are_trained_and_recorded(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "bare", prune_rate=0.99, levels=3, replicates=1, scope=["global", "layerwise"], random=["local"])
    work_off(path)
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[0].status == "done"
        left = (
            "SELECT level, weights_remaining FROM runs"
            " WHERE ticket = 'winning' AND scope = 'global' AND source = target AND level > 0"
        )
        total = connection.execute("SELECT weights_total FROM runs").fetchone()[0]
        assert dict(map(tuple, connection.execute(left))) == {n: round(total * 0.01**n) for n in (1, 2, 3)}
        empty = "SELECT count(*) FROM layers JOIN runs ON runs.id = run_id WHERE layers.weights_remaining = 0"
        assert connection.execute(empty).fetchone()[0] > 0
        accuracy = "SELECT test_accuracy FROM runs WHERE weights_remaining = 0"
        assert {round(row[0], 2) for row in connection.execute(accuracy)} == {0.1}  # it predicts one class


@pytest.mark.parametrize(
    "options",
    [
        {"rewinds": "weights"},
        {"schedule": "continue"},
        {"prunable": "conv+output", "profile": "fast"},
        {"optimizer": ["adamw"], "target_optimizer": ["sgd"]},
        {"profile": "fast"},
        {"model": "resnet20"},
        {"validation": 0.2},
        {"augmentation": "crop"},
        {"random": ["local", "preserved"], "scope": ["layerwise"]},
    ],
    ids=" ".join,
)
def test_every_setting_that_the_paper_leaves_open_trains_to_the_end(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "experiments.db"
    add(path, "setting", **{"levels": 2, "replicates": 1, **options})
    work_off(path)
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[0].status == "done"
        if options.get("schedule") == "continue":
            rewound = "SELECT min(epoch) FROM epochs JOIN runs ON runs.id = run_id WHERE ticket = 'winning'"
            assert connection.execute(rewound).fetchone()[0] == 1
        if "validation" in options:
            check_best_epochs(connection)


def check_best_epochs(connection: sqlite3.Connection) -> None:
    """With a validation part, accuracy is read at the first epoch of the best validation accuracy."""
    for run in connection.execute("SELECT id, test_accuracy, test_epoch FROM runs").fetchall():
        query = "SELECT validation_accuracy, test_accuracy FROM epochs WHERE run_id = ? ORDER BY epoch"
        validation, test = np.array([tuple(row) for row in connection.execute(query, (run["id"],))]).T
        assert run["test_epoch"] == int(validation.argmax())
        assert run["test_accuracy"] == test[run["test_epoch"]]


def test_lost_and_damaged_ticket_files_are_made_again_by_the_runs_that_left_them(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "first", replicates=1, random=["none"])
    work_off(path)
    before = records(path)
    files = sorted((database.files_folder(path) / "tickets").glob("*"))
    for file in files[::2]:
        file.unlink()
    for file in files[1::2]:
        file.write_bytes(b"damaged")
    add(path, "second", replicates=1, random=["none"], target=["digits"])
    work_off(path)
    with closing(database.reader(path)) as connection:
        assert [row.status for row in rows.experiments(connection)] == ["done", "done"]
    after = records(path)
    outcome = {row[0]: row[3:] for row in after["runs"]}
    assert all(outcome[row[0]] == row[3:] for row in before["runs"])  # the same accuracies
    assert set(before["files"]) <= set(after["files"])  # the same bytes
    needed = [file for file in files if file.exists()]
    assert all(hashlib.sha256(file.read_bytes()).hexdigest() == file.stem for file in needed if file.stat().st_size > 9)


@pytest.mark.parametrize("harm", ["rows lost", "file cut", "a bit flipped"])
def test_a_checkpoint_that_does_not_fit_the_records_is_not_trusted(tmp_path: Path, harm: str) -> None:
    path, options = tmp_path / "experiments.db", {**SLOW, "levels": 0, "epochs": 60, "rewind": 4}
    add(path, "slow", **options)
    worker = start_worker(path, 0.0)
    wait_for_epochs(path, 8, worker)
    worker.kill()
    worker.wait()
    if harm != "rows lost":
        (checkpoint,) = (database.files_folder(path) / "checkpoints").glob("[!.]*")
        data = bytearray(checkpoint.read_bytes())
        data[len(data) // 2] ^= 1  # in a weight: safetensors reads it
        checkpoint.write_bytes(data if harm == "a bit flipped" else data[:1000])
        with closing(database.reader(path)) as connection:
            report = care.check(connection, Folder(database.files_folder(path)), lambda *_: None)
        assert ("checkpoints" in report.errors) == (harm == "a bit flipped")
    else:  # as after a power cut, before the data was flushed
        with closing(database.writer(path)) as connection:
            connection.execute("DELETE FROM epochs WHERE epoch > 5")
            connection.execute("DELETE FROM files")
    assert ("starts over" in work_off(path)) == (harm != "rows lost")
    with closing(database.reader(path)) as connection:
        dense = (
            "SELECT attempt, epoch FROM epochs JOIN runs USING (attempt) WHERE run_id = runs.id AND ticket = 'dense'"
        )
        found = [epoch for attempt, epoch in connection.execute(dense) if attempt == 2]
        assert sorted(set(found)) == list(range(60))
        kinds = {row[0] for row in connection.execute("SELECT DISTINCT kind FROM files")}
        assert kinds == {"rewind", "final"}


def test_a_run_gives_the_same_bits_beside_others_as_alone(tmp_path: Path) -> None:
    for name in ("together", "alone"):
        add(tmp_path / f"{name}.db", "tiny", levels=1)
    crowd = [start_worker(tmp_path / "together.db", 60.0) for _ in range(3)]
    assert [worker.wait() for worker in crowd] == [0, 0, 0]
    work_off(tmp_path / "alone.db")
    assert records(tmp_path / "together.db") == records(tmp_path / "alone.db")


def test_what_a_run_records_of_where_it_was_trained(trained: Path) -> None:
    import torch

    from engine import __version__

    with closing(database.reader(trained)) as connection:
        for row in connection.execute("SELECT * FROM runs"):
            assert (row["device"], row["threads"], row["dtype"]) == ("cpu", 1, "float32")
            assert (row["torch_version"], row["cockpit_version"]) == (torch.__version__, __version__)
            assert row["queued_at"] <= row["started_at"] <= row["finished_at"]
            assert row["seconds"] > 0
            assert row["command"] == "cockpit queue add"


def test_runs_that_another_version_queued_are_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "ours", levels=0, replicates=1, random=["none"])
    add(path, "theirs", levels=0, replicates=1, random=["none"], seed=9)
    with closing(database.writer(path)) as connection:
        theirs = connection.execute("SELECT id FROM runs WHERE seed = 9").fetchall()
        connection.execute(
            """UPDATE runs SET recipe = replace(recipe, '"semantics":1', '"semantics":2') WHERE seed = 9"""
        )
        assert leases.foreign(connection) == len(theirs)
    work_off(path)
    with closing(database.reader(path)) as connection:
        statuses = connection.execute("SELECT seed, status FROM runs ORDER BY seed").fetchall()
    assert {tuple(row) for row in statuses} == {(0, "done"), (9, "waiting")}


DAMAGE = [
    ("DELETE FROM datasets", "refers to a row of datasets that is not there"),
    ("DELETE FROM layers", "runs that are done without all epochs, layers or accuracy"),
    # The worker raises InputError: the file is missing.
    ("UPDATE datasets SET location = '/nowhere.npz', classes = 0", "classes of row "),
    ("UPDATE runs SET recipe = replace(recipe, '\"seed\":0', '\"seed\":7') WHERE status = 'waiting'", "whose recipe"),
    ("UPDATE runs SET recipe = substr(recipe, 1, 60) WHERE status = 'waiting'", "whose recipe"),
]


@pytest.mark.parametrize(("statement", "said"), DAMAGE)
def test_a_damaged_row_met_in_a_training_stops_the_worker_and_fails_no_run(
    tmp_path: Path, statement: str, said: str
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "done", levels=0, replicates=1, random=["none"])
    work_off(path)
    add(path, "next", levels=1, replicates=2, random=["none"], target=[save(tmp_path / "own.npz", gray(40, side=8))])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    worker = start_worker(path, 60)
    assert worker.wait(120) == processes.HALTED
    (halted,) = (line for line in worker.said().splitlines() if line.startswith(processes.HALT))
    assert f"{path} is damaged: " in halted
    assert said in halted
    with closing(database.reader(path)) as connection:
        statuses = {row[0] for row in connection.execute("SELECT DISTINCT status FROM runs")}
        assert statuses == {"done", "waiting"}
