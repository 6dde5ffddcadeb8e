"""The queue of experiments: their order and state. `adding` fills it; `leases` hands its runs to workers."""

import json
import shlex
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import structs

from engine.datasets.catalog import DataSet, remembered
from engine.errors import InputError, unknown
from engine.plan.definitions import Definition
from engine.recipes import Profile
from engine.store import located
from engine.store.database import model_folder, now, transaction
from engine.store.leases import TO_TRAIN, WANTED, unblock

State = Literal["active", "paused", "cancelled"]


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of a change of one experiment."""

    changed: bool
    said: str  # what changed, or why nothing did, for the user


Change = Callable[[sqlite3.Connection, int], Outcome]

_PRIORITY = """
    (SELECT max(e.priority) FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
     JOIN experiments e ON e.id = c.experiment_id WHERE p.run_id = runs.id AND e.state = 'active')
"""
_DEPENDENTS = "(SELECT count(*) FROM run_needs n WHERE n.needs_id = runs.id)"
_UNMET = """
    (SELECT count(*) FROM run_needs n JOIN runs q ON q.id = n.needs_id WHERE n.run_id = runs.id AND q.status <> 'done')
"""
# The run's stored values that order the claims differ from those derived from the queue.
_UNFIT = f"(priority IS NOT {_PRIORITY} OR dependents <> {_DEPENDENTS} OR unmet <> {_UNMET})"


def definition_of(connection: sqlite3.Connection, experiment: int) -> Definition:
    """The definition of an experiment, read without the files of its data sets. Raises InputError if it is gone."""
    text: str = _column(connection, experiment, "definition")

    def data_set(name: str, identity: str) -> DataSet:
        location, *shape, classes, train, test = connection.execute(
            "SELECT location, channels, height, width, classes, train_images, test_images FROM datasets"
            " WHERE identity = ?",
            (identity,),
        ).fetchone()
        channels, height, width = shape
        return remembered(name, identity, location, (channels, height, width), classes, train, test)

    definition = Definition.from_json(text, data_set)
    return structs.replace(definition, model_folder=model_folder(connection, definition.model))


def _column(connection: sqlite3.Connection, experiment: int, column: str) -> Any:
    """A column of an experiment. Raises InputError if another command has removed the experiment meanwhile."""
    row = connection.execute(f"SELECT {column} FROM experiments WHERE id = ?", (experiment,)).fetchone()
    if row is None:
        raise InputError("the experiment was removed meanwhile by another command")
    return row[0]


def models(connection: sqlite3.Connection) -> list[str]:
    """The models, by name or identity, of the unfinished runs of active experiments."""
    return [row[0] for row in connection.execute(f"SELECT DISTINCT model FROM runs WHERE {TO_TRAIN} ORDER BY model")]


def change(connection: sqlite3.Connection, names: Sequence[str], act: Change) -> dict[str, Outcome]:
    """Apply a change to all experiments of these names, or to none; returns the outcomes by name.

    Raises InputError, with nothing changed, for an unknown name and if `act` raises it.
    """
    with transaction(connection):
        ids = {name: experiment_id(connection, name) for name in names}
        return {name: act(connection, experiment) for name, experiment in ids.items()}


_VERBS: dict[State, str] = {"active": "resume", "paused": "pause", "cancelled": "cancel"}


def set_state(connection: sqlite3.Connection, experiment: int, state: State) -> Outcome:
    """Make an experiment active, paused or cancelled. Workers claim only the runs of active experiments.

    A worker whose run is in no active experiment any more writes a checkpoint and gives the run back
    (`leases.is_wanted`). An experiment without a run to train stays active, so that runs added later are trained.
    """
    with transaction(connection):
        before = _column(connection, experiment, "state")
        left = _left(connection, experiment)
        if state != "active" and not left:
            return Outcome(False, f"nothing to {_VERBS[state]}: no run is left to train")
        if before == state != "active":
            return Outcome(False, f"already {state}, {left}")
        _set_state(connection, experiment, state)
        if before == state:
            return Outcome(False, f"nothing to resume: it is active, {left or 'no run is left to train'}")
        return Outcome(True, _left(connection, experiment) or "no run is left to train")


def _left(connection: sqlite3.Connection, experiment: int) -> str:
    """The number of an experiment's unfinished runs and what happens to them, as text; empty if it has none."""
    total, left, stopping, shared, state = connection.execute(
        f"""
        SELECT count(*), count(*) FILTER (WHERE left), count(*) FILTER (WHERE status = 'running' AND priority IS NULL),
               count(*) FILTER (WHERE left AND priority IS NOT NULL),
               (SELECT state FROM experiments WHERE id = :experiment)
        FROM (SELECT status, priority, status IN ('waiting', 'running') AS left FROM runs WHERE id IN ({WANTED}))
        """,
        {"experiment": experiment},
    ).fetchone()
    said = [f"{left} of {total} runs left"] if left else []
    said += [f"{stopping} under way, to stop at a checkpoint"] if stopping else []
    said += [f"{shared} trained for other experiments"] if shared and state != "active" else []
    return ", ".join(said)


