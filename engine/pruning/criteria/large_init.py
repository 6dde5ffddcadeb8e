"""The magnitude of the rewound weight (Zhou et al. 2019: large init)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    return {name: weight.abs() for name, weight in rewound.items()}
