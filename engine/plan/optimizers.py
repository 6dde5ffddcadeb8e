"""The names of optimizers and learning-rate schedules, which `engine.training` implements. No torch."""

from engine.machine.plugins import Door

OPTIMIZERS = Door(
    "optimizers",
    "optimizer",
    {name: f"engine.training.optimizers:{name}" for name in ("sgd", "adam", "adamw")},
)
# The settings that each optimizer uses besides learning rate and weight decay; those of plug-ins use none.
SETTINGS = {"sgd": ("momentum", "nesterov"), "adam": ("betas",), "adamw": ("betas",)}
SCHEDULES = Door(
    "schedules",
    "learning-rate schedule",
    {name: f"engine.training.schedules:{name}" for name in ("step", "cosine", "constant")},
)
