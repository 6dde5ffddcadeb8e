"""Training configurations and weights that several tests use."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.recipes import Run, Training
from engine.store import database, records
from engine.store.files import Folder
from engine.tickets import starts

TRAINING = Training(
    dataset="digits-a",
    model="vgg-digits",
    learning_rate=0.1,
    epochs=20,
    milestones=(10, 15),
    batch_size=64,
    augmentation="none",
    profile="exact",
    seed=0,
)
SHAPES = {"a": (6, 3, 3, 3), "b": (10, 6, 3, 3), "c": (7, 10, 1, 1)}
# A value of each option that is not its default.
CHANGED: dict[str, Any] = {
    "source": ["digits", "digits-b"],
    "target": ["digits-a", "digits"],
    "model": "resnet20",
    "width": 0.5,
    "optimizer": ["adam", "sgd"],
    "target_optimizer": ["adamw"],
    "learning_rate": 1e-5,
    "weight_decay": 0.5,
    "scope": ["layerwise", "global"],
    "random": ["none"],
    "levels": 8,
    "evaluate": "0,1,2,8",
    "prune_rate": 0.3,
    "criterion": "random",
    "prune_at": "init",
    "prune_batches": 4,
    "retrain": "lr-rewind",
    "granularity": "filter",
    "lr_schedule": "cosine",
    "rewind": "7it",
    "prunable": "conv+output",
    "rewinds": "weights",
    "schedule": "continue",
    "epochs": 7,
    "batch_size": 65,
    "augmentation": "crop",
    "validation": 0.25,
    "replicates": 3,
    "seed": 2**62,
    "profile": "fast",
    "split": 2,
    "batch_norm": "whole",
    "test_images": 100,
    "milestones": "1",
    "decay": 0.5,
    "warmup": "5it",
    "momentum": 0.5,
    "nesterov": True,
    "betas": "0.8,0.99",
    "label_smoothing": 0.1,
    "init": "kaiming",
    "head": "fresh",
    "connect": 5,
    "keep": "final",
    "data_seed": 7,
    "reshuffle_levels": True,
}
# Further options without which an option would be unused.
NEEDED: dict[str, dict[str, Any]] = {
    "batch_norm": {"split": 3},
    "betas": {"optimizer": ["adam"]},
    "prune_batches": {"criterion": "snip"},
}


def weights(
    seed: int = 0,
    ties: bool = False,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Random weights by layer; with `ties` many are equal."""
    draw = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=draw, dtype=dtype) for name, shape in shapes.items()}
    return {name: (value * 2).round() / 2 for name, value in found.items()} if ties else found


@contextmanager
def files(path: Path) -> Iterator[starts.Read]:
    """The files of a database's runs."""
    with closing(database.reader(path)) as connection:
        folder = Folder(database.files_folder(path))

        def read(run: Run, kind: str) -> bytes:
            digest = records.file_of(connection, run.digest, kind)
            assert digest is not None, (run, kind)
            return folder.get(digest)

        yield read
