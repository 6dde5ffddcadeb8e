"""Care for a database: checks, repairs, freeing files, and copies of a busy database."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.machine import processes
from engine.store import care, database, leases, queue
from engine.store.care import check, collect, plan
from engine.store.files import Folder
from tests.conftest import add, work_off
from tests.databases import VERSION_1, change, checked, finish, silently, ticket_files, worker
from tests.workers import SLOW, records, start_worker, wait_for_epochs


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A copy of a trained database, with its files."""
    care.backup(trained, tmp_path / "experiments.db", silently)
    shutil.copytree(database.files_folder(trained), database.files_folder(tmp_path / "x"))
    shutil.rmtree(
        database.files_folder(tmp_path / "experiments.db")
    )  # a backup hard-links files: damage here would reach the original
    database.files_folder(tmp_path / "x").rename(database.files_folder(tmp_path / "experiments.db"))
    return tmp_path / "experiments.db"


@pytest.fixture
def folder(path: Path) -> Folder:
    return Folder(database.files_folder(path))


def left() -> str:
    """The mark of a process that has ended."""
    return re.sub("-[0-9]+-", f"-{2**22 + 1}-", processes.mark())


def write(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"something")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all files two hours old."""
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 7200 * 10**9)


def test_all_is_well_with_a_trained_database_and_every_byte_is_told(path: Path, folder: Folder) -> None:
    told: list[tuple[int, int]] = []
    with closing(database.reader(path)) as connection:
        report = check(connection, folder, lambda done, total: told.append((done, total)))
    assert (report.errors, report.notes) == ({}, [])
    size = sum(file.bytes for file in folder.tickets())
    assert (report.files, told[-1]) == (len(ticket_files(path)), (size, size))


@pytest.mark.parametrize(
    ("statement", "what", "said"),
    [
        (
            "INSERT INTO layers VALUES (9999, 0, 'conv1.weight', 1, 2, 'conv', NULL)",
            "references",
            "of table layers refers to a row of runs",
        ),
        ("UPDATE runs SET recipe = replace(recipe, '0.1', '0.2') WHERE id = 3", "recipes", "digest: 1 ("),
        ("DELETE FROM epochs WHERE epoch = 1 AND run_id < 6", "results", "accuracy: 5 ("),
        ("UPDATE runs SET test_accuracy = NULL WHERE id = 3", "results", "accuracy: 1 ("),
        ("DELETE FROM layers WHERE run_id = 3", "results", "accuracy: 1 ("),
        ("UPDATE runs SET unmet = 1 WHERE id < 3", "queue", "queued: 2"),
        ("UPDATE runs SET dependents = 9 WHERE id = 3", "queue", "queued: 1"),
        ("UPDATE runs SET priority = NULL WHERE id = 3", "queue", "queued: 1"),
    ],
)
def test_what_does_not_fit_is_found(path: Path, statement: str, what: str, said: str) -> None:
    change(path, statement)
    report = checked(path)
    assert list(report.errors) == [what]
    assert said in report.errors[what]


def test_a_run_of_other_semantics_is_noted(path: Path) -> None:
    with closing(database.reader(path)) as connection:
        recipe = json.loads(connection.execute("SELECT recipe FROM runs").fetchone()[0])
    text = json.dumps({**recipe, "semantics": 99})
    digest = hashlib.sha256(text.encode()).hexdigest()
    copied = (
        "target, target_dataset, model, width, optimizer, learning_rate, epochs, batch_size, profile, seed, queued_at"
    )
    change(
        path,
        f"INSERT INTO runs (digest, recipe, ticket, level, queued_at, {copied})"
        f" SELECT '{digest}', '{text}', 'new', 0, queued_at, {copied} FROM runs WHERE id = 1",
    )
    report = checked(path)
    assert (report.errors, report.notes) == (
        {}, [f"runs of other semantics, kept but never trained: 1 ({digest[:12]})"],
    )  # fmt: skip


def test_a_file_that_sqlite_cannot_read_is_said_to_be_damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data), 12288):
        data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    assert list(checked(path).errors) == ["database"]
    with pytest.raises(InputError, match=r"is damaged .*store check"):
        care.backup(path, path.with_name("copy.db"), silently)
    assert not path.with_name("copy.db").exists()


def test_absent_files_are_a_note_and_damaged_ones_become_absent(path: Path, folder: Folder) -> None:
    absent, damaged, *_ = sorted(ticket_files(path))
    folder.ticket(absent).unlink()
    folder.ticket(damaged).write_bytes(bytes(folder.ticket(damaged).stat().st_size))  # of the same size
    report = checked(path)
    assert report.damaged == (damaged,)
    assert report.errors == {"files": f"damaged ticket files: 1 ({damaged[:12]})"}
    assert report.notes[0].startswith(f"absent ticket files: 1 of {report.files};")
    with closing(database.writer(path)) as connection:
        before = records(path)
        assert len(care.repair(connection, folder, report)) == 1
        assert records(path) == before
    assert not checked(path).errors
    assert ticket_files(path).isdisjoint({absent, damaged})
    shutil.rmtree(folder.path)  # a sample has no files
    assert len(checked(path).notes) == 1


def test_a_damaged_file_that_was_made_again_meanwhile_stays(path: Path, folder: Folder) -> None:
    digest = min(ticket_files(path))
    data = folder.get(digest)
    folder.ticket(digest).write_bytes(b"")
    report = checked(path)
    folder.put(data)
    with closing(database.writer(path)) as connection:
        assert care.repair(connection, folder, report) == []
    assert folder.get(digest) == data


@pytest.mark.usefixtures("later")
def test_strays_are_what_nothing_knows_and_nobody_is_writing(path: Path, folder: Folder) -> None:
    with closing(database.reader(path)) as connection:
        done = connection.execute("SELECT digest FROM runs").fetchone()[0]
    unknown = folder.ticket("0" * 64)
    gone, mine = (unknown.with_name(f".{unknown.name}.{mark}") for mark in (left(), processes.mark()))
    for place in (unknown, gone, mine, folder.checkpoint(done), folder.checkpoint("0" * 64)):
        write(place)
    report = checked(path)
    assert not report.errors
    assert report.notes[0].startswith("stray files, which belong to nothing: 4 (")
    with closing(database.writer(path)) as connection:
        assert care.repair(connection, folder, report) == ["files deleted that were never written to the end: 1"]
        assert not gone.exists()
        assert {file.path for file in collect(connection, folder, plan(connection, folder)).strays} == {
            unknown, folder.checkpoint(done), folder.checkpoint("0" * 64),
        }  # fmt: skip
    assert mine.exists()
    assert not checked(path).notes


def test_a_young_file_may_be_about_to_be_recorded(path: Path, folder: Folder) -> None:
    write(folder.ticket("0" * 64))
    write(folder.checkpoint("0" * 64))
    assert not checked(path).notes
    with closing(database.reader(path)) as connection:
        assert not plan(connection, folder)


@pytest.mark.usefixtures("later")
def test_the_checkpoint_of_an_unfinished_run_is_no_stray(path: Path, folder: Folder) -> None:
    add(path, "later", seed=5)
    with closing(database.reader(path)) as connection:
        waiting = connection.execute("SELECT digest FROM runs WHERE status = 'waiting'").fetchone()[0]
        write(folder.checkpoint(waiting))
        assert not plan(connection, folder)


def test_repair_derives_the_order_of_the_queue_again(path: Path, folder: Folder) -> None:
    add(path, "later", seed=5)
    before = records(path)
    change(path, "UPDATE runs SET unmet = 7, dependents = 0, priority = 4")
    with closing(database.writer(path)) as connection:
        (said,) = care.repair(connection, folder, checked(path))
        assert "queue" in said
        assert queue.unfit(connection) == 0
    assert records(path) == before


def test_removing_an_experiment_leaves_a_queue_that_fits(path: Path) -> None:
    added = add(path, "later", levels=2, evaluate="0-2", source=["digits"])
    with closing(database.writer(path)) as connection:
        queue.remove(connection, added.experiment)
    assert not checked(path).errors


def test_nothing_that_an_experiment_wants_is_freed(path: Path, folder: Folder) -> None:
    with closing(database.reader(path)) as connection:
        assert not plan(connection, folder, runs=True)
        assert {file.path.stem for file in plan(connection, folder, tickets=True).tickets} == ticket_files(path)
        queue_of = connection.execute("SELECT id FROM experiments").fetchone()[0]
    with closing(database.writer(path)) as connection:
        queue.set_state(connection, queue_of, "cancelled")  # a cancelled experiment can be resumed
        assert not plan(connection, folder, runs=True)
        queue.remove(connection, queue_of)
        assert {file.path.stem for file in plan(connection, folder).tickets} == ticket_files(path)


def test_what_an_unfinished_run_stands_on_is_kept_through_its_chain(path: Path, folder: Folder) -> None:
    add(path, "more", target=["digits"], replicates=1, evaluate="3", random=["none"])
    with closing(database.writer(path)) as connection:
        queue.remove(connection, queue.experiment_id(connection, "tiny"))
        planned = plan(connection, folder, tickets=True)
        collect(connection, folder, planned, tickets=True)
        kept = connection.execute(
            "SELECT r.ticket, r.level, r.seed, r.scope, f.kind FROM files f JOIN runs r ON r.id = run_id"
        )
        assert {(*run, kind.partition("-")[0]) for *run, kind in kept} == {
            ("dense", 0, 0, None, "rewind"),
            ("dense", 0, 0, None, "final"),
            ("dense", 0, 0, None, "mask"),  # of level 1
            *(("winning", level, 0, "global", "mask") for level in (1, 2)),
        }
    assert not checked(path).errors
    work_off(path)
    assert not checked(path).notes


def test_with_runs_the_records_of_runs_on_no_curve_go_and_nothing_refers_to_them(path: Path, folder: Folder) -> None:
    add(path, "part", levels=1, evaluate="0-1", replicates=1)
    change(
        path,
        "INSERT OR IGNORE INTO attempts (run_id, attempt, worker) SELECT id, 1, worker FROM runs",
    )
    with closing(database.writer(path)) as connection:
        queue.remove(connection, queue.experiment_id(connection, "tiny"))
        wanted = connection.execute("SELECT count(DISTINCT run_id) FROM curve_points").fetchone()[0]
        freed = collect(connection, folder, plan(connection, folder, runs=True), runs=True)
        assert freed.runs
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == wanted
        assert connection.execute("SELECT count(*) FROM attempts").fetchone()[0] == wanted
        assert not plan(connection, folder, runs=True)
    report = checked(path)
    assert (report.errors, report.notes) == ({}, [])


def test_a_file_is_kept_while_one_row_that_is_kept_names_it(path: Path, folder: Folder) -> None:
    with closing(database.writer(path)) as connection:
        digest = connection.execute("SELECT sha256 FROM files WHERE kind = 'rewind'").fetchone()[0]
        queue.remove(connection, queue.experiment_id(connection, "tiny"))
        add(path, "other", seed=9, levels=0)
        holder = worker(connection)
        claim = leases.claim(connection, holder)
        assert claim is not None
        connection.execute("INSERT INTO files VALUES (?, 'rewind', ?, 1)", (claim.run_id, digest))  # the same weights
        collect(connection, folder, plan(connection, folder))
    assert ticket_files(path) == {digest}


def test_what_is_wanted_after_the_plan_was_made_stays(path: Path, folder: Folder) -> None:
    with closing(database.writer(path)) as connection:
        queue.remove(connection, queue.experiment_id(connection, "tiny"))
        planned = plan(connection, folder)
        digest = min(ticket_files(path))
        folder.put(folder.get(digest))  # another worker made the same file and is about to record it
        collect(connection, folder, planned)
        assert ticket_files(path) == {digest}
        planned = plan(connection, folder)
        add(path, "tiny again", scope=["global", "layerwise"], random=["global", "local", "preserved"])
        assert not collect(connection, folder, planned)


def test_a_file_that_a_worker_finds_while_it_is_freed_stays_or_is_written_anew(
    path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, digest = Path.rename, min(ticket_files(path))
    data = folder.get(digest)

    def put_before(self: Path, target: Path) -> Path:
        folder.put(data)
        return rename(self, target)

    def put_after(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if target.name.startswith(f".{digest}") and "freed" in target.name:
            folder.put(data)
        return moved

    with closing(database.writer(path)) as connection:
        queue.remove(connection, queue.experiment_id(connection, "tiny"))
        for late in (put_before, put_after):
            planned = plan(connection, folder)
            with monkeypatch.context() as patched:
                patched.setattr(Path, "rename", late)
                collect(connection, folder, planned)
            assert ticket_files(path) == {digest}
            assert folder.get(digest) == data


def test_an_interrupted_collection_leaves_strays_and_no_row_without_its_file(
    path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with closing(database.writer(path)) as connection:
        queue.remove(connection, queue.experiment_id(connection, "tiny"))
        planned = plan(connection, folder)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                collect(connection, folder, planned)
    report = checked(path)
    assert (report.errors, report.notes, report.files) == ({}, [], 0)
    assert folder.tickets()


@pytest.mark.slow
def test_a_backup_of_a_busy_database_goes_on_where_the_original_was(tmp_path: Path) -> None:
    path, copy = tmp_path / "experiments.db", tmp_path / "copy.db"
    add(path, "slow", **SLOW)
    process = start_worker(path, 0.0)
    wait_for_epochs(path, 14, process)
    made = care.backup(path, copy, silently)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert (made.checkpoints, made.absent) == (1, 0)
    with closing(database.reader(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'running'").fetchone()[0] == 0
        assert connection.execute("SELECT count(*) FROM workers WHERE ended_at IS NULL").fetchone()[0] == 0
    assert not checked(copy).errors
    work_off(path)
    work_off(copy)
    assert records(copy) == records(path)


def test_a_backup_is_another_database_for_a_cluster(path: Path, tmp_path: Path) -> None:
    with closing(database.writer(path)) as connection:
        connection.execute("INSERT INTO about (key, value) VALUES ('cluster', '0'), ('head', '{}'), ('model x', '/')")
    care.backup(path, tmp_path / "copy.db", lambda *_: None)
    with closing(database.reader(tmp_path / "copy.db")) as connection:
        assert [row[0] for row in connection.execute("SELECT key FROM about")] == ["model x"]


def test_a_backup_is_whole_or_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        care.backup(path, path.with_name("copy.db"), full)
    assert [place.name for place in path.parent.glob("*copy.db*")] == ["copy.db.files"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(InputError, match=r"has 0\.0 GB free, .* make room first"):
        care.backup(path, path.with_name("copy.db"), silently)


def test_a_backup_without_links_copies_and_leaves_damaged_files_out(
    path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    folder.ticket(min(ticket_files(path))).write_bytes(b"")
    monkeypatch.setattr(os, "link", no_links)
    made = care.backup(path, path.with_name("copy.db"), silently)
    assert (made.files, made.absent) == (len(ticket_files(path)) - 1, 1)
    assert records(path.with_name("copy.db")) == records(path)
    report = checked(path.with_name("copy.db"))
    assert (list(report.errors), len(report.notes)) == ([], 1)
    bare = path.with_name("bare.db")
    care.backup(path, bare, silently, files=False)
    assert not database.files_folder(bare).exists()


def test_a_link_that_a_killed_backup_left_is_not_written_into(path: Path, folder: Folder) -> None:
    digest, other = sorted(ticket_files(path))[:2]
    copies = Folder(database.files_folder(path.with_name("copy.db")))
    place = copies.ticket(digest)
    place.parent.mkdir(parents=True)
    partial = place.with_name(f".{place.name}.{left()}")
    os.link(folder.ticket(other), partial)
    assert copies.take_ticket(folder, digest)
    assert folder.is_whole(other)
    assert {file.path for file in copies.tickets()} == {place, partial}


def test_a_backup_overwrites_only_what_it_may(path: Path) -> None:
    copy = path.with_name("copy.db")
    for place, reason in (
        (path.parent, "is a folder"),
        (path.parent / "absent" / "x.db", "does not exist"),
        (path, "is the database itself"),
    ):
        with pytest.raises(InputError, match=reason):
            care.backup(path, place, silently, force=True)
    care.backup(path, copy, silently)
    with pytest.raises(InputError, match="exists: name another file"):
        care.backup(path, copy, silently)
    with closing(database.writer(copy)) as connection:
        connection.execute("DELETE FROM epochs")
        with pytest.raises(InputError, match="is in use"):
            care.backup(path, copy, silently, force=True)
    care.backup(path, copy, silently, force=True)
    assert records(copy) == records(path)


def test_a_backup_of_an_older_database_is_of_the_newest_version(tmp_path: Path) -> None:
    before = VERSION_1.read_bytes()
    care.backup(VERSION_1, tmp_path / "copy.db", silently)
    assert list(checked(tmp_path / "copy.db").errors) == []
    assert VERSION_1.read_bytes() == before


def test_a_run_whose_worker_is_silent_is_noted(path: Path) -> None:
    add(path, "later", seed=5)
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        assert checked(path).notes == []
        connection.execute("UPDATE runs SET lease_expires_at = '2000' WHERE id = ?", (claim.run_id,))
        assert "worker is silent: 1;" in checked(path).notes[0]
        finish(connection, claim, 0.5)
