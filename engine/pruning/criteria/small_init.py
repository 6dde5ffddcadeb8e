"""The magnitude of the weight rewound to, the smallest staying: a control (Zhou et al. 2019: small init)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    return {name: -weight.abs() for name, weight in rewound.items()}
