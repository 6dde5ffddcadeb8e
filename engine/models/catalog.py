"""Which networks there are and how each is trained unless told otherwise. Nothing here imports torch."""

from dataclasses import dataclass

from engine.errors import InputError, unknown


@dataclass(frozen=True)
class Model:
    """The facts of a network. `milestones` are the epochs (of `epochs`) at which the learning rate drops tenfold."""

    summary: str  # for --help
    smallest_side: int  # pixels; below it the pooling layers leave nothing
    epochs: int
    milestones: tuple[int, ...]
    batch_size: int
    pooled: bool = True  # whether it ends in a global average pool, so that one network takes images of any size

    def milestones_for(self, epochs: int) -> tuple[int, ...]:
        """The same schedule over another number of epochs, rounded up, so that the first epoch has the full rate."""
        return tuple(dict.fromkeys(-(-epochs * milestone // self.epochs) for milestone in self.milestones))


MODELS = {
    "vgg-digits": Model("24 24 M 48 48 for 8x8 digits", 2, 20, (10, 15), 64),
    "vgg19": Model("the paper's VGG19 (section 3)", 16, 160, (80, 120), 512),
    "resnet20": Model("CIFAR ResNet-20 (He et al. 2016, option A shortcuts)", 4, 160, (80, 120), 512),
}


def find(name: str) -> Model:
    """The facts of the model called `name`. Raises InputError for an unknown one."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]


def default_for(shape: tuple[int, int, int]) -> str:
    """The model for images of `shape` (channels, height, width) when none is named."""
    return "vgg-digits" if min(shape[1:]) < MODELS["vgg19"].smallest_side else "vgg19"


def check(name: str, width: float, shape: tuple[int, int, int]) -> None:
    """Raises InputError where the model cannot take images of `shape` or the width is no positive number."""
    model = find(name)
    if not 0 < width <= 64:
        raise InputError(f"width {width:g} is out of range: give a multiplier above 0 and up to 64")
    if min(shape[1:]) < model.smallest_side:
        raise InputError(
            f"{name} needs images of at least {model.smallest_side} pixels a side, these have {shape[1]}x{shape[2]}:"
            f" choose --model {default_for(shape)}"
        )


def check_batches(name: str, images: int, batch_size: int, shape: tuple[int, int, int]) -> None:
    """Raises InputError where the last batch would be one image of one pixel, which batch norm cannot normalise."""
    stride = find(name).smallest_side
    if images % batch_size == 1 and (shape[1] // stride) * (shape[2] // stride) == 1:
        raise InputError(
            f"--batch-size {batch_size} leaves a last batch of one image, which {name} reduces to one pixel: choose"
            f" another, e.g. {batch_size + 1}"
        )
