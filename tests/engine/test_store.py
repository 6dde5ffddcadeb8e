"""The queue in the database: no run is trained twice, claims and fenced writes, and reading results."""

import errno
import io
import os
import random
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from engine.errors import InputError
from engine.machine import processes
from engine.store import database, history, leases, queue, records, rows
from tests.conftest import add
from tests.databases import EPOCH, finish, worker


def test_the_same_experiment_twice_costs_nothing(path: Path) -> None:
    first, second = add(path, "one"), add(path, "one")
    assert (first.new, first.existing) == (first.runs, 0)
    assert (second.new, second.existing) == (0, first.runs)
    other = add(path, "another name")
    assert (other.new, other.existing) == (0, first.runs)


def test_another_definition_under_the_same_name_is_refused_and_nothing_is_written(path: Path) -> None:
    add(path, "one")
    with pytest.raises(
        InputError, match=r"'one' exists with another definition \(evaluate .*; levels 3 is now 2\): .*another name"
    ):
        add(path, "one", levels=2, evaluate="0-2")
    with pytest.raises(InputError, match="seed 0 is now 7"):
        add(path, "one", seed=7)
    with closing(database.reader(path)) as found:
        assert found.execute("SELECT count(DISTINCT seed) FROM runs").fetchone()[0] == 2


def test_experiments_share_the_runs_they_have_in_common(path: Path) -> None:
    first = add(path, "one")
    more = add(path, "more", source=["digits-a", "digits"])
    assert more.existing == first.runs
    # new: digits's chain, and its tickets on digits-b; shared: random tickets, digits-b's dense
    assert more.new == 2 * (4 + 4)


def test_runs_are_claimed_once_and_only_when_what_they_need_is_done(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "one", replicates=1)
    claimed: list[str] = []
    done: set[str] = set()
    holder = worker(connection)
    while claim := leases.claim(connection, holder):
        assert {needed.digest for needed in claim.run.needs()} <= done
        claimed.append(claim.run.digest)
        finish(connection, claim, 0.5)
        done.add(claim.run.digest)
    assert len(claimed) == len(set(claimed)) == 4 + 4 + 4 + 1
    assert not leases.unfinished(connection)


def test_the_run_that_most_others_wait_for_is_claimed_first(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "one")
    claim = leases.claim(connection, worker(connection))
    assert claim is not None
    # digits-a's dense run: the next link and two transfers wait for it; nothing waits for a random ticket
    assert (claim.run.ticket.name, claim.run.training.dataset) == ("dense", "digits-a")


def test_the_next_claim_is_one_look_into_an_index(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "one")
    plans: list[str] = []
    connection.set_trace_callback(plans.append)
    leases.claim(connection, worker(connection))
    connection.set_trace_callback(None)
    statement = next(text for text in plans if "RETURNING" in text)
    plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert any("USING INDEX runs_ready" in line for line in plan), plan
    assert not any("SCAN runs" in line and "runs_ready" not in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan), plan


def test_what_a_claim_is_ordered_by_always_fits_the_queue(path: Path, connection: sqlite3.Connection) -> None:
    experiments = [
        add(path, "one", replicates=1),
        add(path, "other", replicates=1, source=["digits-a", "digits"]),
        add(path, "third", replicates=2, levels=2, evaluate="0-2"),
    ]
    holder = worker(connection)
    draw = random.Random(0)
    for _ in range(60):
        one = draw.choice(experiments).experiment
        action = draw.randrange(6)
        if action == 0:
            queue.set_state(connection, one, draw.choice(["active", "active", "paused", "cancelled"]))
        elif action == 1:
            queue.move(connection, one, draw.randrange(-3, 4))
        elif action == 2:
            queue.retry_failed(connection, one)
        elif claim := leases.claim(connection, holder):
            if draw.random() < 0.1:
                records.failed(connection, claim, "out of luck")
            elif draw.random() < 0.2 and claim.run.needs():
                leases.send_back(connection, claim, claim.run.needs()[0].digest)
            else:
                finish(connection, claim, 0.5)
        wrong = connection.execute(
            """
            SELECT count(*) FROM runs r WHERE
              unmet <> (SELECT count(*) FROM run_needs n JOIN runs q ON q.id = n.needs_id
                        WHERE n.run_id = r.id AND q.status <> 'done')
              OR dependents <> (SELECT count(*) FROM run_needs n WHERE n.needs_id = r.id)
              OR priority IS NOT (SELECT max(e.priority) FROM curve_points p
                                  JOIN experiment_curves c ON c.id = p.curve_id
                                  JOIN experiments e ON e.id = c.experiment_id
                                  WHERE p.run_id = r.id AND e.state = 'active')
            """
        ).fetchone()[0]
        assert wrong == 0


