"""Masks: the weights that a ticket keeps. A mask is one bool tensor for each layer, True where the weight remains.

Counts are exact (`engine.pruning.counts`): after n iterations round(N (1 - rate)^n) of the N prunable weights remain.
The rule's criterion chooses them; ties go to the lower index, and a pruned weight never returns. Paper, section 3.1.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine import streams
from engine.errors import InputError
from engine.pruning import counts
from engine.pruning.criteria import CRITERIA, ROUNDS
from engine.pruning.networks import Network
from engine.recipes import Kind, Rule

Masks = dict[str, Tensor]

SAMPLED = 127  # stride of the sample of scores: a prime, so that it divides no shape of kernels
SIGMAS = 4  # the error of the sample that `_bracket` allows for


def prune(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None,
    rule: Rule,
    level: int,
    rewound: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    look: Callable[[], Network] | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> Masks:
    """The masks of `level` (1 or more): the weights that the rule keeps of those that `masks` (None: all) leaves.

    `weights` are the finite final weights of the run of level - 1, in the order of the layers; a rule that prunes
    before training needs that run's initial weights instead. `rewound` are the weights that tickets rewind to;
    magnitude does not need them. Scores are compared on the device and in the precision of the weights. `look` returns
    the network of these weights, masked or not, for a criterion that asks for it; `kinds` has the kind of each layer,
    for a rule that `knows_layers`. Raises InputError if the criterion does not return one number for each weight, or if
    N:M prunes no layer.
    """
    criterion = CRITERIA.load(rule.criterion)
    final = {name: weight.detach() for name, weight in weights.items()}
    before = {name: value.to(final[name].device) for name, value in (rewound or {}).items() if name in final}
    asked: list[Any] = [final, before, streams.generator(f"prune/{rule.criterion}/{level}", seed)]
    network = look() if look and "network" in inspect.signature(criterion).parameters else None
    rounds = ROUNDS.get(rule.criterion, 1)
    for done in range(1, rounds + 1):
        if network:
            network.mask(masks or {})
        scored = _checked(criterion(*asked, *([network] if network else [])), final, rule.criterion)
        masks = _highest(scored, masks, rule, level if done == rounds else level - 1 + done / rounds, kinds or {})
    assert masks is not None
    return dict(masks)


def _highest(
    scored: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None,
    rule: Rule,
    level: float,
    kinds: Mapping[str, Kind],
) -> Masks:
    """Masks of the highest scores among the weights that `masks` (None: all) leaves, in the count of `level`."""
    if rule.pattern:
        if all(score.shape[1] % rule.pattern[1] for score in scored.values()):
            why = f"granularity {rule.granularity} prunes nothing: {rule.pattern[1]} divides no layer's input channels"
            raise InputError(why)
        return {
            name: _of_groups(score, masks[name] if masks else None, rule.pattern[1], counts.of_group(rule, level))
            for name, score in scored.items()
        }
    found: Masks = {}
    whole = scored
    if rule.granularity == "filter":
        scored = {name: score.flatten(1).mean(1) for name, score in scored.items()}
        masks = masks and {name: mask.flatten(1).any(1) for name, mask in masks.items()}
    for names, remain in counts.pools({name: score.shape for name, score in scored.items()}, kinds, rule, level):
        scores = _not_negative(torch.cat([scored[name].flatten() for name in names]))
        if masks is not None:
            # Below every score, so that a pruned weight never comes back, not even among zeros.
            scores.masked_fill_(~torch.cat([masks[name].flatten() for name in names]), -1.0)
        found |= split(largest(scores, remain), {name: scored[name] for name in names})
    return {name: _spread(found[name], score) for name, score in whole.items()}


def _spread(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of a layer's weights, from a mask of its weights or of its filters."""
    return mask if mask.shape == like.shape else mask.view(-1, *[1] * (like.dim() - 1)).expand_as(like).contiguous()


def _of_groups(scores: Tensor, mask: Tensor | None, many: int, keep: int) -> Tensor:
    """A mask of the `keep` highest of each `many` scores along input channels; all True where `many` does not fit."""
    if scores.shape[1] % many:
        return torch.ones_like(scores, dtype=torch.bool)
    ranked = _not_negative(scores.flatten()).view(scores.shape)
    if mask is not None:
        ranked.masked_fill_(~mask, -1.0)
    along = ranked.movedim(1, -1)
    groups = along.reshape(-1, many)
    best = groups.sort(dim=1, descending=True, stable=True).indices[:, :keep]
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, best, True)
    return kept.view(along.shape).movedim(-1, 1).contiguous()


