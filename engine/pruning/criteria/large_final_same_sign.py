"""The final magnitude of weights that kept their sign; weights that changed it are pruned first (Zhou et al. 2019)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    # max(0, sign x final): see their table 1.
    return {name: (weight * rewound[name].sign()).clamp_min(0) for name, weight in final.items()}
