"""What a run yields, written as soon as it is known. Every write carries its claim and is dropped if that is stale."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

from engine.recipes import Prunable
from engine.store import queue, rules
from engine.store.database import now, transaction
from engine.store.leases import Claim, block_dependents, reclaim

LOST_ALLOWED = 5  # worker processes that may end in a run, without an epoch recorded in between


_VALID = "WHERE id = ? AND digest = ? AND claim = ? AND status = 'running'"  # the claim of these is in force


class StaleClaim(Exception):
    """The run was claimed by another worker meanwhile: what this one still has to say is dropped."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one run. Accuracies are fractions in [0, 1]; a loss that is not finite is None.

    `test_top5` is None for fewer than ten classes, and what earlier versions did not record is None, too.
    """

    epoch: int  # 0 is the first
    train_loss: float | None
    train_accuracy: float
    validation_accuracy: float | None
    test_accuracy: float
    learning_rate: float
    images_per_second: float | None  # None where all of it had been trained before a resumption
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
    flops: int | None = None  # that one image takes there, unpruned; None where that is not known


EPOCH = ", ".join(field.name for field in fields(Epoch))
LAYER = ", ".join(field.name for field in fields(Layer))


@dataclass(frozen=True)
class Position:
    """A network on the line between two: where, from 0 to 1, and how it classifies training and test images."""

    position: float
    train_loss: float | None
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float


@contextmanager
def unflushed(connection: sqlite3.Connection) -> Iterator[None]:
    """What is committed meanwhile reaches the disk with the next commit that is flushed: a power cut may take it."""
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL")


@contextmanager
def _fenced(connection: sqlite3.Connection, claim: Claim) -> Iterator[None]:
    """A transaction in which the claim is known to be valid. Raises StaleClaim if it is not."""
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
    """Record that training begins: on what, with which versions, and how many weights each layer has left.

    `flops` are those that one image takes in the whole network, unpruned.

    A run that knows no rule has the layers of the widest; its totals are those of the narrowest by which it is wanted.
    Not flushed to disk: what comes of the attempt is, but for a checkpoint, which is not used where it is unknown.
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
            ((claim.run_id, place, *vars(layer).values()) for place, layer in enumerate(layers)),
        )


def untrained(connection: sqlite3.Connection, claim: Claim, accuracy: float) -> None:
    """Record the test accuracy before the first step: of a ticket, that of its mask over its weights."""
    with unflushed(connection), _fenced(connection, claim):
        _update(connection, claim.run_id, {"untrained_accuracy": accuracy})


def epoch(connection: sqlite3.Connection, claim: Claim, attempt: int, record: Epoch) -> None:
    """Record an epoch in one statement. Raises StaleClaim.

    Not flushed to disk: a power cut may take it, and then a newer checkpoint is not used.
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
    """The epochs that an attempt has recorded so far, in order."""
    rows = connection.execute(
        f"SELECT {EPOCH} FROM epochs WHERE run_id = ? AND attempt = ? ORDER BY epoch",
        (claim.run_id, attempt),
    )
    return [Epoch(*row) for row in rows]


def line(connection: sqlite3.Connection, claim: Claim, along: Iterable[Position]) -> None:
    """Record the networks on a line, in place of those that an earlier attempt recorded."""
    with _fenced(connection, claim):
        connection.execute("DELETE FROM lines WHERE run_id = ?", (claim.run_id,))
        connection.executemany(
            "INSERT INTO lines (run_id, position, train_loss, train_accuracy, test_loss, test_accuracy)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ((claim.run_id, *vars(one).values()) for one in along),
        )


def keeps_final(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Whether a run's final weights are kept: an experiment asks for it, or a line ends there."""
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
    """Record a file that the run left: `rewind` and `final` states, or the `mask` of the next level.

    A run that starts from a mask of level 1 records it for the dense run of its chain, whose digest is `run`: see
    `Chain.mask_of`. That replaces no other than the `lost` one, as another run may have recorded it meanwhile.
    """
    with _fenced(connection, claim):
        if run is not None and file_of(connection, run, kind) != lost:
            return
        connection.execute(
            "INSERT OR REPLACE INTO files (run_id, kind, sha256, bytes) SELECT id, ?, ?, ? FROM runs WHERE digest = ?",
            (kind, sha256, size, run or claim.run.digest),
        )


