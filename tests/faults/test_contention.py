"""Other programs write to the database, or read it, without pause."""

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from engine.store import database, paths, rows, waiting
from tests.conftest import add
from tests.faults import outcomes, victim
from tests.waiting import wait_until

HOLD_SECONDS = 0.02
PATIENCE_SECONDS = 600  # SQLite's own waiting asks ten times a second and may starve for minutes
CONTEXT = multiprocessing.get_context("spawn")


def _write_without_a_gap(path: Path, over: Event) -> None:
    with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)) as connection:
        while not over.is_set():
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO about VALUES ('x', 'y') ON CONFLICT DO UPDATE SET value = value || 'y'")
            time.sleep(HOLD_SECONDS)
            connection.execute("COMMIT")


@contextmanager
def writers(path: Path) -> Iterator[None]:
    """Two programs that take the lock again as soon as they have released it."""
    over = CONTEXT.Event()
    found = [CONTEXT.Process(target=_write_without_a_gap, args=(path, over)) for _ in range(2)]
    for one in found:
        one.start()
    with closing(database.reader(path)) as connection:
        wait_until(lambda: connection.execute("SELECT 1 FROM about WHERE key = 'x'").fetchone())
    try:
        yield
        assert all(one.is_alive() for one in found)
    finally:
        over.set()
        for one in found:
            one.join()


def test_a_lock_is_got_between_two_who_write_without_a_gap(path: Path) -> None:
    with writers(path), closing(database.writer(path, PATIENCE_SECONDS)) as connection:
        for _ in range(5):
            with database.transaction(connection):
                time.sleep(HOLD_SECONDS)  # both are waiting


@pytest.mark.slow
def test_a_worker_finishes_between_two_who_write_without_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=0, replicates=1, epochs=2, random=["none"], target=["digits-a"])
    with writers(path):
        assert victim.start(path).end(seconds=300) == 0
        outcomes.check_done_once(path)
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[0].status == "done"
        assert connection.execute("SELECT max(claim), max(attempt) FROM runs").fetchone()[:] == (1, 1)


def test_a_lock_is_waited_for_as_long_as_was_said_and_no_longer(path: Path) -> None:
    with closing(database.writer(path, 0.5)) as connection, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("UPDATE runs SET priority = 0")
        assert 0.5 <= time.monotonic() - began < 5
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] > 0
        other.execute("INSERT INTO about VALUES ('x', 'y')")
        other.commit()
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="locked"):  # impossible: what was read has changed
            connection.execute("UPDATE runs SET priority = 0")
        assert time.monotonic() - began < 0.4
        connection.rollback()


@pytest.mark.parametrize("kept_short", [True, False])
def test_the_log_has_a_bound_while_readers_come_and_go(
    path: Path, monkeypatch: pytest.MonkeyPatch, kept_short: bool
) -> None:
    monkeypatch.setattr(waiting, "LOG_BYTES", 2**20)
    over, log, longest, read = threading.Event(), paths.beside(path, "-wal"), 0, [0, 0]

    def look(number: int) -> None:
        """One of two readers, at least one of which reads at any time."""
        with closing(database.reader(path)) as connection:
            while not over.is_set():
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM about").fetchone()
                seen, read[number] = read[1 - number], read[number] + 1
                while read[1 - number] == seen and not over.wait(0.02):
                    pass
                connection.rollback()

    readers = [threading.Thread(target=look, args=(number,)) for number in range(2)]
    with closing(database.writer(path)) as connection:
        connection.execute("INSERT INTO about VALUES ('x', '')")
        for reader in readers:
            reader.start()
        for count in range(160):
            connection.execute("UPDATE about SET value = ? WHERE key = 'x'", (f"{count % 10}" * 100_000,))
            longest = max(longest, log.stat().st_size)
            if kept_short and count % 4 == 3:
                waiting.shorten_log(connection, log)
        over.set()
        for reader in readers:
            reader.join()
    assert (longest < 2 * 2**20) == kept_short, longest
