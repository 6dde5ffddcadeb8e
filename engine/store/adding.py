"""Adding experiments to the queue: the runs and curves of each that the database does not hold yet."""

import json
import shlex
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.datasets.catalog import DataSet
from engine.errors import InputError, OptionName
from engine.plan.definitions import Definition
from engine.plan.experiments import Curve, curves, runs
from engine.recipes import Dense, Run
from engine.store import imports, located, queue
from engine.store.database import keep_model_folder, now, transaction
from engine.store.leases import block_dependents
from engine.tickets.ticketfiles import TicketSource


@dataclass(frozen=True)
class Addition:
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
    (added,) = add_all(connection, [Addition(name, definition)], command)
    return added


def add_all(connection: sqlite3.Connection, additions: Sequence[Addition], command: str) -> list[Added]:
    """Add several experiments as `add` does, all of them or, where one cannot be added, none."""
    expanded = [curves(addition.definition) for addition in additions]
    with transaction(connection):
        return [_add(connection, addition, found, command) for addition, found in zip(additions, expanded, strict=True)]


def _add(connection: sqlite3.Connection, addition: Addition, found: list[Curve], command: str) -> Added:
    experiment = same_experiment(connection, addition.name, addition.definition, found)
    total, new = _add_runs(connection, addition.definition, found, command)
    if experiment is None:
        experiment = _add_experiment(connection, addition.name, addition.definition, command)
        _add_curves(connection, experiment, addition.definition.model, found)
        queue.set_priorities(connection, experiment)
    if addition.pause_after is not None:
        queue.set_pause_after(connection, experiment, addition.pause_after)
    located.check(connection, experiment)
    return Added(experiment, addition.name, len(found), total, new)


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
            queue.remove_curves(connection, experiment)  # their names may change when there are more
            _add_curves(connection, experiment, definition.model, found)
            queue.set_priorities(connection, experiment)
            queue.take_out_of_archive(connection, experiment)
        located.check(connection, experiment)
    return Added(experiment, name, len(found), total, new)


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
            f"experiment {name!r} exists with another definition ({'; '.join(differing)}): give this one another ",
            OptionName("name"),
            f", or add to that one with `cockpit queue extend {shlex.quote(name)}`",
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
    located.record(connection, data)  # other parts of it have moved along


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
    rewind = chain.rule.rewind if chain else ticket.rewind if isinstance(ticket, Dense) else None
    return (
        run.to_json(),
        ticket.name,
        ticket.level,
        names[chain.training.dataset] if chain else None,
        chain.training.dataset if chain else None,
        chain.training.optimizer if chain else None,
        chain.rule.scope if chain else None,
        rewind if isinstance(rewind, int) else None,  # the recipe says how many steps
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
