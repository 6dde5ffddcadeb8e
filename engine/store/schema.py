"""The tables and views, and the migrations of older databases: `python -m engine.store.schema PATH`.

Never edit a released migration: add a new one, and raise `database.SCHEMA_VERSION`. All migrations and the version
number are written in one transaction, so an interrupted upgrade leaves the old version usable.
"""

import sqlite3
import sys
from contextlib import closing

from sqlite_utils import Database, Migrations

from engine.store import rules_filled_in
from engine.store.database import APPLICATION_ID, BUSY_SECONDS, SCHEMA_VERSION, transaction

RUNS = {
    "id": int,
    "digest": str,  # SHA-256 of the recipe; identifies the run
    "recipe": str,  # canonical JSON of ticket and training configuration
    "ticket": str,  # dense, winning, random-global, random-local, random-preserved
    "level": int,  # pruning iteration
    "source": str,  # data set of the chain that the ticket comes from
    "source_dataset": str,  # its identity
    "source_optimizer": str,
    "scope": str,
    "rewind_epoch": int,
    "target": str,  # data set that the run trains on
    "target_dataset": str,  # its identity
    "model": str,
    "width": float,
    "optimizer": str,
    "learning_rate": float,
    "epochs": int,
    "batch_size": int,
    "profile": str,
    "seed": int,
    "command": str,  # that queued it
    "queued_at": str,
    "status": str,  # waiting, running, done, failed, diverged, blocked
    "priority": int,  # the highest of the active experiments with this run; NULL if none has it
    "unmet": int,  # number of runs that it needs and that are not done
    "dependents": int,  # number of runs that need it
    "attempt": int,  # raised when the run starts over, kept when it resumes
    "claim": int,  # raised by each claim; a write under an older claim is dropped
    "worker": int,
    "lease_expires_at": str,
    "device": str,
    "device_name": str,
    "dtype": str,
    "memory_format": str,
    "threads": int,
    "torch_version": str,
    "cudnn_version": str,
    "cockpit_version": str,
    "started_at": str,
    "finished_at": str,
    "seconds": float,  # of training, summed over resumptions
    "weights_total": int,  # prunable weights
    "weights_remaining": int,
    "test_accuracy": float,
    "test_epoch": int,  # of that accuracy: the last epoch, or the one of the best validation accuracy
    "diverged_epoch": int,
    "error": str,
}

# Two passes, the mean and then the standard deviation. Grouping by the experiment's name as well lets SQLite skip the
# runs of other experiments.
CURVES = """
SELECT m.experiment, m.curve, m.source, m.target, m.model, m.source_optimizer, m.optimizer, m.scope, m.ticket, m.level,
       m.fraction_pruned, m.n, m.replicates, m.mean,
       (SELECT sqrt(sum((r.test_accuracy - m.mean) * (r.test_accuracy - m.mean)) / nullif(m.n - 1, 0))
        FROM curve_points p JOIN runs r ON r.id = p.run_id
        WHERE p.curve_id = m.curve_id AND p.level = m.level AND r.status = 'done') AS std
FROM (
  SELECT e.name AS experiment, c.id AS curve_id, c.name AS curve, c.source, c.target, c.model, c.source_optimizer,
         c.optimizer, c.scope, c.ticket, p.level, count(*) AS replicates,
         count(*) FILTER (WHERE r.status = 'done') AS n,
         avg(r.test_accuracy) FILTER (WHERE r.status = 'done') AS mean,
         avg(1.0 - r.weights_remaining * 1.0 / r.weights_total) FILTER (WHERE r.status = 'done') AS fraction_pruned
  FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id
  JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id
  GROUP BY e.name, c.id, p.level
) m
WHERE m.n > 0 ORDER BY m.curve_id, m.level
"""

