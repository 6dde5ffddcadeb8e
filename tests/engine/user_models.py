"""User models for tests: a source, and the probe's verdict on one."""

from pathlib import Path

from engine.models import probe
from engine.models.catalog import End, NetworkFacts

NET = """
from torch import nn

def small(channels, classes, width=1.0):
    size = round(8 * width)
    return nn.Sequential(
        nn.Conv2d(channels, size, 3, padding=1), nn.BatchNorm2d(size), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(size, classes))
"""
DIGITS = End((1, 8, 8), 10)
HEAD = "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))"
CONV = "nn.Sequential(nn.Conv2d(1, 4, 3), " + HEAD


def examine(code: str, *ends: End, prunable: str = "conv", width: float = 1.0) -> NetworkFacts:
    """The probe's verdict on `make`, defined by `code` in a module."""
    Path("given.py").write_text("import torch\nfrom torch import nn\n" + code)
    return probe.examine("given:make", width, list(ends) or [DIGITS], prunable)  # type: ignore[arg-type]
