"""What a run yields, written as soon as it is known. Every write carries its claim and is dropped if that is stale."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from engine.store.claims import Claim, block_dependents
from engine.store.database import now, transaction


class StaleClaim(Exception):
    """The run was claimed by another worker meanwhile: what this one still has to say is dropped."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of one run. Accuracies are fractions in [0, 1]; a loss that is not finite is None."""

    epoch: int  # 0 is the first
    train_loss: float | None
    train_accuracy: float
    validation_accuracy: float | None
    test_accuracy: float
    learning_rate: float
    images_per_second: float | None  # None where all of it had been trained before a resumption


@dataclass(frozen=True)
class Layer:
    """How many of a layer's prunable weights the ticket kept."""

    name: str
    weights_remaining: int
    weights_total: int


@contextmanager
def _fenced(connection: sqlite3.Connection, claim: Claim) -> Iterator[None]:
    """A transaction in which the claim is known to be valid. Raises StaleClaim if it is not."""
    with transaction(connection):
        row = connection.execute(
            "SELECT 1 FROM runs WHERE id = ? AND claim = ? AND status = 'running'",
            (claim.run_id, claim.number),
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
) -> None:
    """Record that training begins: on what, with which versions, and how many weights each layer has left."""
    columns = {"attempt": attempt, "started_at": now(), "error": None, **environment}
    columns["weights_total"] = sum(layer.weights_total for layer in layers)
    columns["weights_remaining"] = sum(layer.weights_remaining for layer in layers)
    with _fenced(connection, claim):
        _update(connection, claim, columns)
        connection.executemany(
            "INSERT OR REPLACE INTO layers (run_id, layer, name, weights_remaining, weights_total)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                (claim.run_id, place, layer.name, layer.weights_remaining, layer.weights_total)
                for place, layer in enumerate(layers)
            ),
        )


def epoch(connection: sqlite3.Connection, claim: Claim, attempt: int, record: Epoch) -> None:
    """Record an epoch. Not flushed to disk: a power cut may take it, and then a newer checkpoint is not used."""
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        with _fenced(connection, claim):
            connection.execute(
                "INSERT OR REPLACE INTO epochs (run_id, attempt, epoch, train_loss, train_accuracy,"
                " validation_accuracy, test_accuracy, learning_rate, images_per_second)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (claim.run_id, attempt, *vars(record).values()),
            )
    finally:
        connection.execute("PRAGMA synchronous = FULL")


def epochs(connection: sqlite3.Connection, claim: Claim, attempt: int) -> list[Epoch]:
    """The epochs that an attempt has recorded so far, in order."""
    rows = connection.execute(
        "SELECT epoch, train_loss, train_accuracy, validation_accuracy, test_accuracy, learning_rate,"
        " images_per_second FROM epochs WHERE run_id = ? AND attempt = ? ORDER BY epoch",
        (claim.run_id, attempt),
    )
    return [Epoch(*row) for row in rows]


def file(connection: sqlite3.Connection, claim: Claim, kind: str, sha256: str, size: int) -> None:
    """Record a file that the run left: `rewind` and `final` states, or the `mask` of the next level."""
    with _fenced(connection, claim):
        connection.execute(
            "INSERT OR REPLACE INTO files (run_id, kind, sha256, bytes) VALUES (?, ?, ?, ?)",
            (claim.run_id, kind, sha256, size),
        )


def file_of(connection: sqlite3.Connection, digest: str, kind: str) -> str | None:
    """The SHA-256 of the file of this kind that the run of this digest left, or None."""
    row = connection.execute(
        "SELECT sha256 FROM files JOIN runs ON runs.id = run_id WHERE digest = ? AND kind = ?", (digest, kind)
    ).fetchone()
    return row[0] if row else None


def location_of(connection: sqlite3.Connection, identity: str) -> str:
    """Where the data set of this identity lies; empty for one that a library brings along."""
    row = connection.execute("SELECT location FROM datasets WHERE identity = ?", (identity,)).fetchone()
    return str(row[0])


def done(connection: sqlite3.Connection, claim: Claim, accuracy: float, epoch: int, seconds: float) -> None:
    """Record the end of a run: its test accuracy and the epoch where that was read."""
    _end(
        connection,
        claim,
        {"status": "done", "test_accuracy": accuracy, "test_epoch": epoch, "seconds": seconds},
    )


def diverged(connection: sqlite3.Connection, claim: Claim, epoch: int, seconds: float) -> None:
    """Record that loss or weights were not finite after `epoch`; what stands on the run is blocked."""
    error = f"not finite after epoch {epoch}"
    _end(connection, claim, {"status": "diverged", "diverged_epoch": epoch, "seconds": seconds, "error": error})


def failed(connection: sqlite3.Connection, claim: Claim, error: str) -> None:
    """Record that a run ended with an error; what stands on it is blocked."""
    _end(connection, claim, {"status": "failed", "error": error})


def _end(connection: sqlite3.Connection, claim: Claim, columns: dict[str, object]) -> None:
    with _fenced(connection, claim):
        _update(connection, claim, {**columns, "finished_at": now(), "lease_expires_at": None})
        if columns["status"] != "done":
            block_dependents(connection)


def _update(connection: sqlite3.Connection, claim: Claim, columns: Mapping[str, object]) -> None:
    settings = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE runs SET {settings} WHERE id = ?", (*columns.values(), claim.run_id))
