"""The negative magnitude of the final weight, so that the smallest stay; a control (Zhou et al. 2019: small final)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    return {name: -weight.abs() for name, weight in final.items()}
