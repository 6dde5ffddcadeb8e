"""One global prune of VGG19 against PyTorch's, which must give the same mask: a chain's first and tenth."""

import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.utils import prune

from benchmarks.measuring import alternating, network, ratios, spread
from engine.models import nets
from engine.pruning import pruner
from engine.pruning.pruner import Masks
from engine.recipes import Rule

ROUNDS = 5
LEVELS = {"first": 1, "tenth": 10}


def measure(quick: bool) -> dict[str, float]:
    """Seconds of both, on one thread, and their ratio. Raises AssertionError if the masks differ."""
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    for name, level in LEVELS.items():
        prunes = Prunes(level)
        (_, ours), (_, theirs) = prunes.ours(), prunes.torchs()
        assert all(torch.equal(mask, theirs[layer]) for layer, mask in ours.items()), "the masks differ"
        timed = alternating(
            2 if quick else ROUNDS,
            ours=partial(_seconds, prunes.ours),
            torch=partial(_seconds, prunes.torchs),
        )
        found |= spread(f"{name}, ours, s", timed["ours"])
        found |= spread(f"{name}, torch.nn.utils.prune.global_unstructured, s", timed["torch"])
        found |= spread(f"{name}, torch's against ours", ratios(timed["torch"], timed["ours"]))
    return found


def _seconds(pruned: Callable[[], tuple[float, Masks]]) -> float:
    return pruned()[0]


class Prunes:
    """A network pruned by magnitude to the level before; both ways prune it to a level without changing it."""

    def __init__(self, level: int) -> None:
        self.net, self.level, self.rule = nets.initialise(network("vgg19"), "init", 0), level, Rule()
        self.weights = nets.prunable(self.net)
        self.before: Masks | None = None
        if level > 1:
            self.before = pruner.prune(self.weights, None, self.rule, level - 1)
            with torch.no_grad():
                for name, mask in self.before.items():
                    self.weights[name].masked_fill_(~mask, 0.0)

    def ours(self) -> tuple[float, Masks]:
        """Seconds of the engine's pruning, and its masks."""
        began = time.perf_counter()
        found = pruner.prune(self.weights, self.before, self.rule, self.level)
        return time.perf_counter() - began, found

    def torchs(self) -> tuple[float, Masks]:
        """Seconds of PyTorch's pruning, and its masks, on a copy of the network with the masks of the level before."""
        net = copy.deepcopy(self.net)
        modules = {name: net.get_submodule(name.removesuffix(".weight")) for name in self.weights}
        for name, mask in (self.before or {}).items():
            prune.custom_from_mask(modules[name], "weight", mask)  # type: ignore[no-untyped-call]
        pairs = [(module, "weight") for module in modules.values()]
        total = sum(weight.numel() for weight in self.weights.values())
        before, after = (round(total * self.rule.fraction(level)) for level in (self.level - 1, self.level))
        began = time.perf_counter()
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=before - after)
        seconds = time.perf_counter() - began
        return seconds, {name: module.get_buffer("weight_mask").bool() for name, module in modules.items()}
