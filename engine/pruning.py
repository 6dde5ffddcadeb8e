"""Masks: which weights a ticket keeps. A mask is a bool tensor a layer, True where the weight remains.

Counts are exact: after n iterations round(N (1 - rate)^n) of the N prunable weights remain, by magnitude, ties going
to the lower index, and never one that an earlier iteration pruned. Section 3.1.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from engine.recipes import Rule

Masks = dict[str, Tensor]


def magnitude(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None, rule: Rule, level: int) -> Masks:
    """The masks of `level` (1 or more): the largest of the weights that `masks` (None: all) leaves.

    `weights` are the final weights of the run of level - 1, finite, in the order of the layers. They are compared in
    their own precision, on the device they are on.
    """
    pools = [[name] for name in weights] if rule.scope == "layerwise" else [list(weights)]
    found: Masks = {}
    for names in pools:
        scores = torch.cat([weights[name].detach().flatten() for name in names]).abs_()
        if masks is not None:
            # Below every magnitude, so that a pruned weight never comes back, not even among zeros.
            scores.masked_fill_(~torch.cat([masks[name].flatten() for name in names]), -1.0)
        kept = largest(scores, round(scores.numel() * rule.fraction(level)))
        found |= split(kept, {name: weights[name] for name in names})
    return found


def largest(scores: Tensor, count: int) -> Tensor:
    """A mask of the shape of `scores`, True at exactly the `count` largest; among equals the lower index wins."""
    flat = scores.flatten()
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = _nth_largest(flat, count)
    above = flat > threshold
    ties = (flat == threshold).nonzero().flatten()
    above[ties[: count - int(torch.count_nonzero(above))]] = True
    return above.view_as(scores)


def _nth_largest(flat: Tensor, count: int) -> Tensor:
    place = flat.numel() - count
    if flat.device.type == "cpu":  # numpy's partial sort is several times faster than torch's on the CPU
        return torch.from_numpy(np.partition(flat.numpy(), place)[place : place + 1])
    return flat.kthvalue(place + 1).values


def split(mask: Tensor, like: Mapping[str, Tensor]) -> Masks:
    """A flat mask over all layers as one mask a layer."""
    parts = torch.split(mask, [layer.numel() for layer in like.values()])
    return {name: part.view(layer.shape) for part, (name, layer) in zip(parts, like.items(), strict=True)}


def permuted_within_layers(masks: Mapping[str, Tensor], generator: torch.Generator) -> Masks:
    """Each layer's mask in random order: the counts of the layers stay. Appendix A.2."""
    return {name: _permuted(mask.flatten(), generator).view(mask.shape) for name, mask in masks.items()}


def permuted_globally(masks: Mapping[str, Tensor], generator: torch.Generator) -> Masks:
    """All layers' masks pooled, in random order: only the total count stays. Section 3.3."""
    return split(_permuted(torch.cat([mask.flatten() for mask in masks.values()]), generator), masks)


def random_global(layers: Mapping[str, Tensor], rule: Rule, level: int, generator: torch.Generator) -> Masks:
    """What permuting any global mask of `level` gives: round(N (1 - rate)^n) of all weights, wherever they are."""
    total = sum(layer.numel() for layer in layers.values())
    mask = torch.arange(total) < round(total * rule.fraction(level))
    return split(_permuted(mask, generator), layers)


def _permuted(mask: Tensor, generator: torch.Generator) -> Tensor:
    return mask[torch.randperm(mask.numel(), generator=generator)]


def remaining(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """How many weights each layer keeps."""
    return {name: int(mask.sum()) for name, mask in masks.items()}
