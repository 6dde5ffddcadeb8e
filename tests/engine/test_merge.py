"""Merging: results of two machines are combined, nothing here is lost, and merging twice changes nothing."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.store import care, database, leases, queue
from engine.store import records as recording
from engine.store.files import Folder
from engine.store.merge import PLACE, RECORD, Merged, merge
from tests.conftest import add, work_off
from tests.databases import EPOCH, VERSION_1, by_name, checked, silently, ticket_files
from tests.workers import records

ONE: dict[str, Any] = {"replicates": 1, "epochs": 1}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here.db"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there.db"


def merged(here: Path, there: Path) -> Merged:
    with closing(database.writer(here)) as connection:
        return merge(connection, here, there, silently)


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with closing(database.reader(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {row[0]: [tuple(found) for found in connection.execute(f"SELECT * FROM {row[0]}")] for row in tables}


def results(path: Path) -> dict[str, tuple[object, ...]]:
    with closing(database.reader(path)) as connection:
        found = connection.execute("SELECT digest, test_accuracy FROM runs WHERE status = 'done'")
        return {row[0]: row[1] for row in found}


def digests(path: Path) -> set[str]:
    with closing(database.reader(path)) as connection:
        return {row[0] for row in connection.execute("SELECT digest FROM runs")}


def register(connection: sqlite3.Connection, host: str) -> int:
    """A worker in a pool, on a host."""
    pool = connection.execute(
        "INSERT INTO pools (pid, process_started, host, started_at) VALUES (1, 0.0, ?, ?)", (host, database.now())
    ).lastrowid
    found = connection.execute(
        "INSERT INTO workers (pid, process_started, host, pool) VALUES (2, 0.0, ?, ?)", (host, pool)
    ).lastrowid
    assert found is not None
    return found


def pretend(path: Path, wanted: Callable[[leases.Claim], bool] = lambda _: True, end: str = "done") -> int:
    """Claim all runs that can start, record those that are wanted as done, and release the others.

    The accuracy follows from the run. Returns the number of runs done.
    """
    count = 0
    with closing(database.writer(path)) as connection:
        holder, left = register(connection, path.stem), []
        while claim := leases.claim(connection, holder):
            if not wanted(claim):
                left.append(claim)
                continue
            count += 1
            attempt = claim.attempt + 1
            recording.start(connection, claim, attempt, {"device": path.stem}, [recording.Layer("conv1.weight", 3, 4)])
            recording.epoch(connection, claim, attempt, EPOCH)
            if end == "done":
                recording.done(connection, claim, int(claim.run.digest[:4], 16) / 65536, 0, 1.0)
            else:
                recording.failed(connection, claim, "out of luck")
        for claim in left:
            leases.release(connection, claim)
    return count


def is_dense(claim: leases.Claim) -> bool:
    return claim.run.ticket.name == "dense"


def test_every_column_of_a_run_is_of_its_description_its_record_or_its_place(here: Path) -> None:
    """A new column of `runs` belongs to RECORD, to PLACE, or, if the recipe determines it, to neither."""
    described = (
        "digest recipe ticket level source source_dataset source_optimizer scope rewind_epoch target target_dataset"
        " model width optimizer learning_rate epochs batch_size profile seed command queued_at"
    )
    with closing(database.writer(here)) as connection:
        columns = [row["name"] for row in connection.execute("PRAGMA table_info(runs)")]
    assert sorted(columns) == sorted([*described.split(), *RECORD, *PLACE])


def test_merging_twice_changes_nothing_and_the_other_is_only_read(here: Path, there: Path) -> None:
    add(here, "mine", **ONE)
    add(there, "theirs", target=["digits"], **ONE)
    add(there, "halves", source=["digits-b"], **ONE)
    pretend(here, is_dense)
    pretend(there)
    before, known, done = dump(there), digests(here), set(results(here))
    first = merged(here, there)
    assert first.new == len(digests(there) - known) > 0
    assert first.finished == len(known & set(results(there)) - done) > 0
    assert first.differing == 0
    once = dump(here)
    second = merged(here, there)
    assert (second.new, second.finished, second.experiments, second.paused) == (0, 0, {}, [])
    assert dump(here) == once
    assert dump(there) == before
    assert not checked(here).errors


def test_either_way_round_gives_the_same_results(here: Path, there: Path) -> None:
    for path, other in ((here, "digits"), (there, "digits-a")):
        add(path, "shared", replicates=2, epochs=1)
        add(path, f"only {path.stem}", target=[other], seed=7, **ONE)
    pretend(here, lambda claim: claim.run.training.seed in (0, 7))
    pretend(there, lambda claim: claim.run.ticket.name in ("dense", "random-global") or claim.run.training.seed == 1)
    merged(here, there)
    merged(there, here)
    assert results(here) == results(there)
    assert not checked(here).errors | checked(there).errors
    for path in (here, there):
        pretend(path)
    assert results(here) == results(there)
    merged(here, there)
    assert set(by_name(here)) == {"shared", "only here", "only there"}


def test_a_result_from_there_ends_a_run_that_failed_here_and_ones_own_attempts_stay(here: Path, there: Path) -> None:
    for path in (here, there):
        add(path, "shared", **ONE)
    pretend(here, is_dense, end="failed")
    assert by_name(here)["shared"].blocked == 3 + 4
    pretend(there, is_dense)
    assert merged(here, there).finished == 2
    with closing(database.reader(here)) as connection:
        (row, _) = connection.execute("SELECT * FROM runs WHERE ticket = 'dense'").fetchall()
        assert (row["status"], row["attempt"], row["error"], row["device"]) == ("done", 2, None, "there")
        attempts = connection.execute(
            "SELECT a.attempt, a.outcome, w.host, p.host FROM attempts a JOIN workers w ON w.id = a.worker"
            " JOIN pools p ON p.id = w.pool WHERE run_id = ? ORDER BY 1",
            (row["id"],),
        )
        assert [tuple(attempt) for attempt in attempts] == [
            (1, "failed", "here", "here"),
            (2, "done", "there", "there"),
        ]
        epochs = connection.execute("SELECT attempt FROM epochs WHERE run_id = ? ORDER BY 1", (row["id"],))
        assert [epoch[0] for epoch in epochs] == [1, 2]
        assert connection.execute("SELECT count(*) FROM workers WHERE ended_at IS NULL").fetchone()[0] == 1
    assert pretend(here) == 3 + 4 + 4  # blocked runs wait again


def test_what_failed_there_is_brought_and_blocks_but_what_is_known_here_stays(here: Path, there: Path) -> None:
    add(here, "mine", **ONE)
    for name, options in (("mine", {}), ("theirs", {"seed": 9})):
        add(there, name, **(ONE | options))
    pretend(there, is_dense, end="failed")
    found = merged(here, there)
    assert found.paused == ["theirs"]  # its random tickets wait; blocked runs may be retried
    states = by_name(here)
    assert (states["mine"].waiting, states["mine"].failed) == (13, 0)
    assert (states["theirs"].halted, states["theirs"].failed, states["theirs"].blocked) == (4, 2, 7)
    assert not checked(here).errors


def test_a_run_under_way_here_is_left_to_its_worker(here: Path, there: Path) -> None:
    for path in (here, there):
        add(path, "shared", **ONE)
    with closing(database.writer(here)) as connection:
        claim = leases.claim(connection, register(connection, "here"))
        assert claim is not None
        pretend(there)
        found = merged(here, there)
        assert (found.running, found.finished) == (1, 12)
        recording.start(connection, claim, 1, {}, [recording.Layer("conv1.weight", 3, 4)])
        recording.epoch(connection, claim, 1, EPOCH)
        leases.release(connection, claim)
        assert merged(here, there).finished == 1
        with pytest.raises(recording.StaleClaim):
            recording.epoch(connection, claim, 1, EPOCH)
    assert not checked(here).errors


def test_what_is_under_way_there_waits_here_and_does_not_start_by_itself(here: Path, there: Path) -> None:
    add(there, "theirs", **ONE)
    with closing(database.writer(there)) as connection:
        claim = leases.claim(connection, register(connection, "there"))
        assert claim is not None
        recording.start(connection, claim, 1, {}, [recording.Layer("conv1.weight", 3, 4)])
        assert merged(here, there).paused == ["theirs"]
    with closing(database.writer(here)) as connection:
        row = connection.execute("SELECT state, reason FROM experiments").fetchone()
        assert tuple(row) == ("paused", "merged from there.db")
        assert leases.claim(connection, register(connection, "here")) is None
        queue.set_state(connection, 1, "active")
    assert pretend(here) == 13


def test_experiments_are_told_apart_by_their_runs(here: Path, there: Path) -> None:
    add(here, "same", **ONE)
    add(here, "mine", seed=3, **ONE)
    add(here, "taken", seed=4, **ONE)
    add(there, "same", **ONE)
    add(there, "alias", seed=3, **ONE)
    add(there, "taken", seed=5, **ONE)
    given_up = add(there, "given up", seed=6, **ONE)
    with closing(database.writer(there)) as connection:
        queue.set_state(connection, given_up.experiment, "cancelled")
    found = merged(here, there)
    assert found.experiments == {"taken": "taken (there.db)", "given up": "given up"}
    assert (found.paused, found.known) == (["taken (there.db)"], {"alias": "mine"})
    assert {name: row.state for name, row in by_name(here).items()} == {
        "same": "active", "mine": "active", "taken": "active", "taken (there.db)": "paused", "given up": "cancelled",
    }  # fmt: skip
    with closing(database.writer(there)) as connection:
        queue.remove(connection, queue.experiment_id(connection, "taken"))
    add(there, "taken", seed=8, **ONE)
    assert merged(here, there).experiments == {"taken": "taken (there.db 2)"}


def test_another_accuracy_there_is_counted_and_ones_own_stays(here: Path, there: Path) -> None:
    for path in (here, there):
        add(path, "shared", **ONE)
        pretend(path)
    with closing(sqlite3.connect(there)) as connection:
        connection.execute("UPDATE runs SET test_accuracy = test_accuracy / 2 WHERE level = 1")
        connection.commit()
    before = results(here)
    assert merged(here, there).differing == 3
    assert results(here) == before


def test_an_older_database_is_brought_in_and_stays_as_it_is(here: Path) -> None:
    before = VERSION_1.read_bytes()
    assert merged(here, VERSION_1).new == len(digests(here)) > 18
    assert VERSION_1.read_bytes() == before
    assert len(results(here)) == 18
    assert not checked(here).errors


def test_what_was_trained_there_is_built_upon_here(here: Path, there: Path, trained: Path) -> None:
    """Two machines that share the work give the same bits and ticket files as one."""
    add(there, "part", random=["none"], target=["digits-a"])
    work_off(there)
    damaged, *whole = sorted(ticket_files(there))
    Folder(database.files_folder(there)).ticket(damaged).write_bytes(b"")
    add(here, "tiny", scope=["global", "layerwise"], random=["global", "local", "preserved"])
    found = merged(here, there)
    assert (found.new, found.finished) == (0, 2 * 4)
    assert (found.files, found.absent) == (len(whole), 1)
    assert ticket_files(here) == set(whole)
    work_off(here)
    assert results(here) == results(trained)
    assert not checked(here).errors


def test_a_lost_file_is_found_again_in_a_merge(trained: Path, here: Path) -> None:
    care.backup(trained, here, silently)
    lost = min(ticket_files(here))
    Folder(database.files_folder(here)).ticket(lost).unlink()
    assert merged(here, trained).files == 1
    assert records(here) == records(trained)
    assert checked(here).notes == []


def test_an_interrupted_merge_leaves_everything_as_it_was(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(here, "mine", **ONE)
    add(there, "theirs", seed=3, **ONE)
    pretend(there)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    before = dump(here)
    with monkeypatch.context() as patched:
        patched.setattr(queue, "refit", killed)  # the last step of a merge
        with pytest.raises(KeyboardInterrupt):
            merged(here, there)
    assert dump(here) == before
    assert {place.suffix for place in here.parent.iterdir()} <= {".db", ".db-shm", ".db-wal"}


def test_what_cannot_be_merged_is_refused(here: Path, there: Path) -> None:
    add(here, "mine", **ONE)
    there.symlink_to(here)
    with pytest.raises(InputError, match="is the database itself"):
        merged(here, there)
    with pytest.raises(InputError, match="does not exist"):
        merged(here, here.with_name("absent.db"))
    here.with_name("text.db").write_text("no database at all, but long enough to be one" * 9)
    with pytest.raises(InputError, match="cannot be opened as a database"):
        merged(here, here.with_name("text.db"))


@pytest.mark.parametrize("known", [False, True], ids=["new here", "tried here"])
def test_claims_made_after_a_merge_follow_those_of_both_databases(here: Path, there: Path, known: bool) -> None:
    """Claim numbers of a run are unique: they identify the row of `attempts` to end, and stale writes."""
    for path in (here, there) if known else (there,):
        add(path, "shared", **ONE)
    for _ in range(3):
        with closing(database.writer(there)) as connection:
            stopped = leases.claim(connection, register(connection, "there"))
            assert stopped is not None
            recording.start(connection, stopped, stopped.attempt + 1, {}, [recording.Layer("conv1.weight", 3, 4)])
            leases.release(connection, stopped)
    pretend(there, is_dense, end="done" if known else "failed")
    if known:
        pretend(here, is_dense, end="failed")
    merged(here, there)
    before = dump(here)["attempts"]
    with closing(database.writer(here)) as connection:
        connection.execute("UPDATE runs SET status = 'waiting' WHERE ticket = 'dense'")
        connection.execute("UPDATE experiments SET state = 'active'")
        queue.refit(connection)
    pretend(here, is_dense)
    after = dump(here)["attempts"]
    assert set(before) < set(after)
    with closing(database.reader(here)) as connection:
        twice = "SELECT run_id, claim FROM attempts GROUP BY run_id, claim HAVING count(*) > 1"
        assert connection.execute(twice).fetchall() == []
        behind = "SELECT 1 FROM runs r JOIN attempts a ON a.run_id = r.id WHERE a.claim > r.claim"
        assert connection.execute(behind).fetchall() == []
    assert not checked(here).errors