LAYER_RATIOS = """
SELECT e.name AS experiment, g.source, g.target, g.model, g.optimizer, gp.level, gp.replicate, gl.layer, gl.name,
       gl.weights_remaining AS global_remaining, ll.weights_remaining AS layerwise_remaining, gl.weights_total,
       gl.weights_remaining * 1.0 / nullif(ll.weights_remaining, 0) AS remaining_ratio,
       (gl.weights_total - gl.weights_remaining) * 1.0 / nullif(ll.weights_total - ll.weights_remaining, 0)
         AS pruned_ratio
FROM experiments e
JOIN experiment_curves g ON g.experiment_id = e.id AND g.scope = 'global' AND g.ticket = 'winning'
JOIN experiment_curves l ON l.experiment_id = e.id AND l.scope = 'layerwise' AND l.ticket = 'winning'
 AND l.source = g.source AND l.target = g.target AND l.optimizer = g.optimizer
 AND l.source_optimizer = g.source_optimizer
JOIN curve_points gp ON gp.curve_id = g.id
JOIN curve_points lp ON lp.curve_id = l.id AND lp.level = gp.level AND lp.replicate = gp.replicate
JOIN layers gl ON gl.run_id = gp.run_id
JOIN layers ll ON ll.run_id = lp.run_id AND ll.layer = gl.layer
ORDER BY e.id, g.id, gp.level, gp.replicate, gl.layer
"""


# The next claim is the first entry of an index, so its cost does not depend on the length of the queue.
CLAIM_ORDER = (
    """
    CREATE INDEX runs_ready ON runs (priority DESC, dependents DESC, id)
    WHERE status = 'waiting' AND unmet = 0 AND priority IS NOT NULL
    """,
    """
    CREATE TRIGGER need_added AFTER INSERT ON run_needs BEGIN
      UPDATE runs SET unmet = unmet + (SELECT status <> 'done' FROM runs WHERE id = NEW.needs_id) WHERE id = NEW.run_id;
      UPDATE runs SET dependents = dependents + 1 WHERE id = NEW.needs_id;
    END
    """,
    """
    CREATE TRIGGER need_met AFTER UPDATE OF status ON runs WHEN (OLD.status = 'done') <> (NEW.status = 'done') BEGIN
      UPDATE runs SET unmet = unmet + CASE NEW.status WHEN 'done' THEN -1 ELSE 1 END
      WHERE id IN (SELECT run_id FROM run_needs WHERE needs_id = NEW.id);
    END
    """,
)

MIGRATIONS = Migrations("cockpit")


