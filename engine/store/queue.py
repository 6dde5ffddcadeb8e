"""The queue of experiments: what is wanted, in which order. `adding` fills it, and `claims` knows who trains it."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from engine.datasets.catalog import DataSet, remembered
from engine.definitions import Definition
from engine.errors import InputError, unknown
from engine.recipes import Profile
from engine.store.claims import WANTED, unblock
from engine.store.database import model_folder, now, transaction

State = Literal["active", "paused", "cancelled"]

PAUSE_AFTER = 3  # failures in a row; the default in the schema

_PRIORITY = """
    (SELECT max(e.priority) FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
     JOIN experiments e ON e.id = c.experiment_id WHERE p.run_id = runs.id AND e.state = 'active')
"""
_DEPENDENTS = "(SELECT count(*) FROM run_needs n WHERE n.needs_id = runs.id)"
_UNMET = """
    (SELECT count(*) FROM run_needs n JOIN runs q ON q.id = n.needs_id WHERE n.run_id = runs.id AND q.status <> 'done')
"""
# What the order of claims rests on does not fit the queue.
_UNFIT = f"(priority IS NOT {_PRIORITY} OR dependents <> {_DEPENDENTS} OR unmet <> {_UNMET})"


def definition_of(connection: sqlite3.Connection, experiment: int) -> Definition:
    """The definition of an experiment. The files of its data sets need not be there."""
    text: str = connection.execute("SELECT definition FROM experiments WHERE id = ?", (experiment,)).fetchone()[0]

    def data_set(name: str, identity: str) -> DataSet:
        location, *shape, classes, train, test = connection.execute(
            "SELECT location, channels, height, width, classes, train_images, test_images FROM datasets"
            " WHERE identity = ?",
            (identity,),
        ).fetchone()
        channels, height, width = shape
        return remembered(name, identity, location, (channels, height, width), classes, train, test)

    definition = Definition.from_json(text, data_set)
    return replace(definition, model_folder=model_folder(connection, definition.model))


def set_state(connection: sqlite3.Connection, experiment: int, state: State) -> None:
    """Make an experiment active, paused or cancelled. Only an active one has its runs claimed.

    A worker that trains a run which nothing active wants any more leaves a checkpoint and gives it back (`wanted`).
    Where nothing is left to train, there is nothing to pause or to cancel: it stays as it is, so that what it is
    extended by later is trained.
    """
    left = f"SELECT EXISTS (SELECT 1 FROM runs WHERE status IN ('waiting', 'running') AND id IN ({WANTED}))"
    with transaction(connection):
        if state == "active" or connection.execute(left, {"experiment": experiment}).fetchone()[0]:
            _set_state(connection, experiment, state)


def _set_state(connection: sqlite3.Connection, experiment: int, state: State, reason: str | None = None) -> None:
    connection.execute(
        "UPDATE experiments SET state = ?, reason = ?, state_at = ? WHERE id = ?", (state, reason, now(), experiment)
    )
    if state == "active":
        take_out_of_archive(connection, experiment)
    set_priorities(connection, experiment)


def set_pause_after(connection: sqlite3.Connection, experiment: int, failures: int) -> None:
    """After how many failures in a row an experiment is paused; 0 is never."""
    connection.execute("UPDATE experiments SET pause_after = ? WHERE id = ?", (failures, experiment))


def pause_failing(connection: sqlite3.Connection, run_id: int) -> None:
    """Pause the experiments that want this run, if the last of their attempts all failed, as many as each allows.

    What was before a person resumed it does not count. For a transaction that has just recorded a failure.
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


def move(connection: sqlite3.Connection, experiment: int, priority: int, *, by: bool = False) -> None:
    """Give an experiment another priority, or change it `by` so much: the runs of the highest are claimed first."""
    with transaction(connection):
        connection.execute(
            "UPDATE experiments SET priority = ? + iif(?, priority, 0) WHERE id = ?", (priority, by, experiment)
        )
        set_priorities(connection, experiment)


def take_out_of_archive(connection: sqlite3.Connection, experiment: int) -> None:
    """Show an experiment among the others again; within a transaction of the caller's."""
    connection.execute("UPDATE experiments SET archived = 0 WHERE id = ?", (experiment,))


