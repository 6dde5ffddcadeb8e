"""Pruning criteria: how much a weight counts. A criterion is a file with a function `scores`, and a line below.

`scores(final, rewound, draw)` is given the weights after training and those that tickets are rewound to, by layer, and
a seeded generator. It returns a score for each weight, of the same shapes: the highest stay; among equals those of a
lower index. One with a further parameter `network` is given the network and training images, too
(`engine.pruning.networks`).
Nothing here imports torch.
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
    """Whether a criterion may look at training images; of a plug-in that is not known before it is imported."""
    return criterion in OF_IMAGES or is_plugin(criterion)


def needs_weights_alone(rule: Rule) -> bool:
    """Whether a chain's stored weights are all that a rule needs to prune; of a plug-in that is not known."""
    return not (sees_images(rule.criterion) or rule.criterion in ROUNDS or rule.knows_layers)
