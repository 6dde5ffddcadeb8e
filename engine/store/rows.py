"""Reading the database: rows for export, lists, and the state of the queue."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec
from msgspec import structs

from engine.errors import InputError, OptionName, chosen
from engine.store.leases import NAMING, OF_EXPERIMENT, SPLIT, TITLE, WANTED
from engine.store.row_types import (
    RUN_STATUSES,
    Curve,
    DataSetFile,
    Detail,
    Experiment,
    Failure,
    Point,
    Run,
    Running,
    typed,
)

EXPORTS = {
    "curves": """
        SELECT experiment, curve, source, target, model, source_optimizer, optimizer, scope, ticket, level,
               fraction_pruned, n, replicates, mean, std,
               title_of(experiment, source) AS source_title, title_of(experiment, target) AS target_title
        FROM curves WHERE :experiment IS NULL OR experiment = :experiment
    """,
    "runs": """
        SELECT e.name AS experiment, c.name AS curve, c.source, c.target, c.model, c.source_optimizer, c.optimizer,
               c.scope, c.ticket, p.level, 1.0 - r.weights_remaining * 1.0 / r.weights_total AS fraction_pruned,
               iif(p.level, r.weights_remaining, {unpruned}) AS weights_remaining,
               iif(p.level, r.weights_total, {unpruned}) AS weights_total,
               p.replicate, r.seed, r.profile, r.status, r.attempt,
               r.untrained_accuracy, r.test_accuracy, r.test_epoch, {least} AS least_validation_loss_epoch,
               r.flops, {flops} AS flops_remaining, r.diverged_epoch, r.error, r.digest, r.device, r.seconds,
               title_of(e.name, c.source) AS source_title, title_of(e.name, c.target) AS target_title
        FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id
        JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id
        WHERE :experiment IS NULL OR e.name = :experiment
        ORDER BY e.id, c.id, p.level, p.replicate
    """,
    "epochs": """
        SELECT r.digest, x.attempt, x.epoch, x.train_loss, x.train_accuracy, x.validation_accuracy, x.test_accuracy,
               x.learning_rate, x.images_per_second, x.validation_loss, x.test_loss, x.test_top5
        FROM epochs x JOIN runs r ON r.id = x.run_id
        WHERE (:experiment IS NULL OR r.id IN ({wanted})) AND (:all_attempts OR x.attempt = r.attempt)
        ORDER BY x.run_id, x.attempt, x.epoch
    """,
    "lines": """
        SELECT e.name AS experiment, c.name AS curve, p.level,
               1.0 - r.weights_remaining * 1.0 / r.weights_total AS fraction_pruned, p.replicate, r.seed, l.position,
               l.train_loss, l.train_accuracy, l.test_loss, l.test_accuracy
        FROM lines l JOIN runs r ON r.id = l.run_id AND r.status = 'done' JOIN curve_points p ON p.run_id = r.id
        JOIN experiment_curves c ON c.id = p.curve_id JOIN experiments e ON e.id = c.experiment_id
        WHERE :experiment IS NULL OR e.name = :experiment
        ORDER BY e.id, c.id, p.level, p.replicate, l.position
    """,
    "layers": """
        SELECT r.digest, r.level, l.layer, l.name, l.weights_remaining, l.weights_total, l.flops,
               l.flops / l.weights_total * l.weights_remaining AS flops_remaining
        FROM layers_by_rule l JOIN runs r ON r.id = l.run_id JOIN ({rules}) w ON w.run_id = r.id AND w.rule = l.rule
        GROUP BY l.run_id, l.layer
        ORDER BY l.run_id, l.layer
    """,
}
TABLES = (*EXPORTS, "statistics")  # that can be exported; `engine.analysis.reports` computes the last one
UNPRUNED = f"(SELECT sum(l.weights_total) FROM layers_by_rule l WHERE l.run_id = r.id AND l.rule = {OF_EXPERIMENT})"
# The epoch of least validation loss: the early-stopping iteration of Frankle and Carbin (2019).
LEAST = """(SELECT x.epoch FROM epochs x
 WHERE x.run_id = r.id AND x.attempt = r.attempt AND x.validation_loss IS NOT NULL
 ORDER BY x.validation_loss, x.epoch LIMIT 1)"""
# FLOPs of one image in the pruned network; NULL if those of a layer are unknown.
FLOPS = """(SELECT CASE WHEN count(*) = count(l.flops)
 THEN r.flops - sum(l.flops / l.weights_total * (l.weights_total - l.weights_remaining)) END
 FROM layers l WHERE l.run_id = r.id)"""
RULES = f"""
    SELECT p.run_id, {OF_EXPERIMENT} AS rule FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
    JOIN experiments e ON e.id = c.experiment_id WHERE :experiment IS NULL OR e.name = :experiment
    UNION SELECT id, 'conv+linear' FROM runs WHERE :experiment IS NULL AND id NOT IN (SELECT run_id FROM curve_points)
