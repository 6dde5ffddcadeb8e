"""The records of a run, each written at once, under the run's claim. A write under a stale claim is dropped."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

from engine.recipes import Prunable
from engine.store import queue, rules
from engine.store.database import now, transaction
from engine.store.leases import Claim, block_dependents, reclaim

LOST_ALLOWED = 5  # workers that die in a run, without an epoch recorded in between, before the run has failed


_VALID = "WHERE id = ? AND digest = ? AND claim = ? AND status = 'running'"  # the claim is in force


class StaleClaim(Exception):
    """The run was taken from this worker, whose further records are dropped."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one run. Accuracies are fractions in [0, 1].

    None: a loss that is not finite, `test_top5` for fewer than ten classes, and values that an earlier version did not
    record.
    """

    epoch: int  # 0 is the first
    train_loss: float | None
    train_accuracy: float
    validation_accuracy: float | None
    test_accuracy: float
    learning_rate: float
    images_per_second: float | None  # None if no image was left to train after a resumption
    validation_loss: float | None = None
    test_loss: float | None = None
    test_top5: float | None = None


@dataclass(frozen=True)
class Layer:
    """How many of a layer's prunable weights the ticket kept, and the narrowest rule that prunes them."""

    name: str
    weights_remaining: int
    weights_total: int
    prunable: Prunable = "conv"
    flops: int | None = None  # of one image in these weights, unpruned; None if unknown


EPOCH = ", ".join(field.name for field in fields(Epoch))
LAYER = ", ".join(field.name for field in fields(Layer))


@dataclass(frozen=True)
class Position:
    """A network on the line between two trained ones, with its losses and accuracies (fractions in [0, 1])."""

    position: float  # 0: the first network, 1: the second
    train_loss: float | None
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float