def _set_state(connection: sqlite3.Connection, experiment: int, state: State, reason: str | None = None) -> None:
    connection.execute(
        "UPDATE experiments SET state = ?, reason = ?, state_at = ? WHERE id = ?", (state, reason, now(), experiment)
    )
    if state == "active":
        take_out_of_archive(connection, experiment)
    set_priorities(connection, experiment)


def set_pause_after(connection: sqlite3.Connection, experiment: int, failures: int) -> None:
    """Set the number of failures in a row that pauses an experiment; 0 means never."""
    connection.execute("UPDATE experiments SET pause_after = ? WHERE id = ?", (failures, experiment))


def pause_failing(connection: sqlite3.Connection, run_id: int) -> None:
    """Pause each active experiment with this run whose last `pause_after` ended attempts all failed.

    Attempts before the user last changed the experiment's state do not count. Call it in the transaction that records
    a failure.
    """
    concerned = connection.execute(
        """
        SELECT DISTINCT e.id, e.pause_after, coalesce(e.state_at, '') AS since
        FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id JOIN experiments e ON e.id = c.experiment_id
        WHERE p.run_id = ? AND e.state = 'active' AND e.pause_after > 0
        """,
        (run_id,),
    ).fetchall()
    for experiment, allowed, since in concerned:
        last = connection.execute(
            f"""
            SELECT outcome FROM attempts
            WHERE run_id IN ({WANTED}) AND ended_at >= :since AND outcome IN ('done', 'failed', 'diverged')
            ORDER BY ended_at DESC, rowid DESC LIMIT :allowed
            """,
            {"experiment": experiment, "since": since, "allowed": allowed},
        ).fetchall()
        if len(last) == allowed and all(row["outcome"] == "failed" for row in last):
            _set_state(
                connection, experiment, "paused", f"{allowed} runs in a row failed" if allowed > 1 else "a run failed"
            )


def move(connection: sqlite3.Connection, experiment: int, priority: int, *, by: bool = False) -> Outcome:
    """Set an experiment's priority or, with `by`, add to it. Runs of the highest priority are claimed first."""
    with transaction(connection):
        before = _column(connection, experiment, "priority")
        after = priority + (before if by else 0)
        connection.execute("UPDATE experiments SET priority = ? WHERE id = ?", (after, experiment))
        set_priorities(connection, experiment)
    if after == before:
        return Outcome(False, f"priority is {before} already")
    return Outcome(True, f"priority {before} → {after}")


def take_out_of_archive(connection: sqlite3.Connection, experiment: int) -> None:
    """Unarchive an experiment, in the caller's transaction."""
    connection.execute("UPDATE experiments SET archived = 0 WHERE id = ?", (experiment,))


def remove(connection: sqlite3.Connection, experiment: int) -> Outcome:
    """Delete an experiment, and its unfinished runs that no other experiment has.

    Finished runs stay, and an experiment that has them later trains them no second time.
    """
    with transaction(connection):
        wanted = {row[0] for row in connection.execute(WANTED, {"experiment": experiment})}
        remove_curves(connection, experiment)
        connection.execute("DELETE FROM experiments WHERE id = ?", (experiment,))
        for run in wanted:
            connection.execute(f"UPDATE runs SET priority = {_PRIORITY} WHERE id = ?", (run,))
        orphans = (
            "SELECT id FROM runs r WHERE id IN (SELECT value FROM json_each(:runs)) AND status <> 'done'"
            " AND NOT EXISTS (SELECT 1 FROM curve_points WHERE run_id = r.id)"
        )
        forgotten = [row[0] for row in connection.execute(orphans, {"runs": json.dumps([*wanted])})]
        forget(connection, forgotten)
    kept = len(wanted) - len(forgotten)
    return Outcome(True, f"runs kept: {kept}, forgotten: {len(forgotten)}")


def forget(connection: sqlite3.Connection, runs: Iterable[int]) -> None:
    """Delete runs that are on no curve, with their records, in the caller's transaction."""
    deleted = json.dumps(list(runs))
    listed = "(SELECT value FROM json_each(:runs))"
    neighbours = (
        f"SELECT needs_id FROM run_needs WHERE run_id IN {listed}"
        f" UNION SELECT run_id FROM run_needs WHERE needs_id IN {listed}"
    )
    touched = json.dumps([row[0] for row in connection.execute(neighbours, {"runs": deleted})])
    columns = [(table, "run_id") for table in ("attempts", "epochs", "layers", "files", "lines", "run_needs")]
    for table, column in [*columns, ("run_needs", "needs_id"), ("runs", "id")]:
        connection.execute(f"DELETE FROM {table} WHERE {column} IN {listed}", {"runs": deleted})
    connection.execute(
        f"UPDATE runs SET dependents = {_DEPENDENTS}, unmet = {_UNMET} WHERE id IN {listed}", {"runs": touched}
    )


