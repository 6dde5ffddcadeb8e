"""Paths of databases: links, leftover logs, names, readers without write permission, threads."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import engine
from engine.errors import InputError
from engine.store import care, database, paths
from tests.conftest import add

NOBODY = 65534


def leave_a_log(path: Path) -> None:
    """The log of a database whose writer was killed and whose file was then removed."""
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE t (x)'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "experiments.db"
    add(found, "one", levels=1)
    return found


def make(path: Path, place: Path) -> None:
    database.writer(place).close()


def back_up(path: Path, place: Path) -> None:
    care.backup(path, place, lambda done, total: None)


def copy_sample(path: Path, place: Path) -> None:
    sample = place.with_name(place.name.replace(".local", ""))
    database.snapshot(path, sample)
    with closing(sqlite3.connect(sample)) as connection:
        connection.execute("INSERT OR REPLACE INTO about VALUES ('sample', '1')")
        connection.commit()
    assert database.writable_path(sample) == place


@pytest.mark.parametrize("put", [make, back_up, copy_sample])
@pytest.mark.parametrize("ending", paths.LOGS)
def test_no_database_is_put_beside_the_log_of_another(path: Path, put: object, ending: str) -> None:
    assert callable(put)
    place = path.with_name("new.local.db")
    leave_a_log(place)
    log = place.with_name(place.name + ending)
    place.with_name(f"{place.name}-wal").rename(log)
    with pytest.raises(InputError, match=f"{place.name} cannot be made next to .*{ending}.* rm "):
        put(path, place)
    assert not place.exists()
    assert log.exists()
    log.unlink()
    put(path, place)
    with closing(database.reader(place)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_linked_database_has_its_files_where_its_log_is(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    assert database.files_folder(link) == database.files_folder(path)
    with closing(database.writer(link)):
        assert paths.beside(link, "-wal").exists()
    assert os.listdir(link.parent) == ["link.db"]


@pytest.mark.parametrize("opened", [database.reader, database.writer])
def test_a_link_to_nothing_names_its_target_and_makes_no_file(path: Path, opened: object) -> None:
    assert callable(opened)
    link = path.with_name("link.db")
    link.symlink_to(path.with_name("gone.db"))
    with pytest.raises(InputError, match=r"link\.db is a link to .*gone\.db, which does not exist"):
        opened(link)
    assert not path.with_name("gone.db").exists()


@pytest.mark.parametrize(
    ("text", "said"), [("", "is empty"), ("a\0b", "NUL"), ("~nosuchuser/x.db", "home folder"), ("\udcff.db", "Unicode")]
)
def test_what_cannot_name_a_file_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        paths.named(text)
    with pytest.raises(InputError, match=said):
        engine.open(text)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COCKPIT_DB", "~/x.db")
    assert database.default_path() == paths.named("~/x.db") == tmp_path / "x.db"


def test_a_writer_may_be_told_to_make_no_database(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        database.writer(tmp_path / "typo.db", make=False)
    assert not os.listdir(tmp_path)


def test_a_database_left_in_another_journal_mode_is_written_with_a_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with closing(database.writer(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_results_are_read_from_any_thread(path: Path) -> None:
    with engine.open(path) as results:
        found: list[list[str]] = []
        threads = [threading.Thread(target=lambda: found.append(results.experiments())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [*found, asyncio.run(asyncio.to_thread(results.experiments))] == [["one"]] * 5
    with pytest.raises(InputError, match="was closed"):
        results.experiments()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users may read, unlike pytest's."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_who_may_only_read_follows_those_who_write(public: Path) -> None:
    path = public / "experiments.db"
    add(path, "one", levels=1)
    asked, answer = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            results = engine.open(path)
            while os.read(asked[0], 1) == b"?":
                os.write(answer[1], " ".join(results.experiments()).encode())
        finally:
            os._exit(0)
    os.close(answer[1])  # so that reading ends if the child dies

    def seen() -> str:
        os.write(asked[1], b"?")
        return os.read(answer[0], 1000).decode()

    assert seen() == "one"
    with closing(database.writer(path)):  # creates the write-ahead log
        add(path, "two", seed=7)
        assert seen() == "one two"
    add(path, "three", seed=9)
    assert seen() == "one two three"
    os.write(asked[1], b".")
    os.waitpid(child, 0)
    assert {found.name for found in public.iterdir()} <= {"experiments.db", "experiments.db-wal", "experiments.db-shm"}
