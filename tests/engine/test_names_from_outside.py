"""Text from a foreign database becomes a path or name only after a check."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.store import care, database, labels
from engine.store.files import Folder, LostFile
from engine.store.merge import merge
from tests.conftest import add
from tests.databases import silently

DIGEST = hashlib.sha256(b"").hexdigest()
NO_DIGESTS = (
    "../../victim", "/victim", "", ".", "0" * 63, "0" * 65, "A" * 64, "0" * 63 + "\n", DIGEST + "\0", "٣" * 64, None,
)  # fmt: skip


def outside(path: Path) -> set[Path]:
    """All files and folders except the database's."""
    own = database.files_folder(path)
    return {
        place for place in path.parents[1].rglob("*") if not place.is_relative_to(own) and path.name not in str(place)
    }


def made(path: Path, name: object) -> Path:
    """A database with a run whose file has this name instead of a SHA-256, and a file that the name may target."""
    path.parent.mkdir()
    add(path, "tiny", levels=1, replicates=1)
    with closing(database.writer(path)) as connection:
        connection.execute("INSERT INTO files (run_id, kind, sha256, bytes) VALUES (1, 'mask', ?, 7)", (name,))
    (path.parents[1] / "victim.safetensors").write_bytes(b"precious")
    (database.files_folder(path) / "tickets").mkdir(parents=True)
    return path


@pytest.mark.parametrize("name", NO_DIGESTS)
def test_check_names_a_file_of_no_digest_and_repair_forgets_it_and_touches_nothing_else(
    tmp_path: Path, name: str | None
) -> None:
    path = made(tmp_path / "a" / "experiments.db", name)
    before, folder = outside(path), Folder(database.files_folder(path))
    with closing(database.writer(path)) as connection:
        report = care.check(connection, folder, silently)
        assert "ticket files named by no SHA-256: 1" in report.errors["files"]
        assert care.repair(connection, folder, report) == ["records deleted of ticket files that no SHA-256 names: 1"]
        assert care.check(connection, folder, silently).errors == {}
    assert outside(path) == before


@pytest.mark.parametrize("name", NO_DIGESTS)
def test_merge_and_backup_leave_such_a_file_out(tmp_path: Path, name: str | None) -> None:
    there, here = made(tmp_path / "a" / "there.db", name), tmp_path / "b" / "here.db"
    here.parent.mkdir()
    before = outside(here)
    copy = here.with_name("here.db.copy")
    assert care.backup(there, copy, silently).absent == 1
    with closing(database.writer(here)) as connection:
        assert merge(connection, here, there, silently).new == 7
        assert connection.execute("SELECT count(*) FROM files").fetchone()[0] == 0
    assert outside(here) == before


@pytest.mark.parametrize("name", NO_DIGESTS)
def test_no_such_name_becomes_a_path(tmp_path: Path, name: str) -> None:
    folder = Folder(tmp_path)
    for place in (folder.ticket, folder.checkpoint, folder.get):
        with pytest.raises(LostFile, match="it is no SHA-256"):
            place(name)
    assert not folder.has(name)
    assert not folder.is_whole(name)
    assert not folder.take_ticket(folder, name)
    assert not folder.take_checkpoint(folder, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET digest = '../../victim' WHERE id = 1",
        "UPDATE runs SET recipe = replace(recipe, '0.1', '0.2') WHERE id = 1",
    ],
)
def test_a_run_that_is_not_what_its_digest_says_is_not_merged(tmp_path: Path, statement: str) -> None:
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    add(there, "tiny", levels=1, replicates=1)
    with closing(sqlite3.connect(there)) as connection, connection:
        connection.execute(statement)
    with closing(database.writer(here)) as connection:
        with pytest.raises(InputError, match=r"does not have its digest, so nothing is merged: see `cockpit store"):
            merge(connection, here, there, silently)
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 0


@pytest.mark.parametrize("name", ["a:b", "-x", "", "  ", "{seed}", "two\nlines", "x" * 300, "\x1b[2J"])
def test_merged_experiments_get_names_that_commands_take(tmp_path: Path, name: str) -> None:
    here, there = tmp_path / "here.db", tmp_path / "the:re.db"
    for path, of, seed in ((there, "one", 0), (there, "two", 1), (here, labels.typeable(name), 2)):
        add(path, of, levels=1, replicates=1, seed=seed)
    with closing(sqlite3.connect(there)) as connection, connection:
        connection.execute("UPDATE experiments SET name = ? WHERE name = 'one'", (name,))
    with closing(database.writer(here)) as connection:
        renamed = merge(connection, here, there, silently).experiments
    assert list(renamed) == [name, "two"]
    assert all(map(labels.is_typeable, renamed.values()))
    assert len({*renamed.values(), labels.typeable(name)}) == 3


@given(st.text(max_size=150), st.text(max_size=80))
def test_every_name_can_be_made_typeable_and_a_good_one_stays(name: str, ending: str) -> None:
    assert labels.is_typeable(labels.typeable(name, ending))
    if labels.is_typeable(name):
        assert labels.typeable(name) == name
