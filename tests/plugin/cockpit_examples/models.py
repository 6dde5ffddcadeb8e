"""A model."""

from torch import nn


def one_layer(width: float, channels: int, classes: int) -> nn.Module:
    """One convolution and the output layer."""
    size = round(8 * width)
    return nn.Sequential(
        nn.Conv2d(channels, size, 3, padding=1, bias=False),
        nn.BatchNorm2d(size),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(size, classes),
    )
