"""The built-in networks, with layers named as in their papers. `nets` builds them by name."""

from itertools import pairwise

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]  # channels, height, width
GREY = 28  # pixels a side of MNIST


def scaled(channels: int, width: float) -> int:
    """The number of channels under a width multiplier, at least one."""
    return max(1, round(channels * width))


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
            size = scaled(step, width)
            self.add_module(f"conv{number}", nn.Conv2d(channels, size, 3, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(size))
            self.add_module(f"relu{number}", nn.ReLU(inplace=True))
            channels = size
        _add_head(self, channels, classes)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut without parameters: strided, new channels zero (He et al., option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.added = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, after, H / stride, W / stride)."""
        y = self.bn2(self.conv2(torch.relu_(self.bn1(self.conv1(x)))))
        # Takes every second pixel. A slice would do so, too, but its gradient is not in channels_last, and then layers
        # of the backward pass take 25 times as long.
        shortcut = x if self.stride == 1 else nn.functional.avg_pool2d(x, 1, self.stride)
        if self.added:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        return torch.relu_(y.add_(shortcut))


class ResNet20(nn.Sequential):
    """The CIFAR ResNet of He et al. 2016, section 4.2, with n = 3: 16, 32 and 64 channels."""

    def __init__(self, width: float, channels: int, classes: int) -> None:
        super().__init__()
        sizes = [scaled(size, width) for size in (16, 32, 64)]
        self.add_module("conv", nn.Conv2d(channels, sizes[0], 3, padding=1, bias=False))
        self.add_module("bn", nn.BatchNorm2d(sizes[0]))
        self.add_module("relu", nn.ReLU(inplace=True))
        before = sizes[0]
        for stage, size in enumerate(sizes):
            for index in range(3):
                block = BasicBlock(before, size, stride=2 if stage and not index else 1)
                self.add_module(f"block{stage * 3 + index + 1}", block)
                before = size
        _add_head(self, before, classes)


def _add_head(net: nn.Sequential, channels: int, classes: int) -> None:
    net.add_module("average", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("output", nn.Linear(channels, classes))


class ConvN(nn.Sequential):
    """Conv-2, -4 and -6 (Frankle & Carbin 2019, figure 2): `pairs` of 3x3 convolutions of 64, 128 and 256 channels.

    A max pool follows each pair, and linear layers of 256, 256 and `classes` follow all. No batch norm.
    """

    def __init__(self, pairs: int, width: float, shape: Shape, classes: int) -> None:
        super().__init__()
        before, *side = shape
        for pair, channels in enumerate((64, 128, 256)[:pairs]):
            size = scaled(channels, width)
            for number in (2 * pair + 1, 2 * pair + 2):
                self.add_module(f"conv{number}", nn.Conv2d(before, size, 3, padding=1))
                self.add_module(f"relu{number}", nn.ReLU(inplace=True))
                before = size
            self.add_module(f"pool{pair + 1}", nn.MaxPool2d(2))
            side = [pixels // 2 for pixels in side]
        hidden = scaled(256, width)
        _add_linear(self, [before * side[0] * side[1], hidden, hidden], classes)


class LeNet5(nn.Sequential):
    """LeNet-5 (LeCun et al. 1998, section II.B) with ReLU, max pools and a linear output layer."""

    def __init__(self, width: float, shape: Shape, classes: int) -> None:
        super().__init__()
        before, *side = shape
        for number, channels in enumerate((6, 16), 1):
            size = scaled(channels, width)
            self.add_module(f"conv{number}", nn.Conv2d(before, size, 5))
            self.add_module(f"relu{number}", nn.ReLU(inplace=True))
            self.add_module(f"pool{number}", nn.MaxPool2d(2))
            before, side = size, [(pixels - 4) // 2 for pixels in side]
        _add_linear(self, [before * side[0] * side[1], scaled(120, width), scaled(84, width)], classes)


class LeNet300(nn.Sequential):
    """LeNet-300-100 (LeCun et al. 1998, section III.C.4; Frankle & Carbin 2019, figure 2) with ReLU.

    Its input is the mean over an image's channels and, of 32x32 pixels, the inner 28x28. For MNIST, which is repeated
    and padded to 3x32x32, these are the original 784 pixels.
    """

    def __init__(self, width: float, shape: Shape, classes: int) -> None:
        super().__init__()
        self.add_module("grey", _Grey())
        inputs = GREY * GREY if shape[1:] == (32, 32) else shape[1] * shape[2]
        _add_linear(self, [inputs, scaled(300, width), scaled(100, width)], classes)


class _Grey(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W), or of 32x32 pixels to (N, 1, 28, 28)."""
        edge = (32 - GREY) // 2 if x.shape[2:] == (32, 32) else 0
        return x[:, :, edge : x.shape[2] - edge, edge : x.shape[3] - edge].mean(1, keepdim=True)


def _add_linear(net: nn.Sequential, sizes: list[int], classes: int) -> None:
    """Add hidden linear layers with the inputs and outputs `sizes`, each with ReLU, and an output layer."""
    net.add_module("flatten", nn.Flatten())
    for number, (before, after) in enumerate(pairwise(sizes), 1):
        net.add_module(f"linear{number}", nn.Linear(before, after))
        net.add_module(f"linear_relu{number}", nn.ReLU(inplace=True))
    net.add_module("output", nn.Linear(sizes[-1], classes))


class VitTiny(nn.Module):
    """torchvision's VisionTransformer in the size of DeiT-Tiny (Touvron et al. 2021, table 1), with patches of 4x4.

    12 layers of 3 heads, 192 channels times `width`, for square images whose side 4 divides.
    """

    def __init__(self, width: float, shape: Shape, classes: int) -> None:
        super().__init__()
        from torchvision import models  # takes a second to import

        size, heads = 4, 3  # of patches, of each layer
        hidden = heads * scaled(64, width)
        self.vit = models.VisionTransformer(shape[1], size, 12, heads, hidden, 4 * hidden, num_classes=classes)
        self.vit.conv_proj = nn.Conv2d(shape[0], hidden, size, size)

    def reset_parameters(self) -> None:
        """Draw the position embedding as torchvision does: it is a parameter of no layer that could reset it."""
        nn.init.normal_(self.vit.encoder.pos_embedding, std=0.02)
        nn.init.zeros_(self.vit.class_token)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, classes)."""
        logits: Tensor = self.vit(x)
        return logits


def torchvision_resnet(name: str, width: float, channels: int, classes: int, small_stem: bool) -> nn.Module:
    """torchvision's ResNet `name`, with channels multiplied by `width`, for images of `channels` channels.

    With `small_stem`, the first convolution is 3x3 of stride 1 without a max pool after it, as usual for CIFAR.
    """
    from torchvision import models  # takes a second to import

    with torch.device("meta"):  # its layers are replaced below
        net: nn.Module = getattr(models, name)(num_classes=classes)
    for path, module in list(net.named_modules()):
        match module:
            case nn.Conv2d():
                stem = path == "conv1"
                before = channels if stem else scaled(module.in_channels, width)
                kernel, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
                if stem and small_stem:
                    kernel, stride, padding = 3, 1, 1
                after = scaled(module.out_channels, width)
                new: nn.Module = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
            case nn.BatchNorm2d():
                new = nn.BatchNorm2d(scaled(module.num_features, width))
            case nn.Linear():
                new = nn.Linear(scaled(module.in_features, width), classes)
            case nn.MaxPool2d() if small_stem:
                new = nn.Identity()
            case _:
                continue
        net.set_submodule(path, new)
    return net