@MIGRATIONS()
def version_1(db: Database) -> None:
    """Add experiments, their curves, the runs that these share, and the records of each run."""
    db.table("about").create({"key": str, "value": str}, pk="key", strict=True)
    db.table("datasets").create(
        {
            "identity": str,
            "name": str,
            "location": str,
            "channels": int,
            "height": int,
            "width": int,
            "classes": int,
            "train_images": int,
            "test_images": int,
        },
        pk="identity",
        strict=True,
    )
    db.table("experiments").create(
        {
            "id": int,
            "name": str,
            "definition": str,
            "command": str,
            "priority": int,  # the highest is trained first
            "state": str,  # active, paused, cancelled
            "created_at": str,
        },
        pk="id",
        not_null={"name", "definition", "priority", "state"},
        defaults={"priority": 0, "state": "active"},
        strict=True,
    )
    db.table("experiments").create_index(["name"], unique=True)
    db.table("experiment_curves").create(
        {
            "id": int,
            "experiment_id": int,
            "name": str,
            "source": str,
            "source_optimizer": str,
            "target": str,
            "model": str,
            "optimizer": str,
            "scope": str,
            "ticket": str,
        },
        pk="id",
        foreign_keys=[("experiment_id", "experiments", "id")],
        strict=True,
    )
    db.table("experiment_curves").create_index(["experiment_id", "name"], unique=True)
    db.table("workers").create(
        {
            "id": int,
            "pid": int,
            "process_started": float,
            "host": str,
            "device": str,
            "started_at": str,
            "heartbeat_at": str,
        },
        pk="id",
        strict=True,
    )
    db.table("runs").create(
        RUNS,
        pk="id",
        not_null={"digest", "recipe", "ticket", "level", "status", "unmet", "dependents", "attempt", "claim"},
        defaults={"status": "waiting", "unmet": 0, "dependents": 0, "attempt": 0, "claim": 0},
        foreign_keys=[
            ("source_dataset", "datasets", "identity"),
            ("target_dataset", "datasets", "identity"),
            ("worker", "workers", "id"),
        ],
        strict=True,
    )
    db.table("runs").create_index(["digest"], unique=True)
    db.table("runs").create_index(["status", "priority"])
    db.table("curve_points").create(
        {"curve_id": int, "level": int, "replicate": int, "run_id": int},
        pk=("curve_id", "level", "replicate"),
        foreign_keys=[("curve_id", "experiment_curves", "id"), ("run_id", "runs", "id")],
        strict=True,
    )
    db.table("curve_points").create_index(["run_id"])
    db.table("run_needs").create(
        {"run_id": int, "needs_id": int},
        pk=("run_id", "needs_id"),
        foreign_keys=[("run_id", "runs", "id"), ("needs_id", "runs", "id")],
        strict=True,
    )
    db.table("run_needs").create_index(["needs_id"])
    db.table("epochs").create(
        {
            "run_id": int,
            "attempt": int,
            "epoch": int,
            "train_loss": float,
            "train_accuracy": float,
            "validation_accuracy": float,
            "test_accuracy": float,
            "learning_rate": float,
            "images_per_second": float,
        },
        pk=("run_id", "attempt", "epoch"),
        foreign_keys=[("run_id", "runs", "id")],
        strict=True,
    )
    db.table("layers").create(
        {"run_id": int, "layer": int, "name": str, "weights_remaining": int, "weights_total": int},
        pk=("run_id", "layer"),
        foreign_keys=[("run_id", "runs", "id")],
        strict=True,
    )
    db.table("files").create(
        {"run_id": int, "kind": str, "sha256": str, "bytes": int},
        pk=("run_id", "kind"),
        foreign_keys=[("run_id", "runs", "id")],
        strict=True,
    )
    for statement in CLAIM_ORDER:
        db.execute(statement)
    db.create_view("curves", CURVES)
    db.create_view("layer_ratios", LAYER_RATIOS)


# A run that ran out of memory on a shared device comes first, and trains alone on a device: all other runs wait.
CLAIM_ORDER_2 = """
CREATE INDEX runs_ready ON runs (alone DESC, priority DESC, dependents DESC, id)
WHERE status = 'waiting' AND unmet = 0 AND priority IS NOT NULL
"""
# Ends the attempt when a run is taken from its worker, which may be dead and unable to end it.
TAKEN_BACK = """
CREATE TRIGGER run_taken_back AFTER UPDATE OF status ON runs
WHEN OLD.status = 'running' AND NEW.status = 'waiting' BEGIN
  UPDATE attempts SET ended_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
    outcome = CASE WHEN NEW.lost > OLD.lost OR OLD.lease_expires_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
              THEN 'lost' ELSE 'stopped' END
  WHERE run_id = NEW.id AND claim = NEW.claim AND ended_at IS NULL;
END
"""
# The device memory that runs of one shape took (`leases.reason_to_wait`).
MEASURED_MEMORY = """
CREATE INDEX runs_device_memory ON runs (model, width, batch_size, profile, target_dataset, device_memory)
WHERE device_memory IS NOT NULL
"""