def unfit(connection: sqlite3.Connection) -> int:
    """The number of runs whose stored priority, dependents or unmet needs are wrong; 0 in a sound database."""
    return int(connection.execute(f"SELECT count(*) FROM runs WHERE {_UNFIT}").fetchone()[0])


def refit(connection: sqlite3.Connection) -> int:
    """Correct priority, dependents and unmet needs where they are wrong; returns the number of runs corrected."""
    return connection.execute(
        f"UPDATE runs SET priority = {_PRIORITY}, dependents = {_DEPENDENTS}, unmet = {_UNMET} WHERE {_UNFIT}"
    ).rowcount


def retry_failed(connection: sqlite3.Connection, experiment: int) -> Outcome:
    """Queue the failed runs of an experiment again, each as a new attempt, and release the runs that they blocked.

    An experiment that was paused because of them becomes active.
    """
    again = f"UPDATE runs SET status = 'waiting', error = NULL WHERE status = 'failed' AND id IN ({WANTED})"
    with transaction(connection):
        blocked = _blocked(connection, experiment)
        failed = connection.execute(again, {"experiment": experiment}).rowcount
        unblock(connection)
        released = blocked - _blocked(connection, experiment)
        name, state, reason = connection.execute(
            "SELECT name, state, reason FROM experiments WHERE id = ?", (experiment,)
        ).fetchone()
        if not (failed or released or reason):
            return Outcome(False, "nothing to retry: no run failed")
        located.check(connection, experiment)
        take_out_of_archive(connection, experiment)
        if reason:
            _set_state(connection, experiment, "active")
    said = [f"{failed} failed {'run waits' if failed == 1 else 'runs wait'} again"]
    said += [f"{released} blocked {'run' if released == 1 else 'runs'} released"] if released else []
    said += ["resumed"] if reason else []
    said += [f"still {state}: `cockpit queue resume {shlex.quote(name)}`"] if state != "active" and not reason else []
    return Outcome(True, ", ".join(said))


def _blocked(connection: sqlite3.Connection, experiment: int) -> int:
    query = f"SELECT count(*) FROM runs WHERE status = 'blocked' AND id IN ({WANTED})"
    return int(connection.execute(query, {"experiment": experiment}).fetchone()[0])


def stored_profile(connection: sqlite3.Connection, name: str) -> Profile | None:
    """The profile that was chosen when the experiment of this name was queued; None if it does not exist."""
    row = connection.execute(
        "SELECT json_extract(definition, '$.profile') FROM experiments WHERE name = ?", (name,)
    ).fetchone()
    return row[0] if row else None


def experiment_id(connection: sqlite3.Connection, name: str) -> int:
    """The id of the experiment called `name`. Raises InputError with the nearest name if it does not exist."""
    row = connection.execute("SELECT id FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is None:
        names = [row[0] for row in connection.execute("SELECT name FROM experiments ORDER BY id")]
        if not names:
            raise InputError(f"unknown experiment {name!r}: the database holds none; add one with `cockpit queue add`")
        raise unknown("experiment", name, names)
    return int(row[0])


def points(connection: sqlite3.Connection, experiment: int, schema: str = "main") -> set[tuple[int, int, str]]:
    """Level, replicate and digest of each point of an experiment, of the database attached as `schema`."""
    rows = connection.execute(
        f"""
        SELECT p.level, p.replicate, r.digest FROM {schema}.experiment_curves c
        JOIN {schema}.curve_points p ON p.curve_id = c.id JOIN {schema}.runs r ON r.id = p.run_id
        WHERE c.experiment_id = ?
        """,
        (experiment,),
    )
    return {tuple(row) for row in rows}


def set_priorities(connection: sqlite3.Connection, experiment: int) -> None:
    """Give each run of an experiment the highest priority of the active experiments that have it."""
    connection.execute(f"UPDATE runs SET priority = {_PRIORITY} WHERE id IN ({WANTED})", {"experiment": experiment})


def remove_curves(connection: sqlite3.Connection, experiment: int) -> None:
    """Delete an experiment's curves and keep its runs, in the caller's transaction."""
    connection.execute(
        "DELETE FROM curve_points WHERE curve_id IN (SELECT id FROM experiment_curves WHERE experiment_id = ?)",
        (experiment,),
    )
    connection.execute("DELETE FROM experiment_curves WHERE experiment_id = ?", (experiment,))
