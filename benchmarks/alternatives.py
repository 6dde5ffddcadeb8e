"""Alternatives that were tried and are not used: torch.compile, replicates in one grouped network, batch norm folded in
evaluation, and a plain form of ResNet-20's blocks.
"""

import copy
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.measuring import CLASSES, CPU, SIDE, OurLoop, alternating, clock, pictures, ratios, spread
from engine.models import nets
from engine.models.architectures import BasicBlock, Shape
from engine.recipes import Profile
from engine.training import profiles
from engine.training.loop import evaluate

BATCH = 128
STEPS = {"resnet20": 8, "vgg19": 2}  # in an epoch that is compiled
REPLICATES = 6
PASSES = 8
GROUPED: dict[str, tuple[float, Shape]] = {
    "vgg-digits": (1.0, (1, 8, 8)),
    "vgg11": (0.125, (3, SIDE, SIDE)),
}  # width, and an image's shape
FOLDED = {"resnet20": 1000, "vgg19": 250, "resnet50": 1000}  # test images
PROFILES: tuple[Profile, ...] = ("exact", "fast")


def measure(quick: bool) -> dict[str, float]:
    """Each against the code in use, on the first CUDA device, else on one thread; `--quick` compiles nothing."""
    device = torch.device("cuda:0") if torch.cuda.is_available() else CPU
    rounds = 1 if quick else 5
    found: dict[str, float] = {}
    compiler = os.environ.get("CXX", "g++")
    if not quick and shutil.which(compiler):
        found |= _compiled(device, rounds)
    else:
        print(f"torch.compile was not measured: --quick, or no {compiler} here", file=sys.stderr)
    found |= _as_written_first(device, rounds)
    models = 1 if quick else None  # of each
    for model, (width, shape) in list(GROUPED.items())[:models]:
        for profile in PROFILES:
            found |= _grouped(model, width, shape, profile, device, rounds)
    for model, images in list(FOLDED.items())[:models]:
        found |= _folded(model, images, device, rounds)
    return found


def _compiled(device: torch.device, rounds: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for model, steps in STEPS.items():
        ours, compiled = (OurLoop(model, pictures(BATCH * steps, 8), BATCH, device) for _ in range(2))
        ours.pace()
        compiled.state.model.compile()
        began = clock(device)
        compiled.pace()
        found[f"{model}, seconds of the first compiled epoch"] = clock(device) - began
        timed = alternating(rounds, ours=ours.pace, compiled=compiled.pace)
        found |= spread(f"{model}, compiled against ours", ratios(timed["compiled"], timed["ours"]))
    return found


class _Written(BasicBlock):
    """The block with its shortcut as a slice, and no operation in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        return torch.relu(y + shortcut)


def _as_written_first(device: torch.device, rounds: int) -> dict[str, float]:
    ours, written = (OurLoop("resnet20", pictures(BATCH * STEPS["resnet20"], 8), BATCH, device) for _ in range(2))
    for module in written.state.model.modules():
        if isinstance(module, BasicBlock):
            module.__class__ = _Written
    ours.pace()
    written.pace()
    timed = alternating(rounds, ours=ours.pace, written=written.pace)
    return spread("resnet20, ours against blocks as one writes them first", ratios(timed["ours"], timed["written"]))


def _grouped(
    model: str, width: float, shape: Shape, profile: Profile, device: torch.device, rounds: int
) -> dict[str, float]:
    """Forward and backward passes of replicates as groups of one network, against one after the other."""
    profiles.configure(profile, device)
    layout = profiles.memory_format(profile)
    one = nn.Sequential(*list(nets.build(model, width, shape, CLASSES).children())[:-1])  # but the output layer
    channels, *side = shape
    images = torch.randn(BATCH, channels * REPLICATES, *side, device=device).to(memory_format=layout)
    paces: dict[str, Callable[[], float]] = {}
    for name, network, times in (("alone", one, REPLICATES), ("grouped", _replicated(one), 1)):
        network.to(device, memory_format=layout)  # type: ignore[call-overload]
        part = images[:, : images.shape[1] // times].contiguous(memory_format=layout)
        paces[name] = partial(_passes, network, part, times, profile)
        paces[name]()
    timed = alternating(rounds, **paces)
    what = f"{model} x {width:g}, {profile}: {REPLICATES} as groups against one after another"
    return spread(what, ratios(timed["grouped"], timed["alone"]))


def _replicated(network: nn.Sequential) -> nn.Sequential:
    """Replicates of a network without branches, as groups of channels of one."""
    layers: list[nn.Module] = []
    for layer in network:
        match layer:
            case nn.Conv2d():
                before, after = (REPLICATES * channels for channels in (layer.in_channels, layer.out_channels))
                layers.append(nn.Conv2d(before, after, layer.kernel_size[0], padding=1, groups=REPLICATES))
            case nn.BatchNorm2d():
                layers.append(nn.BatchNorm2d(REPLICATES * layer.num_features))
            case _:
                layers.append(copy.deepcopy(layer))
    return nn.Sequential(*layers)


def _passes(network: nn.Module, images: torch.Tensor, times: int, profile: Profile) -> float:
    """Images per second for each replicate, if training all of them takes this number of passes."""
    began = clock(images.device)
    for _ in range(PASSES * times):
        with profiles.autocast(profile, images.device):
            loss = network(images).float().sum()
        loss.backward()
    return PASSES * len(images) / (clock(images.device) - began)


def _folded(model: str, images: int, device: torch.device, rounds: int) -> dict[str, float]:
    loop = OurLoop(model, pictures(BATCH, images), BATCH, device)
    loop.pace()
    timed = alternating(
        rounds, ours=partial(_evaluation, loop, lambda network: network), folded=partial(_evaluation, loop, _fold)
    )
    return spread(f"{model}, evaluation with batch norm folded against ours", ratios(timed["folded"], timed["ours"]))


def _evaluation(loop: OurLoop, prepared: Callable[[nn.Module], nn.Module]) -> float:
    """Test images per second that a network classifies, including its preparation."""
    began = clock(loop.data.device)
    state = replace(loop.state, model=prepared(loop.state.model))
    evaluate(state, loop.data, loop.data.test, loop.wanted, lambda _: None)
    return len(loop.data.test) / (clock(loop.data.device) - began)


def _fold(network: nn.Module) -> nn.Module:
    """A copy for evaluation with each batch norm folded into the convolution before it."""
    network = copy.deepcopy(network).eval()
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    for (name, module), (after, norm) in pairwise(leaves):
        if isinstance(module, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            network.set_submodule(name, fuse_conv_bn_eval(module, norm))
            network.set_submodule(after, nn.Identity())
    return network
