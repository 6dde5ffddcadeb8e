"""The queue of experiments: what is wanted, in which order. Who trains it is the business of `claims`."""

import json
import shlex
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.datasets.catalog import DataSet, remembered
from engine.definitions import Definition
from engine.errors import InputError, unknown
from engine.experiments import Curve, curves, runs
from engine.recipes import Dense, Profile, Run
from engine.store import imports
from engine.store.claims import WANTED, block_dependents, unblock
from engine.store.database import keep_model_folder, model_folder, now, transaction
from engine.ticketfiles import TicketSource

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


@dataclass(frozen=True)
class Wish:
    """An experiment to add: its name, what it is, and after how many failures in a row it pauses (None: as it is)."""

    name: str
    definition: Definition
    pause_after: int | None = None


@dataclass(frozen=True)
class Added:
    """What adding an experiment did: its id, its curves and runs, and how many of those existed already."""

    experiment: int
    name: str
    curves: int
    runs: int
    new: int

    @property
    def existing(self) -> int:
        """How many of the runs were in the database before."""
        return self.runs - self.new


def default_name(definition: Definition) -> str:
    """The name of an experiment that was given none: its sources, its targets, and the model."""
    ends = map(joined_names, (definition.sources + definition.tickets, definition.targets))
    return "-to-".join(dict.fromkeys(ends)) + f"-{model_in_name(definition)}"


def model_in_name(definition: Definition) -> str:
    """The model as part of an experiment's name, which has no colons: of a person's own not the hash, either."""
    return definition.model.partition("@")[0].replace(":", ".")


def joined_names(group: Iterable[DataSet | TicketSource]) -> str:
    """Data sets as part of an experiment's name, which has no colons."""
    return "+".join(data.name.rpartition(":")[2] for data in group)


def add(connection: sqlite3.Connection, name: str, definition: Definition, command: str) -> Added:
    """Add an experiment and those of its runs that are not there yet, in one transaction.

    The same name with the same definition changes nothing; with another one it raises InputError.
    """
    (added,) = add_all(connection, [Wish(name, definition)], command)
    return added


def add_all(connection: sqlite3.Connection, wishes: Sequence[Wish], command: str) -> list[Added]:
    """Add several experiments as `add` does, all of them or, where one cannot be added, none."""
    expanded = [curves(wish.definition) for wish in wishes]
    with transaction(connection):
        return [_add(connection, wish, found, command) for wish, found in zip(wishes, expanded, strict=True)]


def _add(connection: sqlite3.Connection, wish: Wish, found: list[Curve], command: str) -> Added:
    experiment = same_experiment(connection, wish.name, wish.definition, found)
    total, new = _add_runs(connection, wish.definition, found, command)
    if experiment is None:
        experiment = _add_experiment(connection, wish.name, wish.definition, command)
        _add_curves(connection, experiment, wish.definition.model, found)
        _set_priorities(connection, experiment)
    if wish.pause_after is not None:
        set_pause_after(connection, experiment, wish.pause_after)
    return Added(experiment, wish.name, len(found), total, new)


def extend(connection: sqlite3.Connection, experiment: int, definition: Definition, command: str) -> Added:
    """Give an experiment a wider definition, and add those of its runs that are not there yet, in one transaction.

    Its state stays as it is. Raises InputError if one of its points is not in the new definition.
    """
    found = curves(definition)
    with transaction(connection):
        name, stored = connection.execute(
            "SELECT name, definition FROM experiments WHERE id = ?", (experiment,)
        ).fetchone()
        if lost := _points(connection, experiment) - _points_of(found):
            level, replicate, _ = min(lost)
            raise InputError(
                f"{name!r} would lose {len(lost)} of its points, the first at level {level}, replicate {replicate}:"
                " extend only adds"
            )
        total, new = _add_runs(connection, definition, found, command)
        if stored != definition.to_json():
            connection.execute(
                "UPDATE experiments SET definition = ?, command = command || ' && ' || ? WHERE id = ?",
                (definition.to_json(), command, experiment),
            )
            _remove_curves(connection, experiment)  # their names may change when there are more
            _add_curves(connection, experiment, definition.model, found)
            _set_priorities(connection, experiment)
            _take_out_of_archive(connection, experiment)
    return Added(experiment, name, len(found), total, new)


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
        _take_out_of_archive(connection, experiment)
    _set_priorities(connection, experiment)


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
        _set_priorities(connection, experiment)


def _take_out_of_archive(connection: sqlite3.Connection, experiment: int) -> None:
    connection.execute("UPDATE experiments SET archived = 0 WHERE id = ?", (experiment,))


def remove(connection: sqlite3.Connection, experiment: int) -> None:
    """Forget an experiment, and those of its runs that no other wants and that are not done.

    Finished runs stay, and are found again by the next experiment that wants them.
    """
    with transaction(connection):
        wanted = [row[0] for row in connection.execute(WANTED, {"experiment": experiment})]
        _remove_curves(connection, experiment)
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
        _take_out_of_archive(connection, experiment)
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


def _set_priorities(connection: sqlite3.Connection, experiment: int) -> None:
    """Give the runs of an experiment the highest priority of the active experiments that want each."""
    connection.execute(f"UPDATE runs SET priority = {_PRIORITY} WHERE id IN ({WANTED})", {"experiment": experiment})


