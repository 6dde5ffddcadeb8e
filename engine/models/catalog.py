"""The networks and their default training. No torch."""

import functools
import json
from itertools import count

import msgspec
from msgspec import structs

from engine.datasets.catalog import DataSet
from engine.errors import InputError, OptionName, Range, unknown
from engine.machine import processes
from engine.machine.plugins import Door
from engine.models import trust, user_model
from engine.recipes import Init, Prunable


class Model(msgspec.Struct, frozen=True):
    """The facts of a network. `milestones` are the epochs (of `epochs`) at which the learning rate drops tenfold."""

    summary: str
    smallest_side: int  # of images, in pixels; strides and pooling reduce it to one
    epochs: int
    milestones: tuple[int, ...]
    batch_size: int
    optimizer: str = "sgd"
    pooled: bool = True  # ends in a global average pool, so that its weights fit images of any size
    batch_norm: bool = True
    init: Init = "xavier"  # of its paper
    patch: int = 1  # side of patches in pixels; above 1, images must be square with a side that it divides
    prunable: Prunable = "conv"  # its default rule, the narrowest that prunes hidden layers

    def milestones_for(self, epochs: int) -> tuple[int, ...]:
        """The milestones scaled to another number of epochs, rounded up so that epoch 0 has the full rate."""
        return tuple(dict.fromkeys(-(-epochs * milestone // self.epochs) for milestone in self.milestones))


_CIFAR = (160, (80, 120), 512)  # epochs, milestones, batch size: the paper's, section 3.2
_RESNET = (90, (50, 65, 80), 512)  # the paper's for ResNet50

MODELS = {
    "vgg-digits": Model("24 24 M 48 48 for 8x8 digits", 2, 20, (10, 15), 64),
    "vgg19": Model("the paper's VGG19 (section 3)", 16, *_CIFAR),
    "vgg16": Model("13 convolutions in the form of the paper's VGG19", 16, *_CIFAR),
    "vgg13": Model("10 convolutions in the form of the paper's VGG19", 16, *_CIFAR),
    "vgg11": Model("8 convolutions in the form of the paper's VGG19", 16, *_CIFAR),
    "resnet50": Model(
        "the paper's ResNet50, torchvision's: 7x7 stem of stride 2, max pool", 32, *_RESNET, init="kaiming"
    ),
    "resnet50-cifar": Model("the same with a 3x3 stem of stride 1, no max pool", 8, *_RESNET, init="kaiming"),
    "resnet18": Model("torchvision's ResNet-18: 7x7 stem of stride 2, max pool", 32, *_RESNET, init="kaiming"),
    "resnet18-cifar": Model("the same with a 3x3 stem of stride 1, no max pool", 8, *_RESNET, init="kaiming"),
    "resnet20": Model("CIFAR ResNet-20 (He et al. 2016, option A shortcuts)", 4, *_CIFAR, init="kaiming"),
    # The iterations of figure 2 of Frankle & Carbin 2019 (batches of 60) as epochs of CIFAR-10, of MNIST for lenet-5.
    "conv-2": Model("2 convolutions, 3 linear layers (Frankle & Carbin 2019)", 2, 24, (), 60, "adam", False, False),
    "conv-4": Model("4 convolutions, 3 linear layers (Frankle & Carbin 2019)", 4, 30, (), 60, "adam", False, False),
    "conv-6": Model("6 convolutions, 3 linear layers (Frankle & Carbin 2019)", 8, 36, (), 60, "adam", False, False),
    "lenet-300-100": Model(
        "2 hidden linear layers (LeCun et al. 1998)", 1, 50, (), 60, "adam", False, False, prunable="conv+linear"
    ),
    "lenet-5": Model("LeNet-5 (LeCun et al. 1998), with ReLU and max pool", 16, 50, (), 60, "adam", False, False),
    "vit-tiny": Model(
        "vision transformer in the size of DeiT-Tiny, torchvision's class, patches of 4x4",
        4,
        100,
        (),
        128,
        "adamw",
        pooled=False,
        batch_norm=False,
        prunable="conv+linear",
        patch=4,
    ),
}
PLUGINS = Door("models", "model", {})
WIDTH = Range(above=0, most=64)
OWN = Model("your own", 1, *_CIFAR)  # `examine` checks by building it which images fit


def named(name: str) -> str:
    """The model that the user's name means: for a plug-in, the `package.module:factory` of its entry point."""
    point = None if name in MODELS else PLUGINS.offered.get(name)
    return point.value if point else name


def find(name: str) -> Model:
    """The facts of the model called `name`. Raises InputError for an unknown one."""
    if user_model.is_own(name):
        return OWN
    if name not in MODELS:
        raise unknown("model", name, [*MODELS, *PLUGINS.names(), "package.module:factory"])
    return MODELS[name]


def default_for(shape: tuple[int, int, int]) -> str:
    """The default model for images of `shape` (channels, height, width)."""
    return "vgg-digits" if min(shape[1:]) < MODELS["vgg19"].smallest_side else "vgg19"


def check(name: str, width: float, shape: tuple[int, int, int]) -> None:
    """Raise InputError if the model cannot take images of `shape`, or the width is out of range."""
    model = find(name)
    WIDTH.check(OptionName("width"), width)
    if min(shape[1:]) < model.smallest_side:
        raise InputError(
            f"{name} needs images of at least {model.smallest_side} pixels a side, these have {shape[1]}x{shape[2]}:"
            " choose ",
            OptionName("model"),
            f" {default_for(shape)}",
        )
    if model.patch > 1 and (shape[1] != shape[2] or shape[1] % model.patch):
        sides = f"{shape[1]}x{shape[2]}"
        raise InputError(f"{name} needs square images whose side {model.patch} divides, these have {sides}")


def check_batches(name: str, images: int, batch_size: int, shape: tuple[int, int, int], split: int = 1) -> None:
    """Raise InputError if a batch would be too small.

    `images` is the number trained on. Batch norm cannot normalise a last batch of one image that the network reduces to
    one pixel. A batch that is split over devices needs two images for each.
    """
    model = find(name)
    stride = model.smallest_side
    one_pixel = model.batch_norm and (shape[1] // stride) * (shape[2] // stride) == 1
    least = 2 * split if split > 1 else 2 if one_pixel else 1
    if images < least:
        raise InputError(
            f"only {images} images are left to train on, {name} needs {least}: give ",
            OptionName("images"),
            " or ",
            OptionName("validation"),
            " another value",
        )
    if 0 < (last := images % batch_size) < least:
        why = (
            f"{last}, too few images to be split over {split} devices"
            if split > 1
            else f"one image, which {name} reduces to one pixel"
        )
        other = next(size for size in count(batch_size + 1) if not 0 < images % size < least)
        raise InputError(
            OptionName("batch_size"),
            f" {batch_size} leaves a last batch of {why} ({images:,} training images): choose another, e.g. {other}",
        )


class End(msgspec.Struct, frozen=True):
    """A data set for a network: images of `shape` (channels, height, width), classes, and the smallest batch."""

    shape: tuple[int, int, int]
    classes: int
    batch: int = 2

    @staticmethod
    def of(data: DataSet, images: int | None, batch_size: int) -> "End":
        """The `End` of a data set of which `images` are trained on (None: unknown).

        The smallest batch is 1 if the last batch has one image, else 2: only that differs for batch norm.
        """
        return End(data.shape, data.classes, 1 if images is not None and images % batch_size == 1 else 2)


class LayerFacts(msgspec.Struct, frozen=True):
    """A layer with parameters. FLOPs are of one image; a multiply-add counts as two."""

    name: str
    kind: str  # the class
    weight: tuple[int, ...] | None  # its shape
    output: tuple[int, ...] | None  # its output's shape for one image
    parameters: int
    prunable: int  # number of prunable parameters
    flops: int


class NetworkFacts(msgspec.Struct, frozen=True):
    """The facts of a network that need building it: its layers in order, and totals."""

    layers: tuple[LayerFacts, ...]
    output_layer: str | None
    parameters: int
    prunable: int
    buffers: bool  # whether its state has more than parameters
    batch_norm: bool
    flops: int
    # Files that a user model imports from outside its folder and installed packages; None for other models.
    elsewhere: tuple[str, ...] | None = None


def examine(
    name: str,
    width: float,
    ends: tuple[End, ...],
    prunable: Prunable = "conv",
    folder: str = "",
    init: Init = "xavier",
) -> NetworkFacts:
    """The facts of a network, from building it in a separate process (`engine.models.probe.examine`).

    Raises InputError if it cannot be built or trained, if one ticket would not fit all `ends`, and if the source of a
    user model has another hash than its identity or is not trusted.
    """
    trust.require(name, folder)
    return _examine(name, width, ends, prunable, folder, init)


@functools.cache  # the dashboard's form asks again at every change
def _examine(
    name: str, width: float, ends: tuple[End, ...], prunable: Prunable, folder: str, init: Init
) -> NetworkFacts:
    wanted = {"name": name, "width": width, "prunable": prunable, "folder": folder, "init": init}
    wanted["ends"] = [structs.asdict(end) for end in ends]
    return processes.ask(NetworkFacts, "engine.models.probe", json.dumps(wanted))