"""
NAMED = """
    SELECT p.run_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
    JOIN experiments e ON e.id = c.experiment_id WHERE e.name = :experiment
"""


def asked(connection: sqlite3.Connection, table: str, experiment: str | None, all_attempts: bool) -> str:
    """The name in `TABLES` that the user asked for.

    Raises InputError for another name, an unknown experiment, and `all_attempts` with another table than epochs.
    """
    if experiment is not None:
        from engine.store import queue  # imported here, as it imports the recipes

        queue.experiment_id(connection, experiment)
    name = chosen("table", table, TABLES)
    if all_attempts and name != "epochs":
        why = f" goes with the table epochs, not {name}: the other tables have one row a run"
        raise InputError(OptionName("all_attempts"), why)
    return name


def export(
    connection: sqlite3.Connection, table: str, experiment: str | None = None, *, all_attempts: bool = False
) -> tuple[list[str], Iterator[tuple[object, ...]]]:
    """The column names and a stream of the rows of one of the tables in `EXPORTS`.

    Epochs are of each run's last attempt, to which its accuracy belongs, or with `all_attempts` of all.
    """
    by_names = _titles(connection)
    connection.create_function("title_of", 2, lambda *names: by_names.get(names), deterministic=True)
    cursor = connection.cursor()
    cursor.row_factory = None
    values = {"experiment": experiment, "all_attempts": all_attempts}
    cursor.execute(
        EXPORTS[table].format(wanted=NAMED, rules=RULES, unpruned=UNPRUNED, least=LEAST, flops=FLOPS), values
    )
    return [column[0] for column in cursor.description], cursor


def _titles(connection: sqlite3.Connection) -> Mapping[tuple[str, str], str]:
    """The display names of data sets, by experiment and the experiment's name for the set."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM data_titles)").fetchone()[0]:
        return {}
    from engine.store import titles  # imported here, as that takes longer than most exports

    return titles.of_all_data(connection)


def curves(connection: sqlite3.Connection, experiment: str) -> list[Point]:
    """The rows of the view `curves` for one experiment, in order of curve and level."""
    rows = connection.execute("SELECT * FROM curves WHERE experiment = ?", (experiment,))
    return [typed(Point, row) for row in rows]


def experiments(connection: sqlite3.Connection, only: int | None = None) -> list[Experiment]:
    """All experiments, or `only` one: the number of runs in each status, and the status derived from those."""
    counts = ", ".join(
        f"count(DISTINCT CASE WHEN r.status = '{status}' THEN r.id END) AS {status}" for status in RUN_STATUSES
    )
    rows = connection.execute(
        f"""
        SELECT e.id, e.name, e.state, e.reason, e.priority, e.pause_after, e.created_at, e.notes, e.tags, e.archived,
               e.definition,
               count(DISTINCT c.id) AS curves, count(DISTINCT r.id) AS runs, {counts},
               count(DISTINCT CASE WHEN r.status = 'waiting' AND r.priority IS NULL THEN r.id END) AS halted,
               max(r.status = 'waiting' AND r.unmet = 0) AS ready,
               min(CASE WHEN r.status IN ('failed', 'diverged') THEN r.error END) AS error
        FROM experiments e LEFT JOIN experiment_curves c ON c.experiment_id = e.id
        LEFT JOIN curve_points p ON p.curve_id = c.id LEFT JOIN runs r ON r.id = p.run_id
        WHERE :only IS NULL OR e.id = :only GROUP BY e.id ORDER BY e.id
        """,
        {"only": only},
    )
    return [typed(Experiment, _experiment(row)) for row in rows]