def test_only_unpaused_experiments_are_worked_on(path: Path, connection: sqlite3.Connection) -> None:
    one, other = add(path, "one"), add(path, "other", seed=10)
    holder = worker(connection)
    queue.set_state(connection, one.experiment, "paused")
    claim = leases.claim(connection, holder)
    assert claim is not None
    assert claim.run.training.seed >= 10
    assert leases.claim(connection, holder, one.experiment) is None
    queue.set_state(connection, other.experiment, "paused")
    assert leases.claim(connection, holder) is None
    assert not leases.unfinished(connection)
    queue.set_state(connection, one.experiment, "active")
    assert leases.claim(connection, holder, one.experiment) is not None


def test_a_late_writer_changes_nothing(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "one")
    holder = worker(connection)
    late = leases.claim(connection, holder)
    assert late is not None
    leases.reclaim(connection, late.run_id, late.number, lost=False)
    leases.reclaim(connection, late.run_id, late.number, lost=False)  # a second time changes nothing
    newer = leases.claim(connection, holder)
    assert newer is not None
    assert (newer.run_id, newer.number) == (late.run_id, late.number + 1)
    assert not leases.renew(connection, late)
    assert not leases.release(connection, late)
    writes: tuple[Callable[[], object], ...] = (
        lambda: records.start(connection, late, 1, {}, []),
        lambda: records.epoch(connection, late, 1, EPOCH),
        lambda: records.file(connection, late, "mask", "0" * 64, 1),
        lambda: records.done(connection, late, 0.5, 0, 1.0),
        lambda: records.failed(connection, late, "late"),
        lambda: records.diverged(connection, late, 0, 1.0),
    )
    for write in writes:
        with pytest.raises(records.StaleClaim):
            write()
    assert leases.renew(connection, newer)
    finish(connection, newer, 0.75)
    assert connection.execute("SELECT test_accuracy FROM runs WHERE id = ?", (newer.run_id,)).fetchone()[0] == 0.75


def test_a_run_that_two_workers_find_dead_is_put_back_once(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "one")
    holder = worker(connection)
    for _ in range(records.LOST_ALLOWED - 1):
        claim = leases.claim(connection, holder)
        assert claim is not None
        records.lost(connection, claim.run_id, claim.number)
        records.lost(connection, claim.run_id, claim.number)
    claim = leases.claim(connection, holder)
    assert claim is not None
    assert claim.lost == records.LOST_ALLOWED - 1
    records.lost(connection, claim.run_id, claim.number)
    records.lost(connection, claim.run_id, claim.number)
    run = connection.execute("SELECT status, error FROM runs WHERE id = ?", (claim.run_id,)).fetchone()
    assert (run["status"], "5 times in a row" in run["error"]) == ("failed", True)


def test_one_statement_records_an_epoch_and_the_first_after_a_loss_ends_the_count(
    path: Path, connection: sqlite3.Connection
) -> None:
    add(path, "one")
    holder = worker(connection)
    first = leases.claim(connection, holder)
    assert first is not None
    records.start(connection, first, 1, {}, [])
    records.lost(connection, first.run_id, first.number)
    claim = leases.claim(connection, holder)
    assert claim is not None
    assert (first.lost, claim.lost) == (0, 1)
    records.start(connection, claim, 2, {}, [])
    said: list[str] = []
    connection.set_trace_callback(said.append)
    records.epoch(connection, structs.replace(claim, lost=0), 2, EPOCH)
    connection.set_trace_callback(None)
    assert [text.split()[0] for text in said if not text.startswith("PRAGMA")] == ["INSERT"]
    records.epoch(connection, claim, 2, replace(EPOCH, epoch=1))
    assert connection.execute("SELECT lost FROM runs WHERE id = ?", (claim.run_id,)).fetchone()[0] == 0
    assert [one.epoch for one in records.epochs(connection, claim, 2)] == [EPOCH.epoch, 1]


