"""Damaged databases: reading one ends soon, names the damage in one line, and writes nothing."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

import engine
from engine.errors import InputError
from engine.machine import processes
from engine.store import columns, damage, database, workers
from tests import inprocess
from tests.databases import VERSION_1
from tests.tui.make_fixture import FIXTURE

COMMANDS = [
    command.split()
    for command in (
        "queue list",
        "queue list --json",
        "queue show halves --runs",
        "queue show halves --history",
        "queue show later --json",
        "queue estimate",
        "show halves",
        "export --table curves",
        "export --table runs --csv",
        "export --table epochs",
        "export --table layers",
        "export --table statistics",
        "plot halves",
        "diff halves",
        "claims --json",
        "tickets list",
        "store check",
        "store gc --dry-run",
        "work --status",
        "work --status --json",
    )
]
OWN_FINDING = [["store", "check"], ["plot", "halves"]]  # exit code 1: damage found, and no results
# Values that replace a cell.
VALUES: list[Any] = [
    None, "", "x", "a\0b", -1, 0, 1, 2**62, -(2**63), 1e300, -1.5, float("inf"), b"\xff", "2026-02-31T00:00:00Z",
    "2026", "[]", "{}", "null", "[1]", '{"a":1}', "[" * 3000, "9" * 5000, "/../..",
]  # fmt: skip
INNER: list[Any] = [None, "", "x", -1, 0, 500, 10**9, 10**30, 1e300, True, [], {}, [[1]], {"a": 1}]
MANY = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def lax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with rows in every table, whose columns accept any value."""
    path = tmp_path_factory.mktemp("lax") / "experiments.db"
    shutil.copy(FIXTURE, path)
    with closing(database.writer(path)) as connection:
        workers.open_pool(connection, "pool.log")
    now = database.now()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("INSERT INTO loads VALUES ('bench', 'cpu', ?, 0.5, 1, 2, NULL, NULL)", (now,))
        connection.execute("INSERT INTO data_titles VALUES ('digits-a', 'Digits')")
        connection.execute("INSERT INTO about VALUES ('model mine@1', '/models')")
        connection.execute("UPDATE workers SET ended_at = NULL, heartbeat_at = ?", (now,))
        connection.execute("UPDATE experiments SET tags = '[\"paper\"]', notes = 'a note'")
        connection.execute("PRAGMA writable_schema = ON")
        strict = "replace(replace(sql, ' STRICT', ''), ' NOT NULL', '')"
        connection.execute(f"UPDATE sqlite_master SET sql = {strict} WHERE type = 'table'")
    return path