@MIGRATIONS()
def version_2(db: Database) -> None:
    """Add attempts, pools, the load of hosts and devices, and why an experiment is paused."""
    db.table("pools").create(
        {
            "id": int,
            "pid": int,
            "process_started": float,
            "host": str,
            "log": str,
            "started_at": str,
            "ended_at": str,  # NULL while the pool runs, and if it was killed
        },
        pk="id",
        strict=True,
    )
    db.table("loads").create(
        {
            "host": str,
            "device": str,  # cpu is the host itself
            "at": str,
            "busy": float,  # fraction of the cores or the card in use, in [0, 1]
            "memory_used": int,  # bytes
            "memory_total": int,
            "celsius": float,
            "watts": float,
        },
        pk=("host", "device", "at"),
        strict=True,
    )
    db.table("attempts").create(
        {
            "run_id": int,
            "attempt": int,
            "claim": int,  # under which it ran; resuming from a checkpoint adds a row to the same attempt
            "worker": int,
            "started_at": str,
            "ended_at": str,
            "outcome": str,  # done, failed, diverged, out-of-memory, stopped, lost; NULL while it runs
            "error": str,
        },
        pk=("run_id", "attempt", "claim"),
        foreign_keys=[("run_id", "runs", "id"), ("worker", "workers", "id")],
        strict=True,
    )
    for column in (
        "pool INTEGER REFERENCES pools (id)",
        "log TEXT",  # the file of its output
        "ended_at TEXT",
        "message TEXT",  # why it cannot train: a full disk, a locked database
        "memory INTEGER",  # bytes of the process on the host
        "device_memory INTEGER",  # bytes that torch holds on the device; NULL on the CPU
        "images_per_second REAL",
        "epoch INTEGER",  # of its current run (`runs.worker`)
        "batch INTEGER",
        "batches INTEGER",  # of an epoch
        "loss REAL",  # mean over this epoch so far
        "accuracy REAL",  # mean over this epoch so far, on training images
    ):
        db.execute(f"ALTER TABLE workers ADD COLUMN {column}")
    for column in (
        "pause_after INTEGER NOT NULL DEFAULT 3",  # failures in a row; 0: never
        "reason TEXT",  # why cockpit paused it; NULL if the user did
        "state_at TEXT",  # when its state was last set
        "notified_at TEXT",  # when the hook was last called for it
        "notes TEXT",
        "tags TEXT",  # JSON, a list of words
        "archived INTEGER NOT NULL DEFAULT 0",  # 1: hidden from lists
    ):
        db.execute(f"ALTER TABLE experiments ADD COLUMN {column}")
    for column in (
        "alone INTEGER NOT NULL DEFAULT 0",  # 1: ran out of memory on a shared device, so it trains alone
        "lost INTEGER NOT NULL DEFAULT 0",  # number of workers that died in it since the last recorded epoch
        "device_memory INTEGER",  # peak bytes on the device; NULL on the CPU
    ):
        db.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    db.execute("DROP INDEX runs_ready")
    db.execute(CLAIM_ORDER_2)
    db.execute(MEASURED_MEMORY)
    db.execute(TAKEN_BACK)
    db.execute(
        """
        INSERT INTO attempts (run_id, attempt, claim, worker, started_at, ended_at, outcome, error)
        SELECT id, attempt, claim, worker, started_at, finished_at,
               CASE WHEN status IN ('done', 'failed', 'diverged') THEN status END, error
        FROM runs WHERE attempt > 0
        """
    )


LAYER_RATIOS_2 = LAYER_RATIOS.replace(
    "JOIN layers gl ON gl.run_id = gp.run_id",
    "JOIN layers_by_rule gl ON gl.run_id = gp.run_id"
    " AND gl.rule = coalesce(json_extract(e.definition, '$.prunable'), 'conv')",
)


@MIGRATIONS()
def version_3(db: Database) -> None:
    """Add the rule that prunes a layer: runs that chains of several rules share record the layers of all rules."""
    db.execute("ALTER TABLE layers ADD COLUMN prunable TEXT NOT NULL DEFAULT 'conv'")  # the narrowest rule
    db.create_view("layers_by_rule", rules_filled_in.LAYERS_BY_RULE)
    db.execute(rules_filled_in.OTHER_RULES)
    for statement in rules_filled_in.FILLED_IN:
        db.execute(statement)
    db.execute("DROP VIEW layer_ratios")
    db.create_view("layer_ratios", LAYER_RATIOS_2)


