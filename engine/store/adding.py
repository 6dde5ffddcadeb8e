"""Adding experiments to the queue, with those of their runs and curves that the database lacks."""

import json
import shlex
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from engine.datasets.catalog import DataSet
from engine.errors import InputError, OptionName
from engine.plan.definitions import Definition
from engine.plan.experiments import Curve, curves, runs
from engine.recipes import Dense, Run
from engine.store import imports, located, queue
from engine.store.database import insert, keep_model_folder, now, transaction
from engine.store.leases import block_dependents
from engine.tickets.ticketfiles import TicketSource


class Addition(msgspec.Struct, frozen=True):
    """An experiment to add; `pause_after` failures in a row pause it (None: leave the setting unchanged)."""

    name: str
    definition: Definition
    pause_after: int | None = None


class Added(msgspec.Struct, frozen=True):
    """The result of adding an experiment: its id, how many curves and runs it has, and how many runs are new."""

    experiment: int
    name: str
    curves: int
    runs: int
    new: int

    @property
    def existing(self) -> int:
        """Number of its runs that the database had before."""
        return self.runs - self.new


def default_name(definition: Definition) -> str:
    """The name for an experiment without one: its sources, its targets, and the model."""
    ends = map(joined_names, (definition.sources + definition.tickets, definition.targets))
    return "-to-".join(dict.fromkeys(ends)) + f"-{model_in_name(definition)}"


def model_in_name(definition: Definition) -> str:
    """The model in an experiment's name: without colons, and without the hash of a user model."""
    return definition.model.partition("@")[0].replace(":", ".")


def joined_names(group: Iterable[DataSet | TicketSource]) -> str:
    """Data sets in an experiment's name, without colons."""
    return "+".join(data.name.rpartition(":")[2] for data in group)


def add(connection: sqlite3.Connection, name: str, definition: Definition, command: str) -> Added:
    """Add an experiment and the runs that the database lacks, in one transaction.

    Adding the same name and definition again changes nothing. Raises InputError if the name has another definition.
    """
    (added,) = add_all(connection, [Addition(name, definition)], command)
    return added


def add_all(connection: sqlite3.Connection, additions: Sequence[Addition], command: str) -> list[Added]:
    """Add several experiments as `add` does; none if one of them cannot be added."""
    expanded = [(addition, curves(addition.definition)) for addition in additions]
    with transaction(connection):
        return [_add(connection, addition, planned, command) for addition, planned in expanded]


def _add(connection: sqlite3.Connection, addition: Addition, planned: list[Curve], command: str) -> Added:
    experiment = same_experiment(connection, addition.name, addition.definition, planned)
    total, new = _add_runs(connection, addition.definition, planned, command)
    if experiment is None:
        text = addition.definition.to_json()
        row = {"name": addition.name, "definition": text, "command": command, "created_at": now()}
        experiment = insert(connection, "experiments", row)
        _add_curves(connection, experiment, addition.definition.model, planned)
        queue.set_priorities(connection, experiment)
    if addition.pause_after is not None:
        queue.set_pause_after(connection, experiment, addition.pause_after)
    located.check(connection, experiment)
    return Added(experiment, addition.name, len(planned), total, new)


def extend(connection: sqlite3.Connection, experiment: int, definition: Definition, command: str) -> Added:
    """Give an experiment a wider definition and add the runs that the database lacks, in one transaction.

    Its state stays the same. Raises InputError if the new definition lacks one of its points.
    """
    planned = curves(definition)
    with transaction(connection):
        name, stored = connection.execute(
            "SELECT name, definition FROM experiments WHERE id = ?", (experiment,)
        ).fetchone()
        if lost := queue.points(connection, experiment) - _points_of(planned):
            level, replicate, _ = min(lost)
            raise InputError(
                f"{name!r} would lose {len(lost)} of its points, the first at level {level}, replicate {replicate}:"
                " extend only adds"
            )
        total, new = _add_runs(connection, definition, planned, command)
        if stored != definition.to_json():
            connection.execute(
                "UPDATE experiments SET definition = ?, command = command || ' && ' || ? WHERE id = ?",
                (definition.to_json(), command, experiment),
            )
            queue.remove_curves(connection, experiment)  # their names may change when there are more
            _add_curves(connection, experiment, definition.model, planned)
            queue.set_priorities(connection, experiment)
            queue.take_out_of_archive(connection, experiment)
        located.check(connection, experiment)
    return Added(experiment, name, len(planned), total, new)


