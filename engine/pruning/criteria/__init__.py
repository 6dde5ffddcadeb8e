"""Pruning criteria: how much a weight counts. A criterion is a file with a function `scores`, and a line below.

`scores(final, rewound, draw)` is given the weights after training and those that tickets are rewound to, by layer, and
a seeded generator. It returns a score for each weight, of the same shapes: the highest stay; among equals those of a
lower index.
Nothing here imports torch.
"""

from engine.machine.plugins import Door

CRITERIA = Door(
    "criteria",
    "pruning criterion",
    {
        "magnitude": f"{__name__}.magnitude:scores",
        "magnitude-increase": f"{__name__}.magnitude_increase:scores",
        "movement": f"{__name__}.movement:scores",
        "large-init": f"{__name__}.large_init:scores",
        "large-final-same-sign": f"{__name__}.large_final_same_sign:scores",
        "random": f"{__name__}.random:scores",
    },
)