def test_an_experiment_that_another_command_removed_is_named_as_such(
    path: Path, connection: sqlite3.Connection
) -> None:
    removed = add(path, "one").experiment
    queue.remove(connection, removed)
    changes: tuple[Callable[[], object], ...] = (
        lambda: queue.set_state(connection, removed, "paused"),
        lambda: queue.move(connection, removed, 1),
        lambda: queue.definition_of(connection, removed),
    )
    for change in changes:
        with pytest.raises(InputError, match="removed meanwhile"):
            change()


def test_a_late_writer_changes_no_other_run_that_was_given_its_runs_id(
    path: Path, connection: sqlite3.Connection
) -> None:
    removed = add(path, "one", replicates=1)
    holder = worker(connection)
    late = leases.claim(connection, holder)
    assert late is not None
    queue.remove(connection, removed.experiment)
    add(path, "other", replicates=1, batch_size=50)
    newer = leases.claim(connection, holder)
    assert newer is not None
    assert (newer.run_id, newer.number) == (late.run_id, late.number)
    assert not leases.is_wanted(connection, late)
    assert not leases.renew(connection, late)
    with pytest.raises(records.StaleClaim):
        records.epoch(connection, late, 1, EPOCH)
    assert leases.is_wanted(connection, newer)
    assert leases.renew(connection, newer)


@pytest.mark.parametrize("how", ["failed", "diverged"])
def test_what_stands_on_a_lost_run_is_blocked_and_says_by_what(
    path: Path, connection: sqlite3.Connection, how: str
) -> None:
    added = add(path, "one", replicates=1)
    holder = worker(connection)
    lost = leases.claim(connection, holder)
    assert lost is not None
    records.start(connection, lost, 1, {}, [])
    if how == "failed":
        records.failed(connection, lost, "Traceback: out of luck")
    else:
        records.diverged(connection, lost, 1, 1.0)
    blocked = connection.execute("SELECT error FROM runs WHERE status = 'blocked'").fetchall()
    assert len(blocked) == 3 + 4  # the chain's other levels, and all its transfers
    assert {row[0] for row in blocked} == {f"depends on run {lost.run.digest}, which {how}"}
    waits = [run.waits_for for run in rows.runs(connection, added.experiment) if run.status == "blocked"]
    assert all(cause.endswith(f"({lost.run.digest[:12]}), which {how}") for cause in waits)
    while claim := leases.claim(connection, holder):  # the other runs are trained
        finish(connection, claim, 0.5)
    state = rows.experiments(connection)[0]
    assert (state.status, state.done, getattr(state, how)) == (how, 4 + 1, 1)
    # Queueing it under another name unblocks nothing.
    assert add(path, "again", replicates=1).new == 0
    assert leases.claim(connection, holder) is None
    queue.retry_failed(connection, added.experiment)
    again = leases.claim(connection, holder)
    assert (again is not None) == (how == "failed")


def test_retrying_one_experiment_unblocks_what_waited_for_its_runs_in_another(
    path: Path, connection: sqlite3.Connection
) -> None:
    one = add(path, "one", replicates=1)
    add(path, "other", replicates=1, target=["digits"])
    holder = worker(connection)
    lost = leases.claim(connection, holder)  # digits-a's dense run: both experiments need it
    assert lost is not None
    records.failed(connection, lost, "out of luck")
    while claim := leases.claim(connection, holder):
        finish(connection, claim, 0.5)
    assert [row.status for row in rows.experiments(connection)] == ["failed", "failed"]
    queue.retry_failed(connection, one.experiment)
    while claim := leases.claim(connection, holder):
        finish(connection, claim, 0.5)
    assert [row.status for row in rows.experiments(connection)] == ["done", "done"]