def file_of(connection: sqlite3.Connection, digest: str, kind: str) -> str | None:
    """The SHA-256 of the file of this kind that the run of this digest left, or None."""
    row = connection.execute(
        "SELECT sha256 FROM files JOIN runs ON runs.id = run_id WHERE digest = ? AND kind = ?", (digest, kind)
    ).fetchone()
    return row[0] if row else None


def prunable_layers(connection: sqlite3.Connection, digest: str, rule: Prunable) -> list[str]:
    """The layers of a run that has been started which a rule prunes, in the order of the network."""
    query = "SELECT name FROM layers_by_rule JOIN runs ON runs.id = run_id WHERE digest = ? AND rule = ? ORDER BY layer"
    return [row[0] for row in connection.execute(query, (digest, rule))]


def location_of(connection: sqlite3.Connection, identity: str) -> str:
    """Where the data set of this identity lies; empty for one that a library brings along."""
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
    """Record the end of a run: its test accuracy, the epoch where that was read, and its peak memory on the device.

    A line's accuracy is the least on it, and of no epoch.
    """
    columns = {"test_accuracy": accuracy, "test_epoch": epoch, "seconds": seconds, "device_memory": device_memory}
    with _fenced(connection, claim):
        _end(connection, claim.run_id, claim.number, "done", **columns)


def diverged(connection: sqlite3.Connection, claim: Claim, epoch: int, seconds: float) -> None:
    """Record that loss or weights were not finite after `epoch`; what stands on the run is blocked."""
    with _fenced(connection, claim):
        error = f"not finite after epoch {epoch}"
        _end(connection, claim.run_id, claim.number, "diverged", diverged_epoch=epoch, seconds=seconds, error=error)


def failed(connection: sqlite3.Connection, claim: Claim, error: str) -> None:
    """Record that a run ended with an error; what stands on it is blocked."""
    with _fenced(connection, claim):
        _end(connection, claim.run_id, claim.number, "failed", error=error)


def out_of_memory(connection: sqlite3.Connection, claim: Claim, error: str) -> bool:
    """Record that a run ran out of memory: the first time it is queued to be trained alone, then it has failed.

    Returns whether it has failed.
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
    """Put a run back whose worker's process has ended; after `LOST_ALLOWED` such ends in a row it has failed.

    Does nothing where the claim is no longer in force: another worker has put the run back meanwhile.
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
    """Whether the run of this digest has ended, so that no worker goes on with it."""
    query = "SELECT 1 FROM runs WHERE digest = ? AND status IN ('done', 'failed', 'diverged')"
    return connection.execute(query, (digest,)).fetchone() is not None


def _end(connection: sqlite3.Connection, run_id: int, number: int, status: str, **columns: object) -> None:
    """A run is over, and with it the attempt that this claim made at it (the trigger `attempt_over`)."""
    _ensure_begun(connection, run_id, number)
    over = {"status": status, "finished_at": now(), "lease_expires_at": None, "alone": 0, "lost": 0}
    _update(connection, run_id, {**over, **columns})
    if status != "done":
        block_dependents(connection)
    if status == "failed":
        queue.pause_failing(connection, run_id)


def _begin(connection: sqlite3.Connection, run_id: int, attempt: int) -> None:
    """The claim in force begins an attempt at a run, or goes on with it where another claim left it."""
    connection.execute(
        "INSERT OR IGNORE INTO attempts (run_id, attempt, claim, worker, started_at)"  # it may be said twice
        " SELECT id, ?, claim, worker, ? FROM runs WHERE id = ?",
        (attempt, now(), run_id),
    )


def _ensure_begun(connection: sqlite3.Connection, run_id: int, number: int) -> None:
    """Record an attempt for this claim if it has none: one that ends before its training begins is an attempt, too."""
    begun = "SELECT 1 FROM attempts WHERE run_id = ? AND claim = ?"
    if connection.execute(begun, (run_id, number)).fetchone() is None:
        again = "UPDATE runs SET attempt = attempt + 1 WHERE id = ? RETURNING attempt"
        _begin(connection, run_id, connection.execute(again, (run_id,)).fetchall()[0][0])


def _update(connection: sqlite3.Connection, run_id: int, columns: Mapping[str, object]) -> None:
    settings = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE runs SET {settings} WHERE id = ?", (*columns.values(), run_id))
