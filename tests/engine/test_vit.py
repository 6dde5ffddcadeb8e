"""The vision transformer: its size, what is drawn and pruned, and criteria that differentiate twice."""

import pytest
import torch

from engine.errors import InputError
from engine.models import catalog, nets
from engine.pruning import pruner
from engine.pruning.networks import Network
from engine.recipes import Rule


def test_it_has_the_size_of_deit_tiny_and_attention_is_prunable() -> None:
    model = nets.build("vit-tiny", 1.0, (3, 32, 32), 10)
    weights = nets.prunable(model, "conv+linear")
    layer = 192 * 3 * 192 + 192 * 192 + 2 * 192 * 768
    assert sum(weight.numel() for weight in weights.values()) == 3 * 16 * 192 + 12 * layer + 192 * 10
    assert sum(name.endswith("in_proj_weight") for name in weights) == 12
    kinds = nets.kinds(model)
    assert (list(kinds.values()).count("conv"), list(kinds)[-1]) == (1, "vit.heads.head.weight")
    assert kinds["vit.heads.head.weight"] == "output"
    assert catalog.find("vit-tiny").prunable == "conv+linear"


def test_every_parameter_is_constant_or_drawn_from_the_seed() -> None:
    states = [
        dict(nets.initialise(nets.build("vit-tiny", 0.1, (3, 8, 8), 10), "init", seed).named_parameters())
        for seed in (0, 0, 1)
    ]
    for name, first in states[0].items():
        assert torch.equal(first, states[1][name]), name
        constant = bool((first == first.flatten()[0]).all())
        assert constant or not torch.equal(first, states[2][name]), name
    assert not torch.equal(states[0]["vit.encoder.pos_embedding"], states[2]["vit.encoder.pos_embedding"])


@pytest.mark.parametrize("criterion", ["snip", "grasp", "synflow"])
def test_criteria_that_see_the_network_prune_attention_too(criterion: str) -> None:
    model = nets.initialise(nets.build("vit-tiny", 0.05, (3, 8, 8), 5), "init", 0)
    weights = nets.prunable(model, "conv+linear")
    draw = torch.Generator().manual_seed(0)
    batch = torch.randn(6, 3, 8, 8, generator=draw), torch.arange(6) % 5
    final = {name: weight.detach().clone() for name, weight in weights.items()}
    rule = Rule(criterion=criterion, prunable="conv+linear", rate=0.5)
    masks = pruner.prune(final, None, rule, 1, final, look=lambda: Network(model, weights, (3, 8, 8), lambda: [batch]))
    total = sum(weight.numel() for weight in weights.values())
    assert sum(pruner.remaining(masks).values()) == round(total / 2)
    attention = [mask for name, mask in masks.items() if name.endswith("in_proj_weight")]
    assert any(0 < int(mask.sum()) < mask.numel() for mask in attention)


def test_images_that_patches_do_not_divide_are_refused() -> None:
    for shape in ((3, 30, 30), (3, 32, 28)):
        with pytest.raises(InputError, match="vit-tiny needs square images whose side 4 divides"):
            catalog.check("vit-tiny", 1.0, shape)
    catalog.check("vit-tiny", 1.0, (3, 32, 32))
