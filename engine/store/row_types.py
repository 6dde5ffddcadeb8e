"""A type for each kind of row that the store reads: checked at its edge, used as attributes everywhere else."""

import sqlite3
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec


class Row(msgspec.Struct, frozen=True):
    """What all rows have in common."""

    def as_json(self) -> dict[str, Any]:
        """The row as `--json` prints it: the fields in their order."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


Kind = TypeVar("Kind", bound=Row)


def typed(kind: type[Kind], row: sqlite3.Row | Mapping[str, object]) -> Kind:
    """A row as its type, which may leave columns out. Raises ValidationError for other values: see `damage`."""
    return msgspec.convert(dict(row), kind)


class Experiment(Row, frozen=True):
    """An experiment: how many of its runs have each status, the status that follows, and what it waits for."""

    id: int
    name: str
    state: str  # active, paused, cancelled: what a person wants
    reason: str | None  # why it was paused by itself
    priority: int
    pause_after: int
    created_at: str
    notes: str | None
    tags: tuple[str, ...]
    archived: bool
    curves: int
    runs: int
    waiting: int
    running: int
    done: int
    failed: int
    diverged: int
    blocked: int
    halted: int  # would wait, but only paused or cancelled experiments want them
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    status: str
    waits_for: str
    why: str  # the error of one of the runs that failed or diverged, in a line


class CurveFacts(Row, frozen=True):
    """What a curve is, whether it has results or not. `plan`: the fractions of weights left at the planned levels."""

    source: str | None
    target: str
    model: str
    width: float
    source_optimizer: str | None
    optimizer: str
    scope: str | None
    ticket: str
    title: str | None
    is_hidden: bool
    plan: tuple[float, ...]


class ChainTicket(Row, frozen=True):
    """A winning ticket of a chain, the digest of the run that trains it, and whether its files are `here`."""

    name: str
    level: int
    replicate: int
    digest: str
    weights_remaining: int
    weights_total: int
    here: bool


class Curve(Row, frozen=True):
    """A curve of an experiment: how many of its runs are done, and what it waits for."""

    name: str
    runs: int
    done: int
    running: int
    ready: int
    needing: int
    blocked: int
    waits_for: str


class Failure(Row, frozen=True):
    """A run that failed or diverged, and why."""

    digest: str
    ticket: str
    level: int
    seed: int
    target: str
    status: str
    error: str | None


class Detail(Experiment, frozen=True):
    """An experiment with its definition, the command that queued it, its curves, and what went wrong."""

    command: str | None
    definition: dict[str, Any]  # the stored JSON; `queue.definition_of` reads it
    by_curve: tuple[Curve, ...]
    errors: tuple[Failure, ...]

    def as_json(self) -> dict[str, Any]:
        """The curves themselves stand where an experiment in a list has their number."""
        found = super().as_json()
        return {**found, "curves": found.pop("by_curve")}


class Run(Row, frozen=True):
    """A run of an experiment: which it is, its status, and what it waits for or is blocked by."""

    id: int
    digest: str
    ticket: str
    level: int
    seed: int
    source: str | None
    target: str
    model: str
    width: float
    optimizer: str
    source_optimizer: str | None  # that found its ticket, where another
    learning_rate: float
    scope: str | None
    rate: float | str | None  # of pruning
    status: str
    attempt: int
    untrained_accuracy: float | None  # before the first step
    test_accuracy: float | None
    flops_remaining: float | None  # a fraction
    seconds: float | None
    error: str | None
    device: str | None  # that its worker trains it on
    host: str | None
    waits_for: str


class Attempt(Row, frozen=True):
    """A claim of a run: who trained it from when to when, how that ended, and the error with its traceback."""

    attempt: int
    claim: int
    started_at: str | None
    ended_at: str | None
    outcome: str | None  # None: under way
    error: str | None
    device: str | None
    device_name: str | None
    host: str | None
    pid: int | None


class Epoch(Row, frozen=True):
    """An epoch of a run; losses and accuracies are means over images, the learning rate is that of its last step."""

    epoch: int
    train_loss: float | None
    train_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float | None
    learning_rate: float | None
    images_per_second: float | None
    validation_loss: float | None
    test_loss: float | None
    test_top5: float | None  # accuracy; None for fewer than ten classes


class File(Row, frozen=True):
    """A file that a run left: what it holds, the SHA-256 by which it is called, and its size."""

    kind: str
    sha256: str
    bytes: int


class Running(Row, frozen=True):
    """A run under way, and the last epoch that it recorded."""

    id: int
    ticket: str
    level: int
    seed: int
    source: str | None
    target: str
    epochs: int
    device: str
    host: str | None
    epoch: int | None
    images_per_second: float | None


class Event(Row, frozen=True):
    """Something that happened to a run: `history.events` says what there is."""

    at: str
    event: str
    run_id: int
    digest: str
    ticket: str
    level: int
    seed: int
    source: str | None
    target: str
    model: str
    width: float
    optimizer: str
    source_optimizer: str | None
    learning_rate: float
    scope: str | None
    rate: float | str | None
    attempt: int
    claim: int
    device: str | None
    device_name: str | None
    host: str | None
    pid: int | None
    test_accuracy: float | None
    error: str | None


class Point(Row, frozen=True):
    """A level of a curve that has results: a row of the view `curves`."""

    experiment: str
    curve: str
    source: str | None
    target: str
    model: str
    source_optimizer: str | None
    optimizer: str
    scope: str | None
    ticket: str
    level: int
    fraction_pruned: float
    n: int
    replicates: int
    mean: float
    std: float | None


class Pool(Row, frozen=True):
    """A process that starts workers."""

    id: int
    pid: int
    process_started: float | None
    host: str
    log: str | None
    started_at: str
    ended_at: str | None
    boot: str | None
    pid_namespace: str | None


class Holder(Row, frozen=True):
    """A running run, its claim, and the process of its worker; `expired` says that the lease has run out."""

    run_id: int
    claim: int
    pid: int | None
    process_started: float | None
    host: str | None
    boot: str | None
    pid_namespace: str | None
    expired: int


class Worker(Row, frozen=True):
    """A worker: what it is, what it does, and the run that it trains, if any."""

    id: int
    pid: int
    process_started: float | None
    host: str
    boot: str | None
    pid_namespace: str | None
    device: str
    device_name: str | None  # the model of its card or CPU
    pool: int | None
    log: str | None
    started_at: str
    heartbeat_at: str
    message: str | None
    memory: int | None
    device_memory: int | None
    images_per_second: float | None
    epoch: int | None
    batch: int | None
    batches: int | None
    loss: float | None
    accuracy: float | None
    checkpoint_seconds: float | None
    silent: int | None
    run_id: int | None
    digest: str | None
    ticket: str | None
    level: int | None
    seed: int | None
    source: str | None
    target: str | None
    model: str | None
    width: float | None
    optimizer: str | None
    source_optimizer: str | None
    learning_rate: float | None
    scope: str | None
    rate: float | str | None
    epochs: int | None
    batch_size: int | None
    attempt: int | None
    state: str  # training, idle, held up, silent, dead


class Load(Row, frozen=True):
    """The newest sample of how busy a host or a card is."""

    host: str
    device: str
    at: str
    busy: float
    memory_used: int
    memory_total: int
    celsius: float | None
    watts: float | None


class LoadHistory(Load, frozen=True):
    """The same with the last hour in equal parts: the mean of each, oldest first; None where nothing was measured."""

    history: dict[str, tuple[float | None, ...]]


class DataSetFile(Row, frozen=True):
    """A data set that was read from a person's own files."""

    name: str
    identity: str
    location: str
