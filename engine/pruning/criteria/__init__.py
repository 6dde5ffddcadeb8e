"""Pruning criteria: how much a weight counts. A criterion is a file with a function `scores`, and a line below.

`scores(final, rewound, draw)` receives the weights after training and the weights that tickets rewind to, by layer, and
a seeded generator. It returns a score for each weight, in tensors of the same shapes. Weights with the highest scores
stay; among equal scores those with the lower index. A function with a fourth parameter `network` also receives the
network and training images (`engine.pruning.networks`). This module imports no torch.
"""

from engine.machine.plugins import Door, is_plugin
from engine.recipes import Rule

CRITERIA = Door(
    "criteria",
    "pruning criterion",
    {
        "magnitude": f"{__name__}.magnitude:scores",
        "magnitude-increase": f"{__name__}.magnitude_increase:scores",
        "movement": f"{__name__}.movement:scores",
        "large-init": f"{__name__}.large_init:scores",
        "small-init": f"{__name__}.small_init:scores",
        "small-final": f"{__name__}.small_final:scores",
        "large-final-same-sign": f"{__name__}.large_final_same_sign:scores",
        "random": f"{__name__}.random:scores",
        "taylor": f"{__name__}.taylor:scores",
        "snip": f"{__name__}.snip:scores",
        "grasp": f"{__name__}.grasp:scores",
        "synflow": f"{__name__}.synflow:scores",
    },
)
OF_IMAGES = ("taylor", "snip", "grasp")  # what sees training images
OF_TRAINING = ("movement", "magnitude-increase")  # what compares the weights after training with those before
ROUNDS = {"synflow": 100}  # in how many rounds each level is pruned, each with scores of its own; all others in 1


def sees_images(criterion: str) -> bool:
    """Whether a criterion may use training images; True for a plug-in, which is not imported to find out."""
    return criterion in OF_IMAGES or is_plugin(criterion)


def needs_weights_alone(rule: Rule) -> bool:
    """Whether a rule can prune with a chain's stored weights alone; False for a plug-in, which is not imported."""
    return not (sees_images(rule.criterion) or rule.criterion in ROUNDS or rule.knows_layers)
