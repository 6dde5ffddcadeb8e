"""A kind of random ticket."""

from collections.abc import Mapping

import torch
from torch import Tensor


def reversed_masks(masks: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """Each layer's mask backwards."""
    return {name: mask.flatten().flip(0).view(mask.shape) for name, mask in masks.items()}
