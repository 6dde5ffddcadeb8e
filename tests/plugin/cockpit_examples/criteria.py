"""A pruning criterion."""

from collections.abc import Mapping

import torch
from torch import Tensor


def smallest(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The smallest final weights stay."""
    return {name: -weight.abs() for name, weight in final.items()}
