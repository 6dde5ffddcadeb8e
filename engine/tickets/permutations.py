"""Kinds of random tickets: what becomes of a chain's masks and weights (section 3.3 and appendix A.2). No torch.

A kind is a function of the masks (bool, by layer) and a seeded generator, which returns masks of the same shapes, over
fresh weights. Those of `engine.recipes.REWOUND` are given the weights of these layers that tickets are rewound to as
well, and return masks and weights; all other parameters are the rewound ones.
"""

from engine.machine.plugins import Door

PERMUTATIONS = Door(
    "random_tickets",
    "kind of random ticket",
    {
        "global": "engine.pruning.pruner:permuted_globally",
        "local": "engine.pruning.pruner:permuted_within_layers",
        "preserved": "engine.pruning.pruner:preserved",
        "erk": "engine.pruning.random_tickets:erk",
        "rewound-global": "engine.pruning.random_tickets:rewound_global",
        "rewound-local": "engine.pruning.random_tickets:rewound_local",
        "shuffled": "engine.pruning.random_tickets:shuffled",
        "constant-sign": "engine.pruning.random_tickets:constant_sign",
    },
)
