"""A type for each kind of row that the store reads; reading a row checks it."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec

# The status of a run in the database. `rows.runs` also says "paused" and "cancelled", for waiting runs.
RunStatus = Literal["waiting", "running", "done", "failed", "diverged", "blocked"]
RUN_STATUSES: tuple[str, ...] = get_args(RunStatus)


class Row(msgspec.Struct, frozen=True):
    """The base of all row types."""

    def as_json(self) -> dict[str, Any]:
        """The row as `--json` prints it: the fields in order."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


Kind = TypeVar("Kind", bound=Row)


def typed(kind: type[Kind], row: sqlite3.Row | Mapping[str, object]) -> Kind:
    """The row as its type, which may ignore columns. Raises ValidationError for values of other types (`damage`)."""
    return msgspec.convert(dict(row), kind)


class Experiment(Row, frozen=True):
    """An experiment: the number of its runs by status, the status derived from these, and what it waits for."""

    id: int
    name: str
    state: str  # active, paused, cancelled; `status` says what happens
    reason: str | None  # why cockpit paused it; None if the user did
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
    halted: int  # waiting runs that only paused or cancelled experiments have
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    status: str
    waits_for: str
    why: str  # the error of one failed or diverged run, in one line


class CurveFacts(Row, frozen=True):
    """The facts of a curve, with or without results. `plan`: fractions of weights left at the planned levels."""

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
    """A winning ticket of a chain; `digest` is of the run that trains it, `here` whether its files exist."""

    name: str
    level: int
    replicate: int
    digest: str
    weights_remaining: int
    weights_total: int
    here: bool


class Curve(Row, frozen=True):
    """A curve of an experiment: the number of its runs by status, and what it waits for."""

    name: str
    runs: int
    done: int
    running: int
    ready: int
    needing: int
    blocked: int
    waits_for: str


class Failure(Row, frozen=True):
    """A run that failed or diverged, with its error."""

    digest: str
    ticket: str
    level: int
    seed: int
    target: str
    target_title: str | None  # its display name
    status: str
    error: str | None


class Detail(Experiment, frozen=True):
    """An experiment with its definition, the command that queued it, its curves, and the errors of its runs."""

    command: str | None
    definition: dict[str, Any]  # the stored JSON; `queue.definition_of` reads it
    by_curve: tuple[Curve, ...]
    errors: tuple[Failure, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as for an experiment of a list, but with the curves in place of their number."""
        fields = super().as_json()
        return {**fields, "curves": fields.pop("by_curve")}


class Run(Row, frozen=True):
    """A run of an experiment: its identity, its status, and what it waits for or is blocked by."""

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
    source_optimizer: str | None  # of the chain that its ticket comes from
    learning_rate: float
    scope: str | None
    rate: float | str | None  # of pruning; None: the default
    source_title: str | None  # display names of its data sets
    target_title: str | None
    status: str
    attempt: int
    untrained_accuracy: float | None  # on test images, before the first step
    test_accuracy: float | None
    flops_remaining: float | None  # a fraction of the unpruned network's
    seconds: float | None
    error: str | None
    device: str | None  # of its worker
    host: str | None
    waits_for: str


class Attempt(Row, frozen=True):
    """A claim of a run: its worker, its start and end, its outcome, and the error with its traceback."""

    attempt: int
    claim: int
    started_at: str | None
    ended_at: str | None
    outcome: str | None  # None: the claim is in force
    error: str | None
    device: str | None
    device_name: str | None
    host: str | None
    pid: int | None


class Epoch(Row, frozen=True):
    """An epoch of a run: losses and accuracies are means over images, the learning rate is of the last step."""

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
    """A file that a run left. `kind`: rewind, final, mask or ticket; `sha256` names it."""

    kind: str
    sha256: str
    bytes: int


class Running(Row, frozen=True):
    """A running run, and the last epoch that it recorded."""

    id: int
    ticket: str
    level: int
    seed: int
    source: str | None
    target: str
    source_title: str | None  # display names of its data sets
    target_title: str | None
    epochs: int
    device: str
    host: str | None
    epoch: int | None
    images_per_second: float | None


class Event(Row, frozen=True):
    """An event of a run; `history.events` lists the kinds."""

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
    source_title: str | None
    target_title: str | None
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
    """A running run, its claim, and the process of its worker; `expired`: 1 if the lease has expired."""

    run_id: int
    claim: int
    pid: int | None
    process_started: float | None
    host: str | None
    boot: str | None
    pid_namespace: str | None
    expired: int


class Worker(Row, frozen=True):
    """A worker: its process, its last report, and its run, if any."""

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
    source_title: str | None
    target_title: str | None
    epochs: int | None
    batch_size: int | None
    attempt: int | None
    state: str  # training, idle, held up, silent, dead


class Load(Row, frozen=True):
    """The newest sample of the load of a host (device `cpu`) or a card. `busy` is a fraction, memory is in bytes."""

    host: str
    device: str
    at: str
    busy: float
    memory_used: int
    memory_total: int
    celsius: float | None
    watts: float | None


class LoadHistory(Load, frozen=True):
    """The same with the last hour, in equal parts."""

    history: dict[str, tuple[float | None, ...]]  # measure -> mean of each part, oldest first; None: no sample


class DataSetFile(Row, frozen=True):
    """A data set that was read from the user's files."""

    name: str
    identity: str
    location: str
