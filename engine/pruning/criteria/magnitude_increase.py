"""How much a weight's magnitude grew in training (Zhou et al. 2019)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    return {name: weight.abs() - rewound[name].abs() for name, weight in final.items()}
