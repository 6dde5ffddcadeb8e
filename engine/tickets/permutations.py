"""Kinds of random tickets: what becomes of a chain's masks over fresh weights (section 3.3 and appendix A.2). No torch.

A kind is a function of the masks (bool, by layer) and a seeded generator, which returns masks of the same shapes.
"""

from engine.machine.plugins import Door

PERMUTATIONS = Door(
    "random_tickets",
    "kind of random ticket",
    {
        "global": "engine.pruning.pruner:permuted_globally",
        "local": "engine.pruning.pruner:permuted_within_layers",
        "preserved": "engine.pruning.pruner:preserved",
    },
)
