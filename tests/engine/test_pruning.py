"""Masks, against PyTorch's own pruning and a version that sorts everything in Python."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from engine import streams
from engine.models import nets
from engine.pruning import pruner
from engine.recipes import Rule, Scope
from tests.trainings import SHAPES, weights

LEVELS = range(1, 31)


def by_sorting(layers: dict[str, Tensor], masks: dict[str, Tensor], keep: int) -> set[tuple[str, int]]:
    """The weights that remain: the largest of the present ones, ties by the lowest index over all layers."""
    places = [(name, i) for name, layer in layers.items() for i in range(layer.numel())]
    alive = [(n, i) for n, i in places if masks[n].flatten()[i]]
    order = {place: k for k, place in enumerate(places)}
    ranked = sorted(alive, key=lambda p: (-abs(float(layers[p[0]].flatten()[p[1]])), order[p]))
    return set(ranked[:keep])


def as_set(masks: dict[str, Tensor]) -> set[tuple[str, int]]:
    return {(name, int(i)) for name, mask in masks.items() for i in mask.flatten().nonzero().flatten()}


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_counts_are_exact_and_masks_nested_at_each_of_30_levels(scope: Scope, ties: bool, rate: float) -> None:
    rule = Rule(scope=scope, rate=rate)
    total = sum(value.numel() for value in weights().values())
    masks = None
    for level in LEVELS:
        layers = weights(level, ties)  # new weights at each level, as after training
        if masks is not None:
            layers = {name: value * masks[name] for name, value in layers.items()}
        found = pruner.prune(layers, masks, rule, level)
        counts = pruner.remaining(found)
        if scope == "global":
            assert sum(counts.values()) == round(total * (1 - rate) ** level)
        else:
            assert counts == {n: round(v.numel() * (1 - rate) ** level) for n, v in layers.items()}
        if masks is not None:
            assert as_set(found) <= as_set(masks)
        masks = found


@pytest.mark.parametrize("ties", [False, True])
def test_global_masks_are_those_of_sorting_everything(ties: bool) -> None:
    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()}
    total = sum(mask.numel() for mask in masks.values())
    for level in LEVELS:
        layers = {name: value * masks[name] for name, value in weights(level, ties).items()}
        expected = by_sorting(layers, masks, round(total * 0.8**level))
        masks = pruner.prune(layers, masks, Rule(), level)
        assert as_set(masks) == expected


def test_global_masks_are_those_of_torchs_global_unstructured() -> None:
    model = nets.initialise(nets.build("vgg19", 0.25, (3, 32, 32), 10), "init", 0)
    rule, masks = Rule(), None
    layers = nets.prunable(model)
    modules = [(model.get_submodule(name.removesuffix(".weight")), "weight") for name in layers]
    total = sum(weight.numel() for weight in layers.values())
    before = total
    for level in LEVELS:
        current = {name: weight.detach().clone() for name, weight in layers.items()}
        masks = pruner.prune(current, masks, rule, level)
        after = round(total * 0.8**level)
        prune.global_unstructured(modules, pruning_method=prune.L1Unstructured, amount=before - after)
        for (module, _), (name, mask) in zip(modules, masks.items(), strict=True):
            assert torch.equal(mask, module.get_buffer("weight_mask").bool()), (level, name)
        before = after


def test_a_pruned_weight_never_comes_back_even_when_all_that_is_left_is_zero() -> None:
    first = {"a": torch.tensor([True, False, True, False, True])}
    found = pruner.prune({"a": torch.zeros(5)}, first, Rule(rate=0.5), 1)
    assert found["a"].tolist() == [True, False, True, False, False]  # round(5 / 2) = 2, the lowest indices


def test_the_lower_index_wins_among_equals() -> None:
    assert pruner.largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 3).tolist() == [True, True, True, False]


@pytest.mark.parametrize("kept", [1, 999, 50_000, 99_000, 100_000])
@pytest.mark.parametrize("kind", ["spread", "ties", "sampled", "pruned"])
def test_the_largest_of_many_are_those_of_a_stable_sort(kind: str, kept: int) -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(100_000, generator=draw)
    if kind == "ties":
        scores = (scores * 4).round()
    if kind == "sampled":  # the sampled part differs from the rest
        scores[:: pruner.SAMPLED] += 10
    if kind == "pruned":
        scores[torch.rand(100_000, generator=draw) < 0.9] = -1.0
        kept = min(kept, int((scores >= 0).sum()))
    expected = torch.zeros(100_000, dtype=torch.bool)
    expected[scores.sort(descending=True, stable=True).indices[:kept]] = True
    assert torch.equal(pruner.largest(scores, kept), expected)


def test_a_layer_and_a_whole_net_may_be_left_without_weights() -> None:
    layers = {"small": torch.full((4,), 0.1), "large": torch.arange(1.0, 13.0)}
    found = pruner.prune(layers, None, Rule(), 4)  # round(16 x 0.41) = 7
    assert pruner.remaining(found) == {"small": 0, "large": 7}
    found = pruner.prune(layers, None, Rule(), 30)
    assert pruner.remaining(found) == {"small": 0, "large": 0}


def test_pruning_compares_in_float64_as_in_float32() -> None:
    layers = weights()
    single = pruner.prune(layers, None, Rule(), 3)
    double = pruner.prune({name: value.double() for name, value in layers.items()}, None, Rule(), 3)
    assert as_set(single) == as_set(double)


def test_permutations_keep_the_counts_they_promise() -> None:
    masks = pruner.prune(weights(), None, Rule(), 5)
    local = pruner.permuted_within_layers(masks, streams.generator("x", 0))
    pooled = pruner.permuted_globally(masks, streams.generator("x", 0))
    assert pruner.remaining(local) == pruner.remaining(masks)
    assert as_set(local) != as_set(masks)
    assert len(as_set(pooled)) == len(as_set(masks))
    assert pruner.remaining(pooled) != pruner.remaining(masks)


def test_permutations_are_uniform() -> None:
    mask = {"a": torch.tensor([True, True, False, False, False, False])}
    hits = torch.zeros(6)
    for seed in range(3000):
        hits += pruner.permuted_within_layers(mask, streams.generator("x", seed))["a"]
    assert ((hits - 1000) ** 2 / 1000).sum() < 30  # about chi-square with 5 degrees; beyond 1e-4


def test_a_chainless_global_permutation_has_the_chains_exact_count() -> None:
    layers: dict[str, Tensor] = dict(nn.ParameterDict({k: nn.Parameter(v) for k, v in weights().items()}).items())
    total = sum(value.numel() for value in layers.values())
    counts = [len(as_set(pruner.random_global(layers, Rule(), n, streams.generator("x", n)))) for n in range(31)]
    assert counts == [round(total * 0.8**n) for n in range(31)]
    assert all(a > b for a, b in pairwise(counts[:20]))