@st.composite
def json_like(draw: st.DrawFn, text: str) -> str:
    """JSON with one of its values removed, replaced, or cut off."""
    if draw(st.booleans()):
        return text[: draw(st.integers(0, len(text)))]
    found = json.loads(text)
    holder, key = draw(st.sampled_from(list(_places(found))))
    if draw(st.booleans()):
        holder[key] = draw(st.sampled_from(INNER))
    else:
        del holder[key]
    return json.dumps(found)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value, with each of its keys."""
    for key in list(value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
        yield value, key
        yield from _places(value[key])


@st.composite
def damaged(draw: st.DrawFn, path: Path) -> None:
    """Damage some cells, rows or tables of a database, or bytes of its file."""
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.Error):
        for _ in range(draw(st.integers(1, 3))):
            table = draw(st.sampled_from([*columns.TABLES, "experiments", "runs"]))
            column = draw(st.sampled_from([*columns.TABLES[table]]))
            cells = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
            row, old = draw(st.sampled_from(cells or [(0, None)]))
            is_json = isinstance(old, str) and old[:1] in ("[", "{")
            value = draw(json_like(old) if is_json and draw(st.booleans()) else st.sampled_from(VALUES))
            change = draw(
                st.sampled_from(
                    [
                        *[f"UPDATE {table} SET {column} = :value WHERE rowid = :row"] * 6,
                        f"UPDATE {table} SET {column} = :value",
                        f"UPDATE {table} SET {column} = CAST(x'ff41' AS TEXT) WHERE rowid = :row",
                        f"DELETE FROM {table} WHERE rowid = :row",
                        f"ALTER TABLE {table} RENAME COLUMN {column} TO gone",
                        f"DROP TABLE {table}",
                    ]
                )
            )
            connection.execute(change, {"value": value, "row": row})
            connection.commit()
    if draw(st.integers(0, 5)) == 0:
        content = bytearray(path.read_bytes())
        for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=20)):
            content[place] ^= draw(st.integers(1, 255))
        path.write_bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


@MANY
@given(data=st.data())
def test_no_damage_makes_a_traceback_and_none_is_written_over(
    lax: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))  # a folder each, as files read before may still be open
    monkeypatch.chdir(folder)
    monkeypatch.delenv("COCKPIT_DB", raising=False)
    path = folder / "experiments.db"
    shutil.copy(lax, path)
    data.draw(damaged(path))
    before = path.read_bytes()
    for command in data.draw(st.lists(st.sampled_from(COMMANDS), min_size=3, max_size=3)):
        code, _, err = inprocess.run(*command)
        inprocess.check_ended_well(code, err, (0, 1, 2) if command in OWN_FINDING else (0, 2))
    with suppress(InputError), engine.open("experiments.db") as results:
        names: list[str | None] = [*results.experiments(), None]
        results.records(data.draw(st.sampled_from(["curves", "runs", "statistics"])), data.draw(st.sampled_from(names)))
    assert path.read_bytes() == before
    assert os.listdir(folder) == ["experiments.db"]


def test_a_schema_that_is_no_text_is_told(lax: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "experiments.db"
    content = lax.read_bytes()
    assert b"CREATE INDEX runs_ready" in content
    path.write_bytes(
        content.replace(b"CREATE INDEX runs_ready", b"CREATX INDEX runs_ready").replace(b"runs_ready", b"runs\xf3ready")
    )
    monkeypatch.chdir(tmp_path)
    code, _, err = inprocess.run("queue", "list")
    assert (code, "\\xf3" in err, err.count("\n")) == (2, True, 1), err


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "command", "said"),
    [
        (
            "UPDATE experiments SET definition = substr(definition, 1, 100) WHERE id = 2",
            "queue list",
            "definition of row 2 of table experiments is '{",
        ),
        (
            "UPDATE experiments SET tags = '[' WHERE id = 3",
            "queue list",
            "tags of row 3 of table experiments is '[' (Input data was truncated)",
        ),
        (
            "UPDATE experiments SET definition = json_set(definition, '$.levels', 1000000000) WHERE id = 1",
            "queue extend halves --replicates 3",
            "definition of row 1 of table experiments",
        ),
        (
            "UPDATE loads SET at = '2026-02-31T00:00:00Z'",
            "work --status",
            "at of row 1 of table loads is '2026-02-31T00:00:00Z' (Invalid RFC3339 encoded datetime)",
        ),
        (
            "UPDATE runs SET weights_total = NULL WHERE status = 'done'",
            "export --table statistics",
            "runs that are done without all epochs, layers or accuracy: 1",
        ),
        ("UPDATE files SET bytes = NULL WHERE rowid = 1", "store check", "bytes of row 1 of table files is None"),
        (
            "UPDATE runs SET recipe = '{' WHERE id = 1",
            "tickets list",
            "recipe does not have their digest: 1",
        ),
        ("DELETE FROM datasets WHERE identity = 'digits-b'", "plot halves", "refers to a row of datasets"),
        ("DROP TABLE layers", "diff halves", "table layers: no such table: layers"),
    ],
)
def test_what_is_damaged_is_named_with_its_row(
    lax: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, command: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COCKPIT_DB", "experiments.db")
    shutil.copy(lax, "experiments.db")
    change(Path("experiments.db"), statement)
    code, out, err = inprocess.run(*command.split())
    if command == "store check":
        assert (code, said in out) == (1, True)
        return
    assert code == 2
    assert err.splitlines()[-1].startswith("cockpit: error: experiments.db is damaged: ")
    assert said in err
    assert "`cockpit store check --db experiments.db`" in err


def test_what_programs_of_any_version_wrote_is_no_damage(tmp_path: Path) -> None:
    for number, path in enumerate((FIXTURE, VERSION_1, Path(__file__).parents[2] / "experiments.db")):
        copy = tmp_path / f"{number}.db"
        shutil.copy(path, copy)
        database.writer(copy).close()
        assert damage.first(copy) is None


def test_every_column_has_its_schema(lax: Path) -> None:
    free = {"device_name", "dtype", "memory_format", "threads", "torch_version", "cudnn_version", "cockpit_version"}
    with closing(database.reader(lax)) as connection:
        for table, shapes in columns.TABLES.items():
            names = {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}
            assert names - set(shapes) == (free if table == "runs" else set())
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {*columns.TABLES, "_sqlite_migrations"}


def test_python_is_told_the_row(lax: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    shutil.copy(lax, path)
    change(path, "UPDATE runs SET test_accuracy = 'high' WHERE id = 3")
    with engine.open(path) as results, pytest.raises(damage.Damaged, match="test_accuracy of row 3 of table runs"):
        results.records("statistics")


def test_a_process_that_is_no_pool_of_the_database_is_not_stopped(
    lax: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: int
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(lax, "experiments.db")
    row = {**structs.asdict(processes.identity(stranger)), "log": "pool.log", "started_at": database.now()}
    names, values = ", ".join(row), ", ".join(map(repr, row.values()))
    change(Path("experiments.db"), "DELETE FROM pools", f"INSERT INTO pools ({names}) VALUES ({values})")
    code, _, err = inprocess.run("work", "--stop")
    assert code == 2
    assert f"process {stranger} does not work on experiments.db" in err
    assert psutil.pid_exists(stranger)
    assert psutil.Process(stranger).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def stranger() -> Iterator[int]:
    """The pid of a process that has nothing to do with the database."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.parametrize("pid", [-1, 0, 2**40])
def test_no_other_pid_is_signalled(lax: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    signalled: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "kill", lambda *given: signalled.append(given))
    monkeypatch.chdir(tmp_path)
    shutil.copy(lax, "experiments.db")
    change(Path("experiments.db"), f"UPDATE pools SET pid = {pid}")
    code, _, err = inprocess.run("work", "--stop")
    inprocess.check_ended_well(code, err)
    assert [one for one in signalled if one[-1] != 0] == []  # signal 0 only tests