def _experiment(row: sqlite3.Row) -> dict[str, object]:
    """The fields of an experiment: its columns, and those derived from them."""
    status = _state(row)
    waits_for = "" if status != "waiting" else "a device" if row["ready"] else "its source chain"
    if status in ("paused", "cancelled"):
        waits_for = f"resume ({row['reason']})" if row["reason"] else "resume"
    return {
        **dict(row),
        "tags": json.loads(row["tags"] or "[]"),
        "archived": bool(row["archived"]),
        **_data_sets(row["definition"]),
        "waiting": row["waiting"] - row["halted"],
        "status": status,
        "waits_for": waits_for,
        "why": last_line(row["error"]),
    }


def last_line(error: str | None) -> str:
    """The last line of an error, which is its message without the traceback."""
    return (error or "").strip().rpartition("\n")[2]


@lru_cache(maxsize=10_000)
def _data_sets(definition: str) -> dict[str, list[str]]:
    """The names of the data sets in a definition, by "sources" and "targets"."""
    content = json.loads(definition)
    return {key: [data["name"] for data in content[key]] for key in ("sources", "targets")}


def experiment(connection: sqlite3.Connection, experiment: int) -> Detail:
    """One experiment with its definition, the command that queued it, its curves, and the errors of its runs.

    An unfinished curve says what it waits for: a device, an experiment that is not active, or its source chain.
    Raises InputError if no experiment has this id.
    """
    listed = experiments(connection, experiment)
    texts = connection.execute("SELECT definition, command FROM experiments WHERE id = ?", (experiment,)).fetchone()
    if not listed or texts is None:
        raise InputError("the experiment has been removed meanwhile")
    (about,), (definition, command) = listed, texts
    curves = connection.execute(
        """
        SELECT c.name, count(*) AS runs, sum(r.status = 'done') AS done, sum(r.status = 'running') AS running,
               sum(r.status = 'waiting' AND r.unmet = 0) AS ready, sum(r.status = 'waiting' AND r.unmet > 0) AS needing,
               sum(r.status = 'blocked') AS blocked
        FROM experiment_curves c JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id
        WHERE c.experiment_id = ? GROUP BY c.id ORDER BY c.id
        """,
        (experiment,),
    )
    return Detail(
        **structs.asdict(about),
        command=command,
        definition=json.loads(definition),
        by_curve=tuple(typed(Curve, {**dict(row), "waits_for": _waits_for(row, about.state)}) for row in curves),
        errors=tuple(errors(connection, experiment)),
    )


# A run q that another needs, in words.
_SAID = f"""
    q.ticket || ' level ' || q.level || ' on ' || coalesce({TITLE.format("q.target_dataset")}, q.target)
    || ', seed ' || q.seed || ' (' || substr(q.digest, 1, 12) || ')'
"""
_RUNS = f"""
    SELECT r.id, r.digest, r.ticket, r.level, r.seed, r.source, r.target, {NAMING}, r.status, r.attempt,
           r.untrained_accuracy, r.test_accuracy, {FLOPS} * 1.0 / r.flops AS flops_remaining,
           r.seconds, r.priority, r.unmet, r.alone, r.error, w.device, w.host, {SPLIT} AS split,
           (SELECT {_SAID} FROM run_needs n JOIN runs q ON q.id = n.needs_id
            WHERE n.run_id = r.id AND q.status <> 'done' ORDER BY q.level DESC LIMIT 1) AS need,
           (SELECT {_SAID} || ', which ' || q.status FROM runs q
            WHERE r.status = 'blocked' AND q.digest = substr(r.error, instr(r.error, ' run ') + 5, 64)) AS cause,
           EXISTS (SELECT 1 FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
                   JOIN experiments e ON e.id = c.experiment_id
                   WHERE p.run_id = r.id AND e.state = 'paused') AS pausing
    FROM runs r LEFT JOIN workers w ON w.id = r.worker
"""


