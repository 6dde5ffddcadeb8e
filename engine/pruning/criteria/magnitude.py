"""The final weight's magnitude (Frankle and Carbin 2019; the paper's section 3.1)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def scores(final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The score of each weight."""
    return {name: weight.abs() for name, weight in final.items()}