def remove(connection: sqlite3.Connection, experiment: int) -> None:
    """Forget an experiment, and those of its runs that no other wants and that are not done.

    Finished runs stay, and are found again by the next experiment that wants them.
    """
    with transaction(connection):
        wanted = [row[0] for row in connection.execute(WANTED, {"experiment": experiment})]
        remove_curves(connection, experiment)
        connection.execute("DELETE FROM experiments WHERE id = ?", (experiment,))
        for run in wanted:
            connection.execute(f"UPDATE runs SET priority = {_PRIORITY} WHERE id = ?", (run,))
        orphans = (
            "SELECT id FROM runs r WHERE id IN (SELECT value FROM json_each(:runs)) AND status <> 'done'"
            " AND NOT EXISTS (SELECT 1 FROM curve_points WHERE run_id = r.id)"
        )
        forget(connection, [row[0] for row in connection.execute(orphans, {"runs": json.dumps(wanted)})])


def forget(connection: sqlite3.Connection, runs: Iterable[int]) -> None:
    """Delete runs that are on no curve, and all that they recorded; within a transaction of the caller's."""
    lost = json.dumps(list(runs))
    listed = "(SELECT value FROM json_each(?))"
    needs = f"SELECT needs_id FROM run_needs WHERE run_id IN {listed}"
    needed = json.dumps([row[0] for row in connection.execute(needs, (lost,))])
    columns = [(table, "run_id") for table in ("attempts", "epochs", "layers", "files", "run_needs")]
    for table, column in [*columns, ("run_needs", "needs_id"), ("runs", "id")]:
        connection.execute(f"DELETE FROM {table} WHERE {column} IN {listed}", (lost,))
    connection.execute(f"UPDATE runs SET dependents = {_DEPENDENTS} WHERE id IN {listed}", (needed,))


def unfit(connection: sqlite3.Connection) -> int:
    """How many runs store a priority, dependents or unmet needs that do not fit the queue; 0 unless something broke."""
    return int(connection.execute(f"SELECT count(*) FROM runs WHERE {_UNFIT}").fetchone()[0])


def refit(connection: sqlite3.Connection) -> int:
    """Derive priority, dependents and unmet needs again where they do not fit the queue; for how many runs."""
    return connection.execute(
        f"UPDATE runs SET priority = {_PRIORITY}, dependents = {_DEPENDENTS}, unmet = {_UNMET} WHERE {_UNFIT}"
    ).rowcount


def retry_failed(connection: sqlite3.Connection, experiment: int) -> None:
    """Let the failed runs of an experiment be claimed again, each as a new attempt, and whatever they blocked.

    An experiment that was paused because of them goes on.
    """
    again = "UPDATE runs SET status = 'waiting', error = NULL WHERE status = 'failed'"
    with transaction(connection):
        connection.execute(f"{again} AND id IN ({WANTED})", {"experiment": experiment})
        unblock(connection)
        take_out_of_archive(connection, experiment)
        if connection.execute("SELECT reason FROM experiments WHERE id = ?", (experiment,)).fetchone()[0]:
            _set_state(connection, experiment, "active")


def stored_profile(connection: sqlite3.Connection, name: str) -> Profile | None:
    """The profile that was resolved when the experiment of this name was queued; None if there is none."""
    row = connection.execute(
        "SELECT json_extract(definition, '$.profile') FROM experiments WHERE name = ?", (name,)
    ).fetchone()
    return row[0] if row else None


def experiment_id(connection: sqlite3.Connection, name: str) -> int:
    """The id of the experiment called `name`. Raises InputError, with the nearest name, if there is none."""
    row = connection.execute("SELECT id FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is None:
        names = [row[0] for row in connection.execute("SELECT name FROM experiments ORDER BY id")]
        if not names:
            raise InputError(f"unknown experiment {name!r}: the database holds none; add one with `cockpit queue add`")
        raise unknown("experiment", name, names)
    return int(row[0])


def set_priorities(connection: sqlite3.Connection, experiment: int) -> None:
    """Give the runs of an experiment the highest priority of the active experiments that want each."""
    connection.execute(f"UPDATE runs SET priority = {_PRIORITY} WHERE id IN ({WANTED})", {"experiment": experiment})


def remove_curves(connection: sqlite3.Connection, experiment: int) -> None:
    """Forget which runs are an experiment's points, and keep the runs; within a transaction of the caller's."""
    connection.execute(
        "DELETE FROM curve_points WHERE curve_id IN (SELECT id FROM experiment_curves WHERE experiment_id = ?)",
        (experiment,),
    )
    connection.execute("DELETE FROM experiment_curves WHERE experiment_id = ?", (experiment,))
