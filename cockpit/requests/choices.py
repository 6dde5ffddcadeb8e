"""The names that options of an experiment take, and what completes them."""

from collections.abc import Mapping, Sequence
from typing import get_args

from cockpit.requests.completing import Callback, among, data_sets
from engine.datasets.catalog import AUGMENTATIONS
from engine.models.catalog import MODELS
from engine.recipes import BatchNorm, MaskKind, Optimizer, Profile, Prunable, Rewinds, Schedule, Scope

# The names that an option takes.
ALLOWED: Mapping[str, Sequence[str]] = {
    "model": tuple(MODELS),
    "optimizer": get_args(Optimizer),
    "target_optimizer": get_args(Optimizer),
    "scope": get_args(Scope),
    "random": (*get_args(MaskKind), "none"),
    "profile": get_args(Profile),
    "evaluate": ("paper", "all"),
    "batch_norm": get_args(BatchNorm),
    "augmentation": AUGMENTATIONS,
    "prunable": get_args(Prunable),
    "rewinds": get_args(Rewinds),
    "schedule": get_args(Schedule),
}
OF_OPTIONS: Mapping[str, Callback] = {
    **{name: among(words) for name, words in ALLOWED.items()},
    "source": data_sets,
    "target": data_sets,
}