@MIGRATIONS()
def version_4(db: Database) -> None:
    """Add the boot and pid namespace of a pid: other containers and boots reuse a host name and its pids."""
    for table in ("workers", "pools"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN boot TEXT")  # an id that the kernel draws at boot
        db.execute(f"ALTER TABLE {table} ADD COLUMN pid_namespace TEXT")


@MIGRATIONS()
def version_5(db: Database) -> None:
    """Add display names of data sets and curves, and hidden curves."""
    db.table("data_titles").create(
        {"identity": str, "title": str},  # the identity without its part: cifar10, npz:HASH
        pk="identity",
        not_null={"title"},
        strict=True,
    )
    db.execute("ALTER TABLE experiment_curves ADD COLUMN title TEXT")
    db.execute("ALTER TABLE experiment_curves ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0")  # 1: left out of charts


# The only writer of an attempt's outcome, whether its worker, another worker, a pool or a merge changes the run.
ATTEMPT_OVER = """
CREATE TRIGGER attempt_over AFTER UPDATE OF status ON runs
WHEN OLD.status = 'running' AND NEW.status <> 'running' BEGIN
  UPDATE attempts SET ended_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
    outcome = CASE WHEN NEW.status <> 'waiting' THEN NEW.status
                   WHEN NEW.alone > OLD.alone THEN 'out-of-memory'
                   WHEN NEW.lost > OLD.lost OR OLD.lease_expires_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now') THEN 'lost'
                   ELSE 'stopped' END,
    error = CASE WHEN NEW.status <> 'waiting' OR NEW.alone > OLD.alone THEN NEW.error END
  WHERE run_id = NEW.id AND claim = NEW.claim AND ended_at IS NULL;
END
"""


@MIGRATIONS()
def version_6(db: Database) -> None:
    """End an attempt by one trigger on its run's status."""
    db.execute("DROP TRIGGER run_taken_back")
    db.execute(ATTEMPT_OVER)


LAYERS_BY_RULE_2 = rules_filled_in.LAYERS_BY_RULE.replace("l.weights_total\n", "l.weights_total, l.flops\n")


@MIGRATIONS()
def version_7(db: Database) -> None:
    """Add losses, top-5 accuracy, accuracy before training, FLOPs, and networks between two trained ones."""
    for table, column in (
        ("epochs", "validation_loss REAL"),
        ("epochs", "test_loss REAL"),
        ("epochs", "test_top5 REAL"),  # accuracy; NULL for fewer than ten classes
        ("runs", "untrained_accuracy REAL"),  # on the test images, before the first step
        ("runs", "flops INTEGER"),  # of one image in the whole network, unpruned
        ("layers", "flops INTEGER"),  # of one image in this layer's prunable weights, unpruned
    ):
        db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    db.execute("DROP VIEW layers_by_rule")
    db.create_view("layers_by_rule", LAYERS_BY_RULE_2)
    db.table("lines").create(
        {
            "run_id": int,
            "position": float,  # 0: the network of the first training; 1: of the second
            "train_loss": float,
            "train_accuracy": float,
            "test_loss": float,
            "test_accuracy": float,
        },
        pk=("run_id", "position"),
        foreign_keys=[("run_id", "runs", "id")],
        strict=True,
    )


@MIGRATIONS()
def version_8(db: Database) -> None:
    """What a worker's device is, whichever machine it is of, and how often it saves its run."""
    db.execute("ALTER TABLE workers ADD COLUMN device_name TEXT")  # the model of its card or CPU: `runs.device_name`
    db.execute("ALTER TABLE workers ADD COLUMN checkpoint_seconds REAL")  # the least time between two checkpoints


def migrate(path: str) -> None:
    """Create or upgrade the database at `path` to the newest version, in one transaction.

    The transaction takes the write lock first, because another process may migrate the same file.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    with closing(connection), transaction(connection):
        MIGRATIONS.apply(Database(connection))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


if __name__ == "__main__":
    migrate(sys.argv[1])