def same_experiment(
    connection: sqlite3.Connection, name: str, definition: Definition, planned: Iterable[Curve]
) -> int | None:
    """The id of the experiment of this name; None if it does not exist. Raises InputError if its runs differ.

    It compares the digests of runs, not definitions, because a later version may add settings to definitions.
    """
    row = connection.execute("SELECT id, definition FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    if queue.points(connection, row["id"]) != _points_of(planned):
        old, new = (_without_names(text) for text in (row["definition"], definition.to_json()))
        differing = [f"{key} {old.get(key)!r} is now {new[key]!r}" for key in new if old.get(key) != new[key]]
        raise InputError(
            f"experiment {name!r} exists with another definition ({'; '.join(differing)}): give this one another ",
            OptionName("name"),
            f", or add to that one with `cockpit queue extend {shlex.quote(name)}`",
        )
    return int(row["id"])


def _points_of(planned: Iterable[Curve]) -> set[tuple[int, int, str]]:
    return {(point.level, point.replicate, point.run.digest) for curve in planned for point in curve.points}


def _without_names(text: str) -> dict[str, Any]:
    """A definition with its data sets as identities, which do not change when a file is renamed."""
    content: dict[str, Any] = json.loads(text)
    for key in ("sources", "targets"):
        content[key] = [data["identity"] for data in content[key]]
    return content


def _add_data_set(connection: sqlite3.Connection, data: DataSet) -> None:
    """Record a data set, and its new location if it has moved."""
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
    located.record(connection, data)  # its other parts have moved, too


def _add_runs(
    connection: sqlite3.Connection, definition: Definition, planned: Iterable[Curve], command: str
) -> tuple[int, int]:
    """Add missing data sets and runs of curves; returns the number of runs, and of new ones."""
    for data in definition.sources + definition.targets:
        _add_data_set(connection, data)
    keep_model_folder(connection, definition.model, definition.model_folder)
    names = {data.identity: data.name for data in definition.sources + definition.targets}
    wanted = runs(planned)
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
    # A new run that needs a failed or diverged one cannot start.
    block_dependents(connection)
    return len(wanted), _count_runs(connection) - before


def _count_runs(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


def _run_row(run: Run, names: dict[str, str]) -> tuple[object, ...]:
    ticket, training, chain = run.ticket, run.training, run.chain
    rewind = chain.rule.rewind if chain else ticket.rewind if isinstance(ticket, Dense) else None
    return (
        run.to_json(),
        ticket.name,
        ticket.level,
        names[chain.training.dataset] if chain else None,
        chain.training.dataset if chain else None,
        chain.training.optimizer if chain else None,
        chain.rule.scope if chain else None,
        rewind if isinstance(rewind, int) else None,  # a rewind point in steps is only in the recipe
        names[training.dataset],
        training.dataset,
        training.model,
        training.width,
        training.optimizer,
        training.learning_rate,
        run.epochs,
        training.batch_size,
        training.profile,
        training.seed,
    )


def _add_curves(connection: sqlite3.Connection, experiment: int, model: str, planned: Iterable[Curve]) -> None:
    for curve in planned:
        row = {
            "experiment_id": experiment,
            "name": curve.name,
            "source": curve.source.name if curve.source else None,
            "source_optimizer": curve.source_optimizer,
            "target": curve.target.name,
            "model": model,
            "optimizer": curve.optimizer,
            "scope": curve.scope,
            "ticket": curve.ticket,
        }
        curve_id = insert(connection, "experiment_curves", row)
        connection.executemany(
            "INSERT INTO curve_points (curve_id, level, replicate, run_id)"
            " SELECT ?, ?, ?, id FROM runs WHERE digest = ?",
            ((curve_id, point.level, point.replicate, point.run.digest) for point in curve.points),
        )
