"""Actions on experiments: each says what it changed, and on several names all are changed or none."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.store import database, labels, leases, queue, records
from tests.conftest import add
from tests.databases import finish, worker


def setting(state: queue.State) -> queue.Change:
    return lambda connection, experiment: queue.set_state(connection, experiment, state)


PAUSE, RESUME, CANCEL = setting("paused"), setting("active"), setting("cancelled")


def running(connection: sqlite3.Connection) -> leases.Claim:
    claim = leases.claim(connection, worker(connection))
    assert claim is not None
    return claim


def finished(connection: sqlite3.Connection) -> None:
    while claim := leases.claim(connection, worker(connection)):
        finish(connection, claim, 0.5)


def failed(connection: sqlite3.Connection) -> None:
    queue.set_pause_after(connection, 1, 0)
    records.failed(connection, running(connection), "out of luck")


def failed_and_paused(connection: sqlite3.Connection) -> None:
    queue.set_pause_after(connection, 1, 1)
    records.failed(connection, running(connection), "out of luck")


def diverged(connection: sqlite3.Connection) -> None:
    records.diverged(connection, running(connection), 1, 1.0)


def doing(*changes: queue.Change) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: [change(connection, 1) for change in changes]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database of one experiment of three runs, each needing the one before it."""
    path = tmp_path / "experiments.db"
    add(path, "one", levels=2, replicates=1, random=["none"], target=["digits-a"])
    with closing(database.writer(path)) as found:
        yield found


@pytest.mark.parametrize(
    ("before", "act", "changed", "said"),
    [
        (doing(), PAUSE, True, "3 of 3 runs left"),
        (doing(PAUSE), PAUSE, False, "already paused, 3 of 3 runs left"),
        (doing(PAUSE), CANCEL, True, "3 of 3 runs left"),
        (doing(PAUSE), RESUME, True, "3 of 3 runs left"),
        (doing(CANCEL), RESUME, True, "3 of 3 runs left"),
        (doing(), RESUME, False, "nothing to resume: it is active, 3 of 3 runs left"),
        (running, PAUSE, True, "3 of 3 runs left, 1 under way, to stop at a checkpoint"),
        (running, CANCEL, True, "3 of 3 runs left, 1 under way, to stop at a checkpoint"),
        (finished, PAUSE, False, "nothing to pause: no run is left to train"),
        (finished, CANCEL, False, "nothing to cancel: no run is left to train"),
        (finished, RESUME, False, "nothing to resume: it is active, no run is left to train"),
        (finished, queue.retry_failed, False, "nothing to retry: no run failed"),
        (doing(), queue.retry_failed, False, "nothing to retry: no run failed"),
        (diverged, queue.retry_failed, False, "nothing to retry: no run failed"),
        (failed, queue.retry_failed, True, "1 failed run waits again, 2 blocked runs released"),
        (failed_and_paused, queue.retry_failed, True, "1 failed run waits again, 2 blocked runs released, resumed"),
        (failed, PAUSE, False, "nothing to pause: no run is left to train"),
        (finished, partial(labels.archive, archived=True), True, "archived"),
        (doing(), partial(labels.archive, archived=False), False, "already not archived"),
        (doing(), partial(queue.move, priority=1, by=True), True, "priority 0 → 1"),
        (doing(), partial(queue.move, priority=0), False, "priority is 0 already"),
        (doing(), partial(labels.annotate, tags=["b", "a"], notes="first"), True, "tags: a b, notes saved"),
        (doing(), partial(labels.annotate, untag=["a"]), False, "notes and tags are as they were"),
        (running, queue.remove, True, "runs kept: 0, forgotten: 3"),
    ],
)
def test_an_action_says_what_it_changed(
    connection: sqlite3.Connection,
    before: Callable[[sqlite3.Connection], object],
    act: queue.Change,
    changed: bool,
    said: str,
) -> None:
    before(connection)
    stood = standing(connection)
    assert queue.change(connection, ["one"], act) == {"one": queue.Outcome(changed, said)}
    assert (standing(connection) != stood) == changed


def test_retrying_what_a_person_paused_says_that_it_stays_paused(connection: sqlite3.Connection) -> None:
    failed(connection)
    connection.execute("UPDATE experiments SET state = 'paused', name = 'two words'")
    outcome = queue.retry_failed(connection, 1)
    assert outcome.said.endswith("released, still paused: `cockpit queue resume 'two words'`")


def standing(connection: sqlite3.Connection) -> list[object]:
    """The values that actions change, without the time of the last change of state."""
    experiments = "SELECT name, state, priority, notes, tags, archived FROM experiments"
    runs = "SELECT id, status, priority FROM runs"
    return [tuple(row) for query in (experiments, runs) for row in connection.execute(query)]


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (PAUSE, ["one", "typo"]),
        (queue.remove, ["one", "typo"]),
        (partial(labels.archive, archived=True), ["one", "busy"]),
        (partial(labels.annotate, tags=["two words"]), ["one", "busy"]),
    ],
)
def test_what_cannot_be_done_to_all_is_done_to_none(
    tmp_path: Path, connection: sqlite3.Connection, act: queue.Change, names: list[str]
) -> None:
    finished(connection)
    add(tmp_path / "experiments.db", "busy", levels=0, replicates=1, random=["none"], seed=10)
    stood = standing(connection)
    with pytest.raises(InputError):
        queue.change(connection, names, act)
    assert standing(connection) == stood
    assert not connection.in_transaction


def test_a_name_that_is_given_twice_is_changed_once(connection: sqlite3.Connection) -> None:
    assert queue.change(connection, ["one", "one"], partial(queue.move, priority=1, by=True)) == {
        "one": queue.Outcome(True, "priority 0 → 1")
    }
    assert list(queue.change(connection, ["one", "one"], queue.remove)) == ["one"]
