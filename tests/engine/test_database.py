"""Opening a database: other programs' files, older versions, paths, and other programs that read it."""

import math
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs
from sqlite_utils import Database

from engine.errors import InputError
from engine.machine import processes
from engine.store import database, rows, workers
from engine.store.files import Folder
from engine.store.schema import MIGRATIONS
from tests.conftest import add
from tests.databases import VERSION_1

NOW = database.SCHEMA_VERSION


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    for opened in (database.reader, database.writer):
        with pytest.raises(InputError, match="a database of another program"):
            opened(path)
    assert path.read_bytes() == before


def test_a_newer_database_is_refused(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA user_version = 99")
    for opened in (database.reader, database.writer):
        with pytest.raises(InputError, match=rf"newer cockpit \(schema 99, this one knows {NOW}\): upgrade"):
            opened(path)


def test_what_is_no_database_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_text("just some text, long enough not to look like an empty file" * 10)
    with pytest.raises(InputError, match="cannot be opened as a database"):
        database.reader(path)
    with pytest.raises(InputError, match="is a folder"):
        database.writer(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        database.writer(tmp_path / "absent" / "x.db")
    with pytest.raises(InputError, match="does not exist"):
        database.reader(tmp_path / "absent.db")


@pytest.mark.parametrize("schema", range(1, NOW))
def test_what_an_earlier_schema_says_of_processes_stays_and_judges_none_of_them(path: Path, schema: int) -> None:
    with closing(sqlite3.connect(path)) as old:
        MIGRATIONS.apply(Database(old), stop_before=f"version_{schema + 1}")
        old.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
        old.execute(f"PRAGMA user_version = {schema}")
        here = processes.identity()
        tables = ("workers", "pools") if schema > 1 else ("workers",)
        for table in tables:
            old.execute(
                f"INSERT INTO {table} (pid, process_started, host) VALUES (:pid, 1e9, :host)", structs.asdict(here)
            )
        old.commit()
    with closing(database.writer(path)) as connection:
        for table in tables:
            (row,) = connection.execute(f"SELECT * FROM {table}").fetchall()
            assert (row["pid"], row["process_started"], row["host"]) == (here.pid, 1e9, here.host)
            assert processes.alive(processes.Identity(*(row[name] for name in structs.asdict(here)))) is None
        assert workers.live_pools(connection) == []


def test_an_interrupted_migration_leaves_nothing_behind(path: Path) -> None:
    script = f"""
import engine.store.schema as schema
def killed(*_): raise SystemExit(9)
schema.Database.create_view = killed
schema.migrate({str(path)!r})
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    with closing(database.writer(path)) as found:
        assert rows.experiments(found) == []


def test_two_processes_may_make_the_same_database_at_once(path: Path) -> None:
    makers = [subprocess.Popen([sys.executable, "-m", "engine.store.schema", str(path)]) for _ in range(3)]
    assert [maker.wait() for maker in makers] == [0, 0, 0]


def test_readers_cannot_write(path: Path, connection: sqlite3.Connection) -> None:
    with closing(database.reader(path)) as found, pytest.raises(sqlite3.OperationalError, match="readonly"):
        found.execute("DELETE FROM runs")


def test_a_sample_stays_as_it_is_and_is_copied_on_the_first_write(path: Path) -> None:
    add(path, "sampled")
    with closing(sqlite3.connect(path)) as found:
        found.execute("INSERT INTO about VALUES ('sample', '1')")
        found.commit()
        found.execute("PRAGMA journal_mode = DELETE")
    before = path.read_bytes()
    digest = Folder(database.files_folder(path)).put(b"a mask")
    (database.files_folder(path) / "tickets" / "notes.txt").write_text("no ticket")
    local = database.writable_path(path)
    assert local == path.with_name("experiments.local.db")
    assert [file.path.stem for file in Folder(database.files_folder(local)).tickets()] == [digest]
    add(local, "mine")
    assert database.writable_path(path) == local
    assert database.writable_path(local) == local
    with closing(database.reader(local)) as found:
        assert [row.name for row in rows.experiments(found)] == ["sampled", "mine"]
    assert path.read_bytes() == before


def test_an_older_database_is_migrated_by_what_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(path, "old")
    monkeypatch.setattr(database, "SCHEMA_VERSION", NOW + 1)
    migrated: list[Path] = []
    monkeypatch.setattr(database, "_migrate", migrated.append)
    with pytest.raises(
        InputError, match=f"of schema {NOW}, this version reads {NOW + 1}: any command that writes migrates it"
    ):
        database.reader(path)
    database.writer(database.writable_path(path)).close()
    assert migrated == [path]


def test_each_database_has_files_of_its_own() -> None:
    names = ["a.db", "a.sqlite", "results.2024", "results.2025"]
    assert len({database.files_folder(Path(name)) for name in names}) == 4


def test_the_default_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COCKPIT_DB", raising=False)
    assert database.default_path() == Path("experiments.db")
    Path("experiments.local.db").touch()
    assert database.default_path() == Path("experiments.local.db")
    monkeypatch.setenv("COCKPIT_DB", "elsewhere.db")
    assert database.default_path() == Path("elsewhere.db")


def test_no_number_in_the_database_is_nan_or_infinite(trained: Path) -> None:
    with closing(database.reader(trained)) as connection:
        tables = [
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        ]
        for table in tables:
            for row in connection.execute(f"SELECT * FROM {table}"):
                assert all(math.isfinite(value) for value in row if isinstance(value, float))


def test_the_sqlite_shell_understands_the_database(trained: Path) -> None:
    with closing(sqlite3.connect(f"file:{trained}?mode=ro", uri=True)) as plain:  # without cockpit's SQL functions
        assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
        assert plain.execute("SELECT count(*) FROM curves WHERE n = 2").fetchone()[0] > 0
        assert {row[2] for row in plain.execute("PRAGMA table_info(runs)")} == {"INTEGER", "TEXT", "REAL"}


def test_a_checked_in_database_of_version_1_opens_and_migrates(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    shutil.copy(VERSION_1, path)
    with closing(sqlite3.connect(path)) as old:
        before = old.execute("SELECT digest, status, attempt, test_accuracy, error FROM runs ORDER BY id").fetchall()
    with pytest.raises(InputError, match="any command that writes migrates it"):
        database.reader(path)
    database.writer(path).close()
    with closing(database.reader(path)) as found:
        after = found.execute("SELECT digest, status, attempt, test_accuracy, error FROM runs ORDER BY id")
        assert [tuple(row) for row in after] == before
        attempts = found.execute("SELECT outcome, count(*), max(error) FROM attempts GROUP BY 1")
        error = "Traceback (most recent call last):\nValueError: out of luck"
        assert [tuple(row) for row in attempts] == [("done", 18, None), ("failed", 1, error)]
        assert [row.status for row in rows.experiments(found)] == ["done", "paused", "waiting"]
        assert found.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_migration_interrupted_half_way_leaves_the_old_version_usable(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    shutil.copy(VERSION_1, path)
    script = f"""
import os, signal, engine.store.schema as schema
schema.CLAIM_ORDER_2 = "SELECT killed()"  # all tables are changed by then
def migrate(connection=schema.Database):
    class Database(connection):
        def execute(self, sql, *more):
            if "killed" in sql: os.kill(os.getpid(), signal.SIGKILL)
            return super().execute(sql, *more)
    schema.Database = Database
    schema.migrate({str(path)!r})
migrate()
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        assert old.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert "memory" not in {row[1] for row in old.execute("PRAGMA table_info(workers)")}
        assert old.execute("SELECT count(*) FROM runs WHERE status = 'done'").fetchone() == (18,)
    database.writer(path).close()
    with closing(database.reader(path)) as found:
        assert found.execute("SELECT count(*) FROM attempts").fetchone()[0] == 19
