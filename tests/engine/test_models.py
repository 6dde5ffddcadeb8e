"""The networks are those of the papers."""

import math

import pytest
import torch
import torchvision
from torch import nn

from engine import streams
from engine.errors import InputError
from engine.models import architectures, catalog, nets
from engine.plan.defining import define
from engine.recipes import Init

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
    names = [type(module).__name__ for module in nets.build("vgg19", 1.0, CIFAR, 10).children()]
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


@pytest.mark.parametrize(("before", "after", "stride"), [(4, 4, 1), (4, 8, 2), (3, 3, 2)])
def test_a_block_and_its_gradients_are_those_of_the_formula_written_out(before: int, after: int, stride: int) -> None:
    torch.manual_seed(0)
    block = architectures.BasicBlock(before, after, stride).double()
    x = torch.randn(2, before, 7, 7, dtype=torch.float64, requires_grad=True)

    def normalised(y: torch.Tensor) -> torch.Tensor:
        return (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()

    y = normalised(nn.functional.conv2d(x, block.conv1.weight, stride=stride, padding=1)).clamp(min=0)
    y = normalised(nn.functional.conv2d(y, block.conv2.weight, padding=1))
    side = (after - before) // 2
    shortcut = torch.cat([x.new_zeros(2, side, 7, 7), x, x.new_zeros(2, after - before - side, 7, 7)], 1)
    expected = (y + shortcut[:, :, ::stride, ::stride]).clamp(min=0)

    towards = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * towards).sum(), (x, block.conv1.weight, block.conv2.weight))
    found = block(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad((found * towards).sum(), (x, block.conv1.weight, block.conv2.weight)), wanted
    )


@pytest.mark.parametrize(("before", "after", "stride"), [(4, 4, 1), (4, 8, 2), (3, 3, 2)])
def test_a_block_keeps_its_gradient_in_the_layout_of_its_input(before: int, after: int, stride: int) -> None:
    x = torch.randn(2, before, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    y = architectures.BasicBlock(before, after, stride).to(memory_format=torch.channels_last)(x)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_is_torchvisions(name: str) -> None:
    def layers(model: nn.Module) -> dict[str, tuple[object, ...]]:
        return {path: (type(m).__name__, m.extra_repr()) for path, m in model.named_modules() if path}

    theirs = getattr(torchvision.models, name)()
    ours = nets.build(name, 1.0, (3, 224, 224), 1000)
    assert layers(ours) == layers(theirs)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_resnet50_has_the_counts_of_its_paper() -> None:
    model = nets.build("resnet50", 1.0, (3, 224, 224), 1000)
    assert parameters(model) == 25_557_032
    assert sum(weight.numel() for weight in nets.prunable(model).values()) == 23_454_912


@pytest.mark.parametrize(("name", "side"), [("resnet50", 8), ("resnet50-cifar", 32), ("resnet18-cifar", 32)])
def test_only_the_cifar_stem_keeps_the_size_of_the_image(name: str, side: int) -> None:
    sizes: list[int] = []
    model = nets.build(name, 0.1, CIFAR, 10)
    model.get_submodule("layer1").register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    model(torch.rand(2, *CIFAR))
    assert sizes == [side]
    other = {key: value.shape for key, value in model.state_dict().items()}
    imagenet = {key: value.shape for key, value in nets.build(name[:8], 0.1, CIFAR, 10).state_dict().items()}
    assert {key for key in other if other[key] != imagenet[key]} <= {"conv1.weight"}


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_a_vgg_has_torchvisions_convolutions_and_one_pool_less(name: str) -> None:
    with torch.device("meta"):
        features = getattr(torchvision.models, name)().features
    theirs = [m for m in features if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    ours = [m for m in nets.build(name, 1.0, CIFAR, 10).modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    assert [(type(m), m.extra_repr()) for m in ours] == [(type(m), m.extra_repr()) for m in theirs[:-1]]
    assert isinstance(theirs[-1], nn.MaxPool2d)


# Frankle & Carbin 2019, figure 2: all weights, weights of convolutions. It has 1.7M for all of Conv-6, which
# 256 channels of 4x4 pixels into 256 units exceed; the others agree to the digits given.
@pytest.mark.parametrize(
    ("name", "total", "conv"),
    [("conv-2", 4_300_992, 38_592), ("conv-4", 2_425_024, 259_776), ("conv-6", None, 1_144_512)],
)
def test_the_nets_of_the_lottery_ticket_paper_have_its_counts(name: str, total: int | None, conv: int) -> None:
    model = nets.build(name, 1.0, CIFAR, 10)
    assert sum(weight.numel() for weight in nets.prunable(model).values()) == conv
    everything = sum(weight.numel() for weight in nets.prunable(model, "conv+linear").values())
    assert total in (None, everything)
    assert everything == sum(p.numel() for p in model.parameters() if p.dim() > 1)


def test_lenet_5_has_the_61706_parameters_of_its_modern_form() -> None:
    model = nets.build("lenet-5", 1.0, (1, 32, 32), 10)
    assert parameters(model) == 61_706
    assert list(nets.prunable(model, "conv+linear")) == [
        f"{name}.weight" for name in ("conv1", "conv2", "linear1", "linear2", "output")
    ]


def test_hidden_linear_layers_are_drawn_xavier_normal_too() -> None:
    model = nets.initialise(nets.build("conv-2", 1.0, CIFAR, 10), "init", 0)
    layer = model.get_submodule("linear1")
    assert isinstance(layer, nn.Linear)
    expected = math.sqrt(2 / (layer.in_features + layer.out_features))
    assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.01)
    assert not layer.bias.any()
    again = nets.initialise(nets.build("conv-2", 1.0, CIFAR, 26), "init", 0)
    assert torch.equal(layer.weight, again.get_parameter("linear1.weight"))


@pytest.mark.parametrize("name", catalog.MODELS)
def test_every_model_in_the_catalog_is_built_and_takes_its_smallest_image(name: str) -> None:
    side = catalog.MODELS[name].smallest_side
    model = nets.initialise(nets.build(name, 0.25, (3, side, side), 7), "init", 0)
    assert model(torch.rand(3, 3, side, side)).shape == (3, 7)


def test_a_last_batch_of_one_image_of_one_pixel_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch_size 64 leaves a last batch of one image.*e\.g\. 65"):
        catalog.check_batches("vgg-digits", 129, 64, (1, 2, 2))
    catalog.check_batches("vgg-digits", 129, 64, (1, 8, 8))
    catalog.check_batches("vgg-digits", 130, 64, (1, 2, 2))


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("vgg19", 0.5),
        ("resnet20", 2.0),
        ("vgg-digits", 0.01),
        ("resnet50", 0.3),
        ("resnet18-cifar", 0.1),
        ("conv-4", 2.0),
    ],
)
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