def same_experiment(
    connection: sqlite3.Connection, name: str, definition: Definition, found: Iterable[Curve]
) -> int | None:
    """The id of the experiment of this name, if there is one. Raises InputError if it has other runs.

    Digests last longer than definitions do: a later version may add a setting to those.
    """
    row = connection.execute("SELECT id, definition FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    if _points(connection, row["id"]) != _points_of(found):
        old, new = (_without_names(text) for text in (row["definition"], definition.to_json()))
        differing = [f"{key} {old.get(key)!r} is now {new[key]!r}" for key in new if old.get(key) != new[key]]
        raise InputError(
            f"experiment {name!r} exists with another definition ({'; '.join(differing)}): give this one another"
            f" --name, or add to that one with `cockpit queue extend {shlex.quote(name)}`"
        )
    return int(row["id"])


def _points(connection: sqlite3.Connection, experiment: int) -> set[tuple[int, int, str]]:
    """Level, replicate and digest of every point of an experiment."""
    rows = connection.execute(
        """
        SELECT p.level, p.replicate, r.digest FROM experiment_curves c
        JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id WHERE c.experiment_id = ?
        """,
        (experiment,),
    )
    return {tuple(row) for row in rows}


def _points_of(found: Iterable[Curve]) -> set[tuple[int, int, str]]:
    return {(point.level, point.replicate, point.run.digest) for curve in found for point in curve.points}


def _without_names(text: str) -> dict[str, Any]:
    """A definition by what it means: a data set is its content, whatever its file is called today."""
    found: dict[str, Any] = json.loads(text)
    for key in ("sources", "targets"):
        found[key] = [data["identity"] for data in found[key]]
    return found


def _add_data_set(connection: sqlite3.Connection, data: DataSet) -> None:
    """Record a data set; one that has moved since gets its new location."""
    connection.execute(
        """
        INSERT INTO datasets (identity, name, location, channels, height, width, classes, train_images, test_images)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (identity) DO UPDATE SET location = excluded.location
        """,
        (
            data.identity,
            data.name,
            data.location,
            *data.shape,
            data.classes,
            data.train_images,
            data.test_images,
        ),
    )


def _add_runs(
    connection: sqlite3.Connection, definition: Definition, found: Iterable[Curve], command: str
) -> tuple[int, int]:
    """Add the data sets and runs of curves that are not there yet: how many runs there are, and how many are new."""
    for data in definition.sources + definition.targets:
        _add_data_set(connection, data)
    keep_model_folder(connection, definition.model, definition.model_folder)
    names = {data.identity: data.name for data in definition.sources + definition.targets}
    wanted = runs(found)
    before, moment = _count_runs(connection), now()
    connection.executemany(
        """
        INSERT INTO runs (digest, recipe, ticket, level, source, source_dataset, source_optimizer, scope, rewind_epoch,
          target, target_dataset, model, width, optimizer, learning_rate, epochs, batch_size, profile, seed, command,
          queued_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING
        """,
        ((digest, *_run_row(run, names), command, moment) for digest, run in wanted.items()),
    )
    needs = ((digest, needed.digest) for digest, run in wanted.items() for needed in run.needs())
    connection.executemany(
        """
        INSERT INTO run_needs (run_id, needs_id)
        SELECT r.id, q.id FROM runs r, runs q WHERE r.digest = ? AND q.digest = ? ON CONFLICT DO NOTHING
        """,
        needs,
    )
    imports.record(connection, definition.tickets)
    # A new run that stands on one that has already failed or diverged can never start.
    block_dependents(connection)
    return len(wanted), _count_runs(connection) - before


def _count_runs(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


def _run_row(run: Run, names: dict[str, str]) -> tuple[object, ...]:
    ticket, training, chain = run.ticket, run.training, run.chain
    return (
        run.to_json(),
        ticket.name,
        ticket.level,
        names[chain.training.dataset] if chain else None,
        chain.training.dataset if chain else None,
        chain.training.optimizer if chain else None,
        chain.rule.scope if chain else None,
        chain.rule.rewind if chain else ticket.rewind if isinstance(ticket, Dense) else None,
        names[training.dataset],
        training.dataset,
        training.model,
        training.width,
        training.optimizer,
        training.learning_rate,
        training.epochs,
        training.batch_size,
        training.profile,
        training.seed,
    )


def _add_experiment(connection: sqlite3.Connection, name: str, definition: Definition, command: str) -> int:
    experiment = connection.execute(
        "INSERT INTO experiments (name, definition, command, created_at) VALUES (?, ?, ?, ?)",
        (name, definition.to_json(), command, now()),
    ).lastrowid
    assert experiment is not None
    return experiment


def _add_curves(connection: sqlite3.Connection, experiment: int, model: str, found: Iterable[Curve]) -> None:
    for curve in found:
        curve_id = connection.execute(
            """
            INSERT INTO experiment_curves
              (experiment_id, name, source, source_optimizer, target, model, optimizer, scope, ticket)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                experiment,
                curve.name,
                curve.source.name if curve.source else None,
                curve.source_optimizer,
                curve.target.name,
                model,
                curve.optimizer,
                curve.scope,
                curve.ticket,
            ),
        ).lastrowid
        connection.executemany(
            "INSERT INTO curve_points (curve_id, level, replicate, run_id)"
            " SELECT ?, ?, ?, id FROM runs WHERE digest = ?",
            ((curve_id, point.level, point.replicate, point.run.digest) for point in curve.points),
        )


def _remove_curves(connection: sqlite3.Connection, experiment: int) -> None:
    connection.execute(
        "DELETE FROM curve_points WHERE curve_id IN (SELECT id FROM experiment_curves WHERE experiment_id = ?)",
        (experiment,),
    )
    connection.execute("DELETE FROM experiment_curves WHERE experiment_id = ?", (experiment,))
