"""Kinds of random tickets other than permuted masks over fresh weights; one function for each kind.

Each receives masks (bool, by layer), a seeded generator and, except `erk`, the rewound weights of the same layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.pruning import counts, pruner
from engine.pruning.pruner import Masks

Weights = dict[str, Tensor]


def erk(masks: Mapping[str, Tensor], draw: torch.Generator) -> Masks:
    """Random masks with the total count of `masks` and the shares of layers by erk (Evci et al. 2020, section 3)."""
    total, sizes = sum(pruner.remaining(masks).values()), {name: mask.numel() for name, mask in masks.items()}
    shares = counts.apportioned(
        total, {name: sum(mask.shape) for name, mask in masks.items()}, dict.fromkeys(sizes, 0), sizes
    )
    kept = {name: (torch.arange(sizes[name]) < shares[name]).view(mask.shape) for name, mask in masks.items()}
    return pruner.permuted_within_layers(kept, draw)


def rewound_global(
    masks: Mapping[str, Tensor], draw: torch.Generator, rewound: Mapping[str, Tensor]
) -> tuple[Masks, Weights]:
    """The rewound weights under a globally permuted mask (the control of Frankle et al. 2021, section 4)."""
    return pruner.permuted_globally(masks, draw), dict(rewound)


def rewound_local(
    masks: Mapping[str, Tensor], draw: torch.Generator, rewound: Mapping[str, Tensor]
) -> tuple[Masks, Weights]:
    """The rewound weights under masks that are permuted within each layer."""
    return pruner.permuted_within_layers(masks, draw), dict(rewound)


def shuffled(
    masks: Mapping[str, Tensor], draw: torch.Generator, rewound: Mapping[str, Tensor]
) -> tuple[Masks, Weights]:
    """The masks, with the kept weights of each layer in random order (Zhou et al. 2019, section 4.1: reshuffle)."""
    weights = {name: weight.clone() for name, weight in rewound.items()}
    for name, mask in masks.items():
        kept = rewound[name][mask]
        weights[name][mask] = kept[torch.randperm(len(kept), generator=draw)]
    return dict(masks), weights


def constant_sign(
    masks: Mapping[str, Tensor], draw: torch.Generator, rewound: Mapping[str, Tensor]
) -> tuple[Masks, Weights]:
    """The masks, with each weight replaced by its sign times its layer's deviation (Zhou et al. 2019, section 4.1)."""
    weights = {}
    for name, weight in rewound.items():
        size = weight.double().std(correction=0).to(weight.dtype)
        weights[name] = torch.where(weight < 0, -size, size)
    return dict(masks), weights
