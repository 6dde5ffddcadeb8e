"""The networks are those of the papers."""

import math

import pytest
import torch
from torch import nn

from engine.errors import InputError
from engine.models import architectures, catalog, nets

CIFAR = (3, 32, 32)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_vgg19_has_the_papers_20018880_prunable_weights() -> None:
    model = nets.build("vgg19", 1.0, CIFAR, 10)
    layers = nets.prunable(model)
    assert len(layers) == 16
    assert sum(weight.numel() for weight in layers.values()) == 20_018_880
    first = model.get_submodule("conv1")
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    assert (first.weight.numel(), first.bias.numel()) == (1_728, 64)
    with_output = nets.prunable(model, "conv+output")
    assert sum(weight.numel() for weight in with_output.values()) == 20_018_880 + 5_120
    assert nets.output_layer(model) == "output"


def test_vgg19_is_the_papers_sequence_of_layers() -> None:
    names = [type(module).__name__ for module in nets.build("vgg19", 1.0, CIFAR, 10)]
    block = ["Conv2d", "BatchNorm2d", "ReLU"]
    expected = []
    for convolutions in (2, 2, 4, 4, 4):
        expected += block * convolutions + ["MaxPool2d"]
    assert names == [*expected[:-1], "AdaptiveAvgPool2d", "Flatten", "Linear"]


def test_resnet20_has_the_269722_parameters_of_its_paper() -> None:
    # He et al. 2016, table 6: 0.27M, with parameter-free shortcuts
    assert parameters(nets.build("resnet20", 1.0, CIFAR, 10)) == 269_722


def test_resnet20_halves_the_image_twice_and_passes_the_input_around_its_blocks() -> None:
    block = architectures.BasicBlock(4, 8, stride=2)
    for name, parameter in block.named_parameters():
        if name.startswith("conv"):
            nn.init.zeros_(parameter)
    x = torch.rand(2, 4, 8, 8)
    y = block.eval()(x)
    assert y.shape == (2, 8, 4, 4)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 6:].any()


@pytest.mark.parametrize("name", catalog.MODELS)
def test_every_model_in_the_catalog_is_built_and_takes_its_smallest_image(name: str) -> None:
    side = catalog.MODELS[name].smallest_side
    model = nets.initialise(nets.build(name, 0.25, (3, side, side), 7), "init", 0)
    assert model(torch.rand(3, 3, side, side)).shape == (3, 7)


def test_a_last_batch_of_one_image_of_one_pixel_is_refused() -> None:
    with pytest.raises(InputError, match=r"--batch-size 64 leaves a last batch of one image.*e\.g\. 65"):
        catalog.check_batches("vgg-digits", 129, 64, (1, 2, 2))
    catalog.check_batches("vgg-digits", 129, 64, (1, 8, 8))
    catalog.check_batches("vgg-digits", 130, 64, (1, 2, 2))


@pytest.mark.parametrize(("name", "width"), [("vgg19", 0.5), ("resnet20", 2.0), ("vgg-digits", 0.01)])
def test_the_width_multiplies_the_channels(name: str, width: float) -> None:
    shapes = [
        [weight.shape[0] for weight in nets.prunable(nets.build(name, factor, CIFAR, 10)).values()]
        for factor in (1.0, width)
    ]
    assert shapes[1] == [max(1, round(channels * width)) for channels in shapes[0]]


def test_weights_are_drawn_xavier_normal_and_the_rest_is_constant() -> None:
    model = nets.initialise(nets.build("vgg19", 1.0, CIFAR, 10), "init", 0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan = (module.in_channels + module.out_channels) * 9
            deviation = math.sqrt(2 / fan)
            assert float(module.weight.detach().std()) == pytest.approx(deviation, rel=0.05)
            assert module.bias is not None
            assert not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()


def test_seeds_streams_and_the_head_are_independent() -> None:
    def drawn(stream: str, seed: int, classes: int = 10, head: str = "head") -> dict[str, torch.Tensor]:
        return nets.initialise(nets.build("vgg-digits", 1.0, (1, 8, 8), classes), stream, seed, head).state_dict()

    base = drawn("init", 0)
    assert all(torch.equal(value, drawn("init", 0)[name]) for name, value in base.items())
    assert not torch.equal(base["conv1.weight"], drawn("init", 1)["conv1.weight"])
    assert not torch.equal(base["conv1.weight"], drawn("random/global/3", 0)["conv1.weight"])
    assert torch.equal(base["conv4.weight"], drawn("init", 0, classes=26)["conv4.weight"])
    assert torch.equal(base["output.weight"], drawn("random/global/3", 0)["output.weight"])
    assert not torch.equal(base["output.weight"], drawn("init", 0, head="other")["output.weight"])
