"""`cockpit models`, and user models on the command line."""

import json
from pathlib import Path

import pytest

from engine.models.catalog import MODELS
from tests.conftest import Cockpit
from tests.engine.user_models import NET

SMALL = ("--source", "digits-a", "--levels", 1, "--replicates", 1, "--epochs", 1)


def test_every_network_is_listed_with_its_defaults(cockpit: Cockpit) -> None:
    lines = cockpit("models", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(MODELS)
    found = {one["name"]: one for one in json.loads(cockpit("models", "list", "--json").stdout)}
    assert (found["resnet50"]["epochs"], found["resnet50"]["milestones"]) == (90, [50, 65, 80])


def test_resnet50_has_the_published_parameters_and_multiply_adds(cockpit: Cockpit) -> None:
    done = cockpit("models", "show", "resnet50", "--size", 224, "--classes", 1000, "--json")
    found = json.loads(done.stdout)
    assert (found["parameters"], found["prunable"]) == (25_557_032, 23_454_912)
    assert found["flops"] / 2 == pytest.approx(4.09e9, rel=0.001)  # from torchvision's page of the weights
    assert sum(layer["flops"] for layer in found["layers"]) == found["flops"]
    assert found["layers"][0]["output"] == [64, 112, 112]
    assert found["output_layer"] == "fc"


def test_a_network_is_shown_layer_by_layer(cockpit: Cockpit) -> None:
    done = cockpit("models", "show", "lenet-5", "--size", "1x32x32", "--prunable", "conv+linear")
    *rows, total = done.stdout.splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["conv1", "conv2", "linear1", "linear2", "output"]
    # 28x28 outputs of 6 5x5 kernels, 10x10 outputs of 16 6x5x5 ones, then 400 x 120, 120 x 84, 84 x 10
    multiply_adds = 784 * 6 * 25 + 100 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    assert f"({multiply_adds / 1000:.2f} k multiply-adds)" in total
    assert "61,706 parameters, 61,470 prunable (conv+linear)" in total


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet5",), "did you mean 'resnet50'?"),
        (("vgg19", "--size", "8"), "needs images of at least 16 pixels a side"),
        (("vgg19", "--size", "32x32"), "--size '32x32' is not a size: give a side, as 224"),
        (("vgg19", "--prunable", "all"), "unknown --prunable 'all'"),
        (("mynets:small",), "module 'mynets' of model mynets:small was not found"),
        (("resnet-18",), "did you mean 'resnet18'?"),
        (("torchvision.models:resnet18",), "`def net(classes): return resnet18(num_classes=classes)`"),
        (("torchvision.models:ResNet",), "`def net(classes): return ResNet(num_classes=classes)`"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(cockpit: Cockpit, arguments: tuple[str, ...], said: str) -> None:
    done = cockpit("models", "show", *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert said in done.stderr


def test_ones_own_model_is_queued_by_its_import_path(cockpit: Cockpit, tmp_path: Path) -> None:
    (tmp_path / "mynets.py").write_text("print('hello')\n" + NET)
    shown = cockpit("models", "show", "mynets:small", "--size", "1x8x8", "--json")
    assert json.loads(shown.stdout)["prunable"] == 72
    assert cockpit("queue", "add", *SMALL, "--model", "mynets:small").returncode == 0
    (experiment,) = json.loads(cockpit("queue", "list", "--json").stdout)
    assert experiment["name"] == "digits-a-mynets.small"
    again = cockpit("queue", "add", *SMALL, "--model", "mynets:small")
    assert "0 new" in again.stdout
    (tmp_path / "mynets.py").write_text(NET)
    changed = cockpit("queue", "add", *SMALL, "--model", "mynets:small")
    assert changed.returncode == 2
    assert "exists with another definition (model 'mynets:small@" in changed.stderr


def test_an_own_model_that_fails_leaves_nothing_behind(cockpit: Cockpit, tmp_path: Path) -> None:
    (tmp_path / "mynets.py").write_text("def small(classes): raise ValueError('no luck')")
    done = cockpit("queue", "add", *SMALL, "--model", "mynets:small")
    assert done.returncode == 2
    assert done.stderr == (
        "cockpit: error: model mynets:small(classes=10) raised ValueError: no luck (mynets.py, line 1)\n"
    )
    assert not (tmp_path / "experiments.db").exists()


def test_an_own_model_stands_in_an_experiment_file_and_is_printed_as_one(cockpit: Cockpit, tmp_path: Path) -> None:
    (tmp_path / "mynets.py").write_text(NET)
    sizes = "levels = 1\nreplicates = 1\nepochs = 1\n"
    text = f'[[experiment]]\nname = "{{source}}-{{model}}"\nsource = "digits-a"\nmodel = "mynets:small"\n{sizes}'
    (tmp_path / "study.toml").write_text(text)
    assert cockpit("queue", "add", "study.toml").stdout.startswith("digits-a-mynets.small: ")
    (tmp_path / "again.toml").write_text(cockpit("queue", "show", "digits-a-mynets.small", "--toml").stdout)
    assert " 0 new" in cockpit("queue", "add", "again.toml").stdout
    (tmp_path / "mynets.py").unlink()
    refused = cockpit("queue", "add", "again.toml")
    assert refused.returncode == 2
    assert "again.toml, line 5, model: module 'mynets' of model mynets:small was not found" in refused.stderr