def _checked(found: Mapping[str, Tensor], weights: Mapping[str, Tensor], criterion: str) -> dict[str, Tensor]:
    """The scores of a criterion, on the device of the weights. Raises InputError if a weight has no number."""
    for name, weight in weights.items():
        if name not in found or found[name].shape != weight.shape or found[name].isnan().any():
            raise InputError(f"pruning criterion {criterion!r} gives no number for some weight of {name}")
    return {name: found[name].to(weight.device) for name, weight in weights.items()}


def _not_negative(scores: Tensor) -> Tensor:
    """Scores in the same order, none negative: unchanged if none is, else replaced by distinct ranks."""
    if not bool((scores < 0).any()):
        return scores
    order = scores.sort(descending=True, stable=True).indices
    ranks = torch.empty(scores.shape, dtype=torch.float64, device=scores.device)
    ranks[order] = torch.arange(len(order) - 1, -1, -1, dtype=torch.float64, device=scores.device)
    return ranks


def largest(scores: Tensor, count: int) -> Tensor:
    """A mask of the shape of `scores`, True for exactly the `count` largest; among equals the lower index wins.

    A negative score excludes its weight.
    """
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    flat = scores.flatten()
    low, high = _bracket(flat, count)
    above = flat > high
    missing = count - int(torch.count_nonzero(above))
    between = (flat >= low).logical_xor_(above).nonzero().flatten()
    if not 0 <= missing <= len(between):  # the sample was wrong
        above.zero_()
        missing, between = count, (flat >= 0).nonzero().flatten()
    order = flat[between].sort(descending=True, stable=True).indices
    above[between[order[:missing]]] = True
    return above.view_as(scores)


def _bracket(flat: Tensor, count: int) -> tuple[float, float]:
    """Two scores that very likely enclose the `count`-th largest of `flat`, and few others.

    Sorting a hundredth of the scores takes less time than a partial sort of all, and takes no longer if most scores are
    equal, as those of pruned weights are.
    """
    sample = flat[::SAMPLED].sort(descending=True).values
    share = count / len(flat)
    place, margin = len(sample) * share, SIGMAS * math.sqrt(len(sample) * share * (1 - share)) + 1
    first, last = math.floor(place - margin), math.ceil(place + margin)
    low = max(0.0, float(sample[last])) if last < len(sample) else 0.0
    return low, float(sample[first]) if first >= 0 else math.inf


def split(mask: Tensor, like: Mapping[str, Tensor]) -> Masks:
    """Divide a flat mask over all layers into one mask for each layer."""
    parts = torch.split(mask, [layer.numel() for layer in like.values()])
    return {name: part.view(layer.shape) for part, (name, layer) in zip(parts, like.items(), strict=True)}


def permuted_within_layers(masks: Mapping[str, Tensor], generator: torch.Generator) -> Masks:
    """Permute each layer's mask; every layer keeps its count. Paper, appendix A.2."""
    return {name: _permuted(mask.flatten(), generator).view(mask.shape) for name, mask in masks.items()}


def permuted_globally(masks: Mapping[str, Tensor], generator: torch.Generator) -> Masks:
    """Permute the masks of all layers together; only the total count stays. Paper, section 3.3."""
    return split(_permuted(torch.cat([mask.flatten() for mask in masks.values()]), generator), masks)


def preserved(masks: Mapping[str, Tensor], generator: torch.Generator) -> Masks:
    """The masks unchanged: every layer keeps its count and positions. Paper, appendix A.2."""
    return dict(masks)


def random_global(layers: Mapping[str, Tensor], rule: Rule, level: int, generator: torch.Generator) -> Masks:
    """Random masks of the total count of `level`, as permuting any global mask gives. Paper, section 3.3."""
    total = sum(layer.numel() for layer in layers.values())
    mask = torch.arange(total) < round(total * rule.fraction(level))
    return split(_permuted(mask, generator), layers)


def _permuted(mask: Tensor, generator: torch.Generator) -> Tensor:
    return mask[torch.randperm(mask.numel(), generator=generator)]


def remaining(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of weights that each layer keeps."""
    return {name: int(mask.sum()) for name, mask in masks.items()}