def test_the_view_of_curves_gives_mean_sample_deviation_and_n(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "one", replicates=4)
    holder, accuracies = worker(connection), {}
    while claim := leases.claim(connection, holder):
        seed = claim.run.training.seed
        if (claim.run.ticket.name, claim.run.ticket.level, seed) == ("random-global", 2, 3):
            records.start(connection, claim, 1, {}, [])
            records.diverged(connection, claim, 1, 1.0)
            continue
        # Close together and far from 0: a one-pass formula loses the deviation.
        accuracies[seed] = 0.9 + [1e-9, 3e-9, 4e-9, 8e-9][seed]
        finish(connection, claim, accuracies[seed])
    for row in connection.execute("SELECT * FROM curves"):
        n = 3 if (row["ticket"], row["level"]) == ("random-global", 2) else 4
        values = [accuracies[seed] for seed in range(n)]
        assert (row["n"], row["replicates"]) == (n, 4)
        assert row["mean"] == pytest.approx(statistics.fmean(values), rel=1e-15)
        assert row["std"] == pytest.approx(statistics.stdev(values), rel=1e-6)
        assert row["fraction_pruned"] == 0.25


def test_one_replicate_has_no_deviation(path: Path, connection: sqlite3.Connection) -> None:
    add(path, "one", replicates=1)
    claim = leases.claim(connection, worker(connection))
    assert claim is not None
    finish(connection, claim, 0.5)
    found = connection.execute("SELECT n, mean, std FROM curves").fetchall()
    assert [tuple(row) for row in found] == [(1, 0.5, None)]


def test_layer_ratios_compare_the_scopes_layer_by_layer(trained: Path) -> None:
    with closing(database.reader(trained)) as connection:
        found = connection.execute("SELECT * FROM layer_ratios WHERE target = 'digits-a'").fetchall()
        assert len(found) == 4 * 2 * 4  # levels, replicates, layers
        for row in found:
            if row["level"] == 0:
                assert (row["remaining_ratio"], row["pruned_ratio"]) == (1.0, None)
                continue
            assert row["layerwise_remaining"] == round(row["weights_total"] * 0.8 ** row["level"])
            assert row["remaining_ratio"] == row["global_remaining"] / row["layerwise_remaining"]
            pruned = [row["weights_total"] - row[f"{scope}_remaining"] for scope in ("global", "layerwise")]
            assert row["pruned_ratio"] == pruned[0] / pruned[1]


def test_a_pause_is_told_once_though_runs_that_others_want_go_on(path: Path, connection: sqlite3.Connection) -> None:
    for name in ("one", "other"):
        add(path, name, levels=0, replicates=3, random=["none"], target=["digits-a"])
    one = queue.experiment_id(connection, "one")
    queue.set_pause_after(connection, one, 1)
    mine = worker(connection)
    claim = leases.claim(connection, mine)
    assert claim is not None
    records.failed(connection, claim, "out of luck")
    assert history.take_endings(connection, claim.run_id) == [one]
    following = leases.claim(connection, mine)
    assert following is not None
    time.sleep(0.002)  # times have milliseconds
    finish(connection, following, 0.5)
    assert history.take_endings(connection, following.run_id) == []


def test_a_full_disk_takes_the_lines_of_a_log_and_no_worker_or_heartbeat() -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with redirect_stdout(Full()):
        processes.say("there is no room for this")


def test_removing_what_a_finished_run_needed_leaves_its_needs_right(connection: sqlite3.Connection, path: Path) -> None:
    """A run that is trained again for a lost file is not done, although runs that depend on it are."""
    added = add(path, "one")
    hand = worker(connection)
    while claim := leases.claim(connection, hand):
        finish(connection, claim, 0.5)
    connection.execute("UPDATE runs SET status = 'waiting' WHERE ticket = 'dense'")
    queue.remove(connection, added.experiment)
    assert connection.execute("SELECT count(*) FROM runs WHERE ticket = 'dense'").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] > 0
    assert queue.unfit(connection) == 0
