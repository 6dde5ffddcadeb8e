"""How far a weight moved in training (Zhou et al. 2019: movement)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    return {name: (weight - rewound[name]).abs() for name, weight in final.items()}
