"""A network's definition as a file: it builds the same network without cockpit and engine."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import InputError
from engine.models import catalog, definition, nets, user_model

# Imports each module that loads a ticket, with the project's packages out of reach.
ALONE = """
import importlib, json, pathlib, sys, torch
sys.modules["engine"] = sys.modules["cockpit"] = None
found = {}
for file in sorted(pathlib.Path().glob("load_*.py")):
    module = importlib.import_module(file.stem)
    net = module.load().eval()
    with torch.no_grad():
        out = net(torch.ones(2, *module.SHAPE))
    found[file.stem] = [type(net).__module__, out.flatten().tolist()]
print(json.dumps(found))
"""
OWN = """
from torch import nn
from parts.blocks import block

def small(classes, channels, width=1.0):
    return nn.Sequential(block(channels, round(8 * width)), nn.Flatten(), nn.Linear(round(8 * width) * 36, classes))
"""
BLOCKS = "from torch import nn\n\ndef block(a, b):\n    return nn.Sequential(nn.Conv2d(a, b, 3), nn.ReLU())\n"


def alone(folder: Path) -> dict[str, tuple[str, list[float]]]:
    """The module of the network's class, and the network's output for two images of ones, by module."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: (module, out) for name, (module, out) in json.loads(done.stdout).items()}


def exported(name: str, shape: tuple[int, int, int], folder: Path, source: str = "") -> list[float]:
    """Write a network with its definition; what the network makes of two images of ones, half of its weights pruned."""
    torch.manual_seed(0)
    net = nets.initialise(nets.build(name, 0.25, shape, 10, source), "test", 0).eval()
    masks = {weight: torch.rand_like(value) < 0.5 for weight, value in nets.prunable(net).items()}
    file = f"{name.partition(':')[0]}.safetensors"
    save_file({**net.state_dict(), **{f"mask/{weight}": mask for weight, mask in masks.items()}}, folder / file)
    definition.write(folder, definition.files(name, 0.25, shape, 10, source, file, f"Test of {name}"))
    with torch.no_grad():
        for weight, mask in masks.items():
            net.get_parameter(weight).mul_(mask)
        out: list[float] = net(torch.ones(2, *shape)).flatten().tolist()
    return out


@pytest.mark.slow
def test_every_network_is_the_same_without_cockpit(tmp_path: Path) -> None:
    expected = {}
    for name, model in catalog.MODELS.items():
        side = max(model.smallest_side, 8)
        expected["load_" + name.replace("-", "_")] = exported(name, (3, side, side), tmp_path)
    found = alone(tmp_path)
    assert found.keys() == expected.keys()
    for name, (module, out) in found.items():
        assert not module.startswith(("engine", "cockpit"))
        assert out == pytest.approx(expected[name], rel=1e-3, abs=1e-4), name


def test_a_persons_own_model_comes_with_its_source(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    (source / "parts").mkdir(parents=True)
    place.mkdir()
    (source / "mine.py").write_text(OWN)
    (source / "parts" / "__init__.py").write_text("")
    (source / "parts" / "blocks.py").write_text(BLOCKS)
    (source / "other.py").write_text("")
    try:
        expected = exported("mine:small", (1, 8, 8), place, str(source))
        written = {str(path.relative_to(place)) for path in place.rglob("*.py")}
        assert written == {"load_mine.py", "mine.py", "parts/__init__.py", "parts/blocks.py"}
        assert alone(place)["load_mine"][1] == pytest.approx(expected, abs=1e-5)
        (place / "mine.py").write_text("theirs")
        with pytest.raises(InputError, match=r"mine.py is not the source of this model: export to another folder"):
            exported("mine:small", (1, 8, 8), place, str(source))
    finally:
        user_model.put_back()
    assert (place / "mine.py").read_text() == "theirs"


@pytest.mark.parametrize("name", ['x""" + exit(3) + """', "x\\", "x\nimport nothing", "'''", "{call}"])
def test_what_a_ticket_is_called_elsewhere_never_becomes_code(name: str) -> None:
    ((file, text),) = definition.files("vgg-digits", 0.25, (1, 8, 8), 10, "", f"{name}.safetensors", name).items()
    assert file.removesuffix(".py").isidentifier()
    (plain,) = definition.files("vgg-digits", 0.25, (1, 8, 8), 10, "", "plain.safetensors", "plain").values()
    kinds = [[type(node) for node in ast.walk(ast.parse(one))] for one in (text, plain)]
    assert kinds[0] == kinds[1]
