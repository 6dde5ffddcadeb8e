"""A random score: pruning ignores the weights, as a control."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    return {name: torch.rand(weight.shape, generator=draw) for name, weight in final.items()}
