"""The values that each column may have, against which `damage` checks the rows of a database.

SQLite checks types only. Here, numbers have ranges, and only columns that cockpit can leave empty allow NULL. A kind
that later versions may extend (tickets, optimizers) may be any word.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from engine.recipes import Count, Epochs, Factor, Level, Prunable, Seed, Size
from engine.store.row_types import RunStatus

Id = Annotated[int, Meta(ge=1)]
Pid = Annotated[int, Meta(ge=1, lt=2**31)]
Number = Annotated[int, Meta(ge=0)]
Real = Annotated[float, Meta(ge=-1e308, le=1e308)]  # finite
Fraction = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0, le=1e308)]
Word = Annotated[str, Meta(min_length=1)]
Path = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Flag = Literal[0, 1]
Side = Annotated[int, Meta(ge=1, le=2**16)]

TABLES: dict[str, dict[str, Any]] = {
    "about": {"key": Word, "value": Path},
    "datasets": {
        "identity": Word,
        "name": Word,
        "location": Path,
        "channels": Side,
        "height": Side,
        "width": Side,
        "classes": Count,
        "train_images": Count,
        "test_images": Number,
    },
    "experiments": {
        "id": Id,
        "name": Word,
        "definition": Word,  # parsed by `damage`
        "command": str,
        "priority": int,
        "state": Literal["active", "paused", "cancelled"],
        "created_at": datetime,
        "pause_after": Number,
        "reason": str | None,
        "state_at": datetime | None,
        "notified_at": datetime | None,
        "notes": str | None,
        "tags": str | None,  # a list of words in JSON
        "archived": Flag,
    },
    "experiment_curves": {
        "id": Id,
        "experiment_id": Id,
        "name": Word,
        "source": Word | None,
        "source_optimizer": Word | None,
        "target": Word,
        "model": Word,
        "optimizer": Word,
        "scope": Word | None,
        "ticket": Word,
        "title": str | None,
        "hidden": Flag,
    },
    "data_titles": {"identity": Word, "title": str},
    "pools": {
        "id": Id,
        "pid": Pid,
        "process_started": NonNegative | None,
        "host": str,
        "boot": str | None,
        "pid_namespace": str | None,
        "log": Path | None,
        "started_at": datetime,
        "ended_at": datetime | None,
    },
    "workers": {
        "id": Id,
        "pid": Pid,
        "process_started": NonNegative | None,
        "host": str,
        "boot": str | None,
        "pid_namespace": str | None,
        "device": str | None,
        "started_at": datetime | None,
        "heartbeat_at": datetime | None,
        "pool": Id | None,
        "log": Path | None,
        "ended_at": datetime | None,
        "message": str | None,
        "memory": Number | None,
        "device_memory": Number | None,
        "images_per_second": NonNegative | None,
        "epoch": Epochs | None,
        "batch": Number | None,
        "batches": Number | None,
        "loss": Real | None,
        "accuracy": Fraction | None,
        "device_name": str | None,
        "checkpoint_seconds": NonNegative | None,
    },
    "runs": {
        "id": Id,
        "digest": Digest,
        "recipe": Word,  # parsed by `damage`
        "ticket": Word,
        "level": Level,
        "source": Word | None,
        "source_dataset": Word | None,
        "source_optimizer": Word | None,
        "scope": Word | None,
        "rewind_epoch": Epochs | None,
        "target": Word,
        "target_dataset": Word,
        "model": Word,
        "width": Size,
        "optimizer": Word,
        "learning_rate": Factor,
        "epochs": Epochs,
        "batch_size": Count,
        "profile": Word,
        "seed": Seed,
        "command": str | None,
        "queued_at": datetime,
        "status": RunStatus,
        "priority": int | None,
        "unmet": int,  # derived, like `dependents`, and checked by `queue.unfit`
        "dependents": int,
        "attempt": Number,
        "claim": Number,
        "worker": Id | None,
        "lease_expires_at": str | None,
        "device": str | None,
        "started_at": datetime | None,
        "finished_at": datetime | None,
        "seconds": NonNegative | None,
        "weights_total": Number | None,
        "weights_remaining": Number | None,
        "test_accuracy": Fraction | None,
        "test_epoch": Epochs | None,
        "diverged_epoch": Epochs | None,
        "error": str | None,
        "alone": Flag,
        "lost": Number,
        "device_memory": Number | None,
        "untrained_accuracy": Fraction | None,
        "flops": Number | None,
    },
    "curve_points": {"curve_id": Id, "level": Level, "replicate": Number, "run_id": Id},
    "run_needs": {"run_id": Id, "needs_id": Id},
    "epochs": {
        "run_id": Id,
        "attempt": Number,
        "epoch": Epochs,
        "train_loss": Real | None,
        "train_accuracy": Fraction | None,
        "validation_accuracy": Fraction | None,
        "test_accuracy": Fraction | None,
        "learning_rate": Factor | None,
        "images_per_second": NonNegative | None,
        "validation_loss": Real | None,
        "test_loss": Real | None,
        "test_top5": Fraction | None,
    },
    "layers": {
        "run_id": Id,
        "layer": Number,
        "name": Word,
        "weights_remaining": Number,
        "weights_total": Id,
        "prunable": Prunable,
        "flops": Number | None,
    },
    "lines": {
        "run_id": Id,
        "position": Fraction,
        "train_loss": Real | None,
        "train_accuracy": Fraction,
        "test_loss": Real | None,
        "test_accuracy": Fraction,
    },
    "files": {"run_id": Id, "kind": Word, "sha256": Any, "bytes": Number},  # sha256: see `care.forget_nameless`
    "attempts": {
        "run_id": Id,
        "attempt": Number,
        "claim": Number,
        "worker": Id | None,
        "started_at": datetime | None,
        "ended_at": datetime | None,
        "outcome": Literal["done", "failed", "diverged", "out-of-memory", "stopped", "lost"] | None,
        "error": str | None,
    },
    "loads": {
        "host": str,
        "device": str,
        "at": datetime,
        "busy": NonNegative,
        "memory_used": Number,
        "memory_total": Number,
        "celsius": Real | None,
        "watts": Real | None,
    },
}
VIEWS = ("curves", "layer_ratios", "layers_by_rule")