def runs(connection: sqlite3.Connection, experiment: int) -> list[Run]:
    """The runs of an experiment, each with its status, and what it waits for or is blocked by.

    A waiting run that no active experiment has is paused if a paused experiment has it, else cancelled.
    """
    query = f"{_RUNS} WHERE r.id IN ({WANTED}) ORDER BY r.level, r.id"
    return [_run(row) for row in connection.execute(query, {"experiment": experiment})]


def with_needs(connection: sqlite3.Connection, run: int) -> list[Run]:
    """A run and then the runs that it needs, as from `runs`; without the run if it was removed."""
    query = f"{_RUNS} WHERE r.id = :run OR r.id IN (SELECT needs_id FROM run_needs WHERE run_id = :run)"
    return [_run(row) for row in connection.execute(f"{query} ORDER BY r.id <> :run, r.level", {"run": run})]


def _run(row: sqlite3.Row) -> Run:
    status, waits_for, split = row["status"], "", row["split"]
    if status == "waiting" and row["priority"] is None:
        status, waits_for = "paused" if row["pausing"] else "cancelled", "resume"
    elif status == "waiting":
        device = f"{split} devices together" if split > 1 else "a device to itself" if row["alone"] else "a device"
        waits_for = f"run {row['need']}" if row["unmet"] else device
    elif status == "blocked":
        waits_for = row["cause"] or ""
    return typed(Run, {**dict(row), "status": status, "waits_for": waits_for})


def _waits_for(curve: sqlite3.Row, state: str) -> str:
    if not curve["ready"] and not curve["needing"]:
        return "a failed run" if curve["blocked"] else ""
    if state != "active":
        return f"{state} experiment"
    return "a device" if curve["ready"] else "its source chain"


def _state(row: sqlite3.Row) -> str:
    """The status of an experiment: what its unfinished runs do or, if it has none, how it ended.

    It is paused or cancelled at once, although the worker of its run first finishes a step.
    """
    if row["running"] or row["waiting"]:
        if row["state"] != "active":
            return str(row["state"])
        return "running" if row["running"] else "waiting"
    return next((status for status in ("failed", "diverged", "blocked") if row[status]), "done")


class Counts(msgspec.Struct, frozen=True):
    """The number of runs, and of those that have ended (done, failed, diverged or blocked)."""

    total: int
    ended: int


def counts(connection: sqlite3.Connection, experiment: int | None = None) -> Counts:
    """The progress of an experiment, or of all active ones."""
    wanted = f"id IN ({WANTED})" if experiment is not None else "priority IS NOT NULL"
    row = connection.execute(
        f"SELECT count(*), coalesce(sum(status NOT IN ('waiting', 'running')), 0) FROM runs WHERE {wanted}",
        {"experiment": experiment},
    ).fetchone()
    return Counts(*row)


def totals(connection: sqlite3.Connection) -> dict[str, int]:
    """The number of runs in the database by status; waiting ones of no active experiment are paused or cancelled."""
    paused = """
        SELECT p.run_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id
        JOIN experiments e ON e.id = c.experiment_id WHERE e.state = 'paused'
    """
    query = f"""
        SELECT CASE WHEN status <> 'waiting' OR priority IS NOT NULL THEN status WHEN id IN ({paused}) THEN 'paused'
               ELSE 'cancelled' END AS status, count(*) FROM runs GROUP BY 1
    """
    numbers = dict(map(tuple, connection.execute(query)))
    return {status: numbers.get(status, 0) for status in (*RUN_STATUSES, "paused", "cancelled")}


