"""Which optimizers and learning-rate schedules there are. What they do: `engine.training`. No torch here."""

from engine.machine.plugins import Door

OPTIMIZERS = Door(
    "optimizers",
    "optimizer",
    {name: f"engine.training.optimizers:{name}" for name in ("sgd", "adam", "adamw")},
)
# The settings of a training that each uses beside learning rate and weight decay; a plug-in's uses none.
SETTINGS = {"sgd": ("momentum", "nesterov"), "adam": ("betas",), "adamw": ("betas",)}
SCHEDULES = Door(
    "schedules",
    "learning-rate schedule",
    {name: f"engine.training.schedules:{name}" for name in ("step", "cosine", "constant")},
)
