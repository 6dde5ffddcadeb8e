"""The names of the kinds of random tickets (section 3.3 and appendix A.2). No torch.

A kind is a function of a chain's masks (bool, by layer) and a seeded generator that returns masks of the same shapes;
the ticket has fresh weights. A kind in `engine.recipes.REWOUND` also takes the rewound weights of these layers, and
returns masks and weights; the ticket's other parameters are the rewound ones.
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