@pytest.mark.parametrize("name", ["vgg-digits", "resnet20", "conv-2"])
def test_default_draws_what_torch_draws_when_it_builds_the_network(name: str) -> None:
    model = nets.initialise(nets.build(name, 0.25, CIFAR, 10), "init", 3, init="default")
    torch.manual_seed(streams.key("init", 3))
    built = nets.build(name, 0.25, CIFAR, 10).state_dict()
    head = model.get_submodule("output")
    assert isinstance(head, nn.Linear)
    torch.manual_seed(streams.key("head", 3))
    own = nn.Linear(head.in_features, 10)
    for key, value in model.state_dict().items():
        assert torch.equal(value, own.state_dict()[key[7:]] if key.startswith("output.") else built[key]), key


@pytest.mark.parametrize(("init", "gain"), [("xavier", 1.0), ("kaiming", math.sqrt(2.0))])
def test_weights_are_normal_of_the_published_deviation(init: Init, gain: float) -> None:
    model = nets.initialise(nets.build("vgg-digits", 0.5, CIFAR, 10), "init", 0, init=init)
    draw = streams.generator("init", 0)
    for layer in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        fans = (9 * layer.in_channels, 9 * layer.out_channels)
        variance = 2 / sum(fans) if init == "xavier" else gain**2 / fans[0]  # Glorot 2010, He 2015
        expected = torch.empty_like(layer.weight).normal_(0, math.sqrt(variance), generator=draw)
        assert torch.allclose(layer.weight, expected, rtol=1e-6)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_paper_draws_as_the_networks_paper_does() -> None:
    for name, init in {"vgg19": "xavier", "resnet50": "kaiming", "resnet20": "kaiming", "conv-2": "xavier"}.items():
        assert catalog.find(name).init == init
    for name, init in {"vgg-digits": "xavier", "resnet20": "kaiming"}.items():
        assert define(source=["digits-a"], model=name, init="paper").init == init
        assert define(source=["digits-a"], model=name).init == "xavier"