def data_set_files(connection: sqlite3.Connection) -> list[DataSetFile]:
    """The data sets that were read from the user's files."""
    query = "SELECT name, identity, location FROM datasets WHERE instr(identity, ':') ORDER BY name, identity"
    return [typed(DataSetFile, row) for row in connection.execute(query)]


def data_sets_wanted(connection: sqlite3.Connection) -> list[str]:
    """The identities of the data sets that unfinished runs train on."""
    query = "SELECT DISTINCT target_dataset FROM runs WHERE status IN ('waiting', 'running')"
    return [row[0] for row in connection.execute(query)]


def data_sets(connection: sqlite3.Connection) -> list[str]:
    """The data sets that were read from files and folders, as options name them: npz:PATH, folder:PATH@32-a."""
    from engine.datasets.catalog import spec_of

    query = "SELECT identity, location FROM datasets WHERE location <> '' ORDER BY rowid DESC"
    return [spec_of(identity, location) for identity, location in connection.execute(query)]


def running(connection: sqlite3.Connection, experiment: int | None = None) -> list[Running]:
    """The runs in training, of an experiment or all: each with its device and the last epoch recorded."""
    rows = connection.execute(
        f"""
        SELECT DISTINCT r.id, r.ticket, r.level, r.seed, r.source, r.target, r.epochs, {NAMING},
               coalesce(w.device, '?') AS device, w.host, x.epoch, x.images_per_second
        FROM runs r JOIN curve_points p ON p.run_id = r.id JOIN experiment_curves c ON c.id = p.curve_id
        JOIN workers w ON w.id = r.worker
        LEFT JOIN epochs x ON x.run_id = r.id AND x.attempt = r.attempt
         AND x.epoch = (SELECT max(epoch) FROM epochs WHERE run_id = r.id AND attempt = r.attempt)
        WHERE (:experiment IS NULL OR c.experiment_id = :experiment) AND r.status = 'running' ORDER BY r.id
        """,
        {"experiment": experiment},
    )
    return [typed(Running, row) for row in rows]


def training(connection: sqlite3.Connection, experiment: str) -> dict[int, list[float]]:
    """The test accuracies so far, in order of epoch, of an experiment's runs in training, by the run's id.

    Epochs without a test are left out.
    """
    by_run: dict[int, list[float]] = {}
    for row in connection.execute(
        """
        SELECT DISTINCT r.id, x.epoch, x.test_accuracy
        FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id JOIN curve_points p ON p.curve_id = c.id
        JOIN runs r ON r.id = p.run_id AND r.status = 'running'
        LEFT JOIN epochs x ON x.run_id = r.id AND x.attempt = r.attempt
        WHERE e.name = ? ORDER BY r.id, x.epoch
        """,
        (experiment,),
    ):
        accuracies = by_run.setdefault(row["id"], [])
        if row["test_accuracy"] is not None:
            accuracies.append(row["test_accuracy"])
    return by_run


def errors(connection: sqlite3.Connection, experiment: int | None = None) -> list[Failure]:
    """The failed and diverged runs of an experiment, or of all that are active or that cockpit paused."""
    rows = connection.execute(
        f"""
        SELECT DISTINCT r.digest, r.ticket, r.level, r.seed, r.target, r.status, r.error,
               {TITLE.format("r.target_dataset")} AS target_title
        FROM runs r JOIN curve_points p ON p.run_id = r.id JOIN experiment_curves c ON c.id = p.curve_id
        JOIN experiments e ON e.id = c.experiment_id
        WHERE (e.id = :experiment OR (:experiment IS NULL AND (r.priority IS NOT NULL OR e.reason IS NOT NULL)))
          AND r.status IN ('failed', 'diverged') ORDER BY r.id
        """,
        {"experiment": experiment},
    )
    return [typed(Failure, row) for row in rows]
