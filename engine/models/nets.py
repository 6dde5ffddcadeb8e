"""Building the networks, and which of their weights are prunable."""

import torch
from torch import Tensor, nn

from engine import streams
from engine.errors import InputError, unknown
from engine.recipes import Prunable

VGG = {
    "vgg-digits": (24, 24, "M", 48, 48),
    "vgg19": (
        64,
        64,
        "M",
        128,
        128,
        "M",
        256,
        256,
        256,
        256,
        "M",
        512,
        512,
        512,
        512,
        "M",
        512,
        512,
        512,
        512,
    ),
}


class Vgg(nn.Sequential):
    """3x3 convolutions with bias, each with batch norm and ReLU; global average pool; linear (section 3.2)."""

    def __init__(self, plan: tuple[int | str, ...], width: float, channels: int, classes: int) -> None:
        super().__init__()
        number = 0
        for step in plan:
            if isinstance(step, str):
                self.add_module(f"pool{number}", nn.MaxPool2d(2))
                continue
            number += 1
            size = _scaled(step, width)
            self.add_module(f"conv{number}", nn.Conv2d(channels, size, 3, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(size))
            self.add_module(f"relu{number}", nn.ReLU(inplace=True))
            channels = size
        _add_head(self, channels, classes)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without parameters: strided, new channels zero (He et al., option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.added = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, after, H / stride, W / stride)."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        return torch.relu(y + shortcut)


class ResNet20(nn.Sequential):
    """The CIFAR ResNet of He et al. 2016, section 4.2, with n = 3: 16, 32 and 64 channels."""

    def __init__(self, width: float, channels: int, classes: int) -> None:
        super().__init__()
        sizes = [_scaled(size, width) for size in (16, 32, 64)]
        self.add_module("conv", nn.Conv2d(channels, sizes[0], 3, padding=1, bias=False))
        self.add_module("bn", nn.BatchNorm2d(sizes[0]))
        self.add_module("relu", nn.ReLU(inplace=True))
        before = sizes[0]
        for stage, size in enumerate(sizes):
            for place in range(3):
                block = BasicBlock(before, size, stride=2 if stage and not place else 1)
                self.add_module(f"block{stage * 3 + place + 1}", block)
                before = size
        _add_head(self, before, classes)


def _add_head(net: nn.Sequential, channels: int, classes: int) -> None:
    net.add_module("average", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("output", nn.Linear(channels, classes))


def build(name: str, width: float, channels: int, classes: int) -> nn.Module:
    """The network `name` for images of `channels` channels, its weights not drawn yet (see `initialise`)."""
    if name in VGG:
        return Vgg(VGG[name], width, channels, classes)
    if name == "resnet20":
        return ResNet20(width, channels, classes)
    raise unknown("model", name, [*VGG, "resnet20"])


def initialise(model: nn.Module, stream: str, seed: int, head_stream: str = "head") -> nn.Module:
    """Draw fresh weights in place: Xavier normal for convolutions and the output layer, biases 0, batch norm 1 and 0.

    The output layer has a stream of its own, so that a network whose head is replaced for a target gets the same
    head at every level. Section 3.2.
    """
    draw = streams.generator(stream, seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_normal_(module.weight, generator=draw)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    head = model.get_submodule(output_layer(model))
    assert isinstance(head, nn.Linear)
    nn.init.xavier_normal_(head.weight, generator=streams.generator(head_stream, seed))
    nn.init.zeros_(head.bias)
    return model


def prunable(model: nn.Module, rule: Prunable = "conv") -> dict[str, Tensor]:
    """The prunable weights by name, in the order of the layers: convolution kernels, with the output layer if asked."""
    found: dict[str, Tensor] = {
        f"{name}.weight": module.weight for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    }
    if not found:
        raise InputError(f"{type(model).__name__} has no convolutions: there is nothing to prune")
    if rule == "conv+output":
        head = model.get_submodule(output_layer(model))
        assert isinstance(head, nn.Linear)
        found[f"{output_layer(model)}.weight"] = head.weight
    return found


def output_layer(model: nn.Module) -> str:
    """The name of the output layer: the last linear one."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise InputError(f"{type(model).__name__} has no linear layer to end in")
    return str(names[-1])


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))