@contextmanager
def unflushed(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit without waiting for the disk. A power cut may lose such a commit, until a later one is flushed."""
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL")


@contextmanager
def _fenced(connection: sqlite3.Connection, claim: Claim) -> Iterator[None]:
    """A transaction in which the claim is in force. Raises StaleClaim if it is not."""
    with transaction(connection):
        row = connection.execute(
            f"SELECT 1 FROM runs {_VALID}", (claim.run_id, claim.run.digest, claim.number)
        ).fetchone()
        if row is None:
            raise StaleClaim(claim.run.digest)
        yield


def start(
    connection: sqlite3.Connection,
    claim: Claim,
    attempt: int,
    environment: Mapping[str, object],
    layers: list[Layer],
    flops: int | None = None,
) -> None:
    """Record that training begins: its environment (columns of `runs`) and the weights of each layer.

    `flops` are of one image in the whole network, unpruned. Raises StaleClaim.

    A run without a pruning rule records the layers of the widest rule; its totals are of the narrowest rule of its
    experiments. The record is not flushed to disk: the end of the attempt is, and a checkpoint of an attempt that a
    power cut erased is ignored.
    """
    columns = {"attempt": attempt, "started_at": now(), "error": None, "flops": flops, **environment}
    with unflushed(connection), _fenced(connection, claim):
        rule = rules.narrowest(connection, claim.run_id) if claim.run.knows_no_rule else rules.RULES[-1]
        counted = [layer for layer in layers if rules.is_within(layer.prunable, rule)]
        columns["weights_total"] = sum(layer.weights_total for layer in counted)
        columns["weights_remaining"] = sum(layer.weights_remaining for layer in counted)
        _update(connection, claim.run_id, columns)
        _begin(connection, claim.run_id, attempt)
        connection.executemany(
            f"INSERT OR REPLACE INTO layers (run_id, layer, {LAYER}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((claim.run_id, number, *vars(layer).values()) for number, layer in enumerate(layers)),
        )


def untrained(connection: sqlite3.Connection, claim: Claim, accuracy: float) -> None:
    """Record the test accuracy, a fraction, of the masked weights before the first step. Raises StaleClaim."""
    with unflushed(connection), _fenced(connection, claim):
        _update(connection, claim.run_id, {"untrained_accuracy": accuracy})


def epoch(connection: sqlite3.Connection, claim: Claim, attempt: int, record: Epoch) -> None:
    """Record an epoch in one statement. Raises StaleClaim.

    Not flushed to disk: if a power cut loses it, a checkpoint of a later epoch is ignored.
    """
    with unflushed(connection):
        recorded = connection.execute(
            f"INSERT OR REPLACE INTO epochs (run_id, attempt, {EPOCH})"
            f" SELECT id, ?, {', '.join('?' * len(vars(record)))} FROM runs {_VALID}",
            (attempt, *vars(record).values(), claim.run_id, claim.run.digest, claim.number),
        )
        if recorded.rowcount != 1:
            raise StaleClaim(claim.run.digest)
        if claim.lost:
            connection.execute(f"UPDATE runs SET lost = 0 {_VALID}", (claim.run_id, claim.run.digest, claim.number))


def epochs(connection: sqlite3.Connection, claim: Claim, attempt: int) -> list[Epoch]:
    """The epochs that an attempt has recorded, in order."""
    rows = connection.execute(
        f"SELECT {EPOCH} FROM epochs WHERE run_id = ? AND attempt = ? ORDER BY epoch",
        (claim.run_id, attempt),
    )
    return [Epoch(*row) for row in rows]


def line(connection: sqlite3.Connection, claim: Claim, along: Iterable[Position]) -> None:
    """Record the networks on a line, in place of those of an earlier attempt. Raises StaleClaim."""
    with _fenced(connection, claim):
        connection.execute("DELETE FROM lines WHERE run_id = ?", (claim.run_id,))
        connection.executemany(
            "INSERT INTO lines (run_id, position, train_loss, train_accuracy, test_loss, test_accuracy)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ((claim.run_id, *vars(one).values()) for one in along),
        )


def keeps_final(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Whether to keep a run's final weights: an experiment asks for them, or a line ends at them."""
    asked = """
        SELECT 1 FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
        JOIN experiments e ON e.id = c.experiment_id
        WHERE p.run_id = :run AND json_extract(e.definition, '$.keep') = 'final'
        UNION ALL SELECT 1 FROM run_needs n JOIN runs r ON r.id = n.run_id WHERE n.needs_id = :run AND r.ticket = 'line'
    """
    return connection.execute(asked, {"run": claim.run_id}).fetchone() is not None


def file(
    connection: sqlite3.Connection,
    claim: Claim,
    kind: str,
    sha256: str,
    size: int,
    run: str | None = None,
    lost: str | None = None,
) -> None:
    """Record a file of the run: a `rewind` or `final` state, or the `mask` of the next level. Raises StaleClaim.

    A run that starts from a mask of level 1 records that mask for the dense run of its chain, whose digest is `run`
    (`Chain.mask_of`). It replaces only the file `lost` (a SHA-256), because another run may have recorded the mask.
    """
    with _fenced(connection, claim):
        if run is not None and file_of(connection, run, kind) != lost:
            return
        connection.execute(
            "INSERT OR REPLACE INTO files (run_id, kind, sha256, bytes) SELECT id, ?, ?, ? FROM runs WHERE digest = ?",
            (kind, sha256, size, run or claim.run.digest),
        )


def file_of(connection: sqlite3.Connection, digest: str, kind: str) -> str | None:
    """The SHA-256 of the file of this kind that the run of this digest left; None if it left none."""
    row = connection.execute(
        "SELECT sha256 FROM files JOIN runs ON runs.id = run_id WHERE digest = ? AND kind = ?", (digest, kind)
    ).fetchone()
    return row[0] if row else None


def prunable_layers(connection: sqlite3.Connection, digest: str, rule: Prunable) -> list[str]:
    """The layers of a started run that a rule prunes, in the order of the network."""
    query = "SELECT name FROM layers_by_rule JOIN runs ON runs.id = run_id WHERE digest = ? AND rule = ? ORDER BY layer"
    return [row[0] for row in connection.execute(query, (digest, rule))]


def location_of(connection: sqlite3.Connection, identity: str) -> str:
    """The path of the data set of this identity; empty for one that is part of a library."""
    row = connection.execute("SELECT location FROM datasets WHERE identity = ?", (identity,)).fetchone()
    return str(row[0])


def done(
    connection: sqlite3.Connection,
    claim: Claim,
    accuracy: float,
    epoch: int | None,
    seconds: float,
    device_memory: int | None = None,
) -> None:
    """Record that a run is done. Raises StaleClaim.

    `accuracy` is the test accuracy, a fraction, measured at `epoch`; of a line, the least on it (`epoch` None).
    `seconds` is the time of training, summed over resumptions; `device_memory` is the peak in bytes.
    """
    columns = {"test_accuracy": accuracy, "test_epoch": epoch, "seconds": seconds, "device_memory": device_memory}
    with _fenced(connection, claim):
        _end(connection, claim.run_id, claim.number, "done", **columns)


def diverged(connection: sqlite3.Connection, claim: Claim, epoch: int, seconds: float) -> None:
    """Record that loss or weights were not finite after `epoch`, and block the runs that depend on it."""
    with _fenced(connection, claim):
        error = f"not finite after epoch {epoch}"
        _end(connection, claim.run_id, claim.number, "diverged", diverged_epoch=epoch, seconds=seconds, error=error)


def failed(connection: sqlite3.Connection, claim: Claim, error: str) -> None:
    """Record that a run ended with an error, and block the runs that depend on it."""
    with _fenced(connection, claim):
        _end(connection, claim.run_id, claim.number, "failed", error=error)


def out_of_memory(connection: sqlite3.Connection, claim: Claim, error: str) -> bool:
    """Record that a run ran out of memory; returns whether it has failed.

    The first time, the run returns to the queue and will train alone on a device. The second time it has failed.
    """
    with _fenced(connection, claim):
        if connection.execute("SELECT alone FROM runs WHERE id = ?", (claim.run_id,)).fetchone()[0]:
            _end(connection, claim.run_id, claim.number, "failed", error=error)
            return True
        _ensure_begun(connection, claim.run_id, claim.number)
        again = {"status": "waiting", "alone": 1, "worker": None, "lease_expires_at": None, "error": error}
        _update(connection, claim.run_id, again)
        return False


def lost(connection: sqlite3.Connection, run_id: int, number: int) -> None:
    """Return a run whose worker has died to the queue; after `LOST_ALLOWED` deaths in a row it has failed.

    Does nothing if the claim `number` is no longer in force, because another worker did this first.
    """
    query = """
        SELECT r.lost, w.log FROM runs r JOIN workers w ON w.id = r.worker
        WHERE r.id = ? AND r.claim = ? AND r.status = 'running'
    """
    with transaction(connection):
        held = connection.execute(query, (run_id, number)).fetchone()
        if held is None:
            return
        if held["lost"] + 1 < LOST_ALLOWED:
            reclaim(connection, run_id, number, lost=True)
        else:
            error = (
                f"{LOST_ALLOWED} times in a row the worker's process ended in this run: it was killed, perhaps for lack"
                f" of memory, or crashed in a library; its output is in {held['log'] or 'no file'}"
            )
            _end(connection, run_id, number, "failed", error=error)


def is_over(connection: sqlite3.Connection, digest: str) -> bool:
    """Whether the run of this digest is done, failed or diverged."""
    query = "SELECT 1 FROM runs WHERE digest = ? AND status IN ('done', 'failed', 'diverged')"
    return connection.execute(query, (digest,)).fetchone() is not None


def _end(connection: sqlite3.Connection, run_id: int, number: int, status: str, **columns: object) -> None:
    """End a run; the trigger `attempt_over` ends the attempt of its claim."""
    _ensure_begun(connection, run_id, number)
    over = {"status": status, "finished_at": now(), "lease_expires_at": None, "alone": 0, "lost": 0}
    _update(connection, run_id, {**over, **columns})
    if status != "done":
        block_dependents(connection)
    if status == "failed":
        queue.pause_failing(connection, run_id)


def _begin(connection: sqlite3.Connection, run_id: int, attempt: int) -> None:
    """Record that the claim in force starts an attempt, or resumes the attempt of an earlier claim."""
    connection.execute(
        "INSERT OR IGNORE INTO attempts (run_id, attempt, claim, worker, started_at)"  # a worker may repeat it
        " SELECT id, ?, claim, worker, ? FROM runs WHERE id = ?",
        (attempt, now(), run_id),
    )


def _ensure_begun(connection: sqlite3.Connection, run_id: int, number: int) -> None:
    """Record an attempt for this claim if it has none: a run may fail before its training begins."""
    begun = "SELECT 1 FROM attempts WHERE run_id = ? AND claim = ?"
    if connection.execute(begun, (run_id, number)).fetchone() is None:
        again = "UPDATE runs SET attempt = attempt + 1 WHERE id = ? RETURNING attempt"
        _begin(connection, run_id, connection.execute(again, (run_id,)).fetchall()[0][0])


def _update(connection: sqlite3.Connection, run_id: int, columns: Mapping[str, object]) -> None:
    settings = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE runs SET {settings} WHERE id = ?", (*columns.values(), run_id))
