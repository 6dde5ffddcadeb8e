"""One global prune of VGG19 against PyTorch's own, which must come to the same mask."""

import time

import torch
from torch.nn.utils import prune

from benchmarks.measuring import alternating, network, ratios, spread
from engine import pruning
from engine.models import nets
from engine.recipes import Rule

ROUNDS = 5


def measure(quick: bool) -> dict[str, float]:
    """Seconds of both, on one thread, and their ratio. Raises AssertionError if the masks differ."""
    torch.set_num_threads(1)
    net = nets.initialise(network("vgg19"), "init", 0)
    timed = alternating(2 if quick else ROUNDS, ours=lambda: _ours(net), torch=lambda: _torchs(net)[0])
    same = pruning.magnitude(nets.prunable(net), None, Rule(), 1)
    theirs = _torchs(net)[1]
    assert all(torch.equal(mask, theirs[name]) for name, mask in same.items()), "the masks differ"
    return {
        **spread("ours, s", timed["ours"]),
        **spread("torch.nn.utils.prune.global_unstructured, s", timed["torch"]),
        **spread("torch's against ours", ratios(timed["torch"], timed["ours"])),
    }


def _ours(net: torch.nn.Module) -> float:
    began = time.perf_counter()
    pruning.magnitude(nets.prunable(net), None, Rule(), 1)
    return time.perf_counter() - began


def _torchs(net: torch.nn.Module) -> tuple[float, dict[str, torch.Tensor]]:
    parameters = [(net.get_submodule(name.removesuffix(".weight")), "weight") for name in nets.prunable(net)]
    began = time.perf_counter()
    prune.global_unstructured(parameters, prune.L1Unstructured, amount=0.2)
    seconds = time.perf_counter() - began
    masks = {
        f"{name}.weight": mod.weight_mask.bool() for name, mod in net.named_modules() if hasattr(mod, "weight_mask")
    }
    for module, name in parameters:
        prune.remove(module, name)  # type: ignore[no-untyped-call]
    return seconds, masks
