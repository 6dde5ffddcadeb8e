"""Examining a network takes little memory, or ends with an error that names the limit."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.machine import memory
from engine.models import nets, probe
from engine.models.catalog import MODELS, WIDTH, End
from tests.conftest import Cockpit

assert WIDTH.most is not None
WIDEST = WIDTH.most
LARGE = """
import torch
from torch import nn

def make(classes, width):
    head = nn.Linear(4, classes)
    head.more = TAKE
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
"""


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("width", [1.0, WIDEST])
def test_a_built_in_model_is_described_without_its_weights(name: str, width: float) -> None:
    side = max(8, MODELS[name].smallest_side)
    ends = [End((3, side, side), 10), End((3, side, side), 7)]
    found = probe.examine(name, width, ends, MODELS[name].prunable)
    with torch.device("meta"):
        model = nets.build(name, width, ends[0].shape, 10)
    assert found.parameters == sum(value.numel() for value in model.parameters())
    assert found.flops > 0


def test_commands_take_models_of_any_width(cockpit: Cockpit) -> None:
    assert cockpit("models", "show", "vgg19", "--width", WIDEST).returncode == 0
    add = ("queue", "add", "--source", "digits", "--model", "resnet20", "--width", WIDEST, "--levels", 0)
    assert cockpit(*add).returncode == 0
    beyond = cockpit(*add[:-3], 1000, "--levels", 0)
    assert (beyond.returncode, beyond.stderr.count("\n")) == (2, 1)
    assert "--width 1000 is out of range" in beyond.stderr


@pytest.mark.parametrize("take", ["torch.zeros(10**13)", "bytearray(10**13)", "nn.Linear(10**7, 10**6)"])
def test_a_persons_own_model_that_is_too_large_ends_in_one_line(cockpit: Cockpit, tmp_path: Path, take: str) -> None:
    (tmp_path / "large.py").write_text(LARGE.replace("TAKE", take))
    found = cockpit("models", "show", "large:make", "--size", "1x8x8")
    assert found.returncode == 2
    assert found.stderr.startswith("cockpit: error: model large:make needs more memory than it may take here (")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("take", ["bytearray(2**20)", "1 / 0"])
def test_other_errors_under_the_limit_stay_what_they_are(take: str) -> None:
    script = f"from engine.machine import memory\nwith memory.limited('it'): {take}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ("ZeroDivisionError" in done.stderr) == (take == "1 / 0")


def test_free_memory_is_known() -> None:
    assert 0 < memory.free() < 2**50
