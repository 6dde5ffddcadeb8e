"""The published data sets, and what is known of any set before it is read. Nothing here imports torch or numpy.

A set's *identity* is its content: a registered set's name (its pixels are checked when read, see
`engine.datasets.official`), or a SHA-256 of the file or of all files of the folder; never a path.
`engine.datasets.specs` finds the set that a person names.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.errors import InputError, OptionName, unknown

Part = str  # of the training images: all (empty), a half (a, b), the first so many (5000), or those of a half (a-5000)

FORMS = ("npz:PATH", "folder:PATH", "stream:PATH")  # specs of sets that are read from files of one's own
AUGMENTATIONS = ("standard", "none", "crop", "crop-flip")
SMALL_SIDE = 16  # pixels; smaller images keep their own shape and are not augmented
# A mirrored 2 is no 2. For a set read from a file only its name can tell; --augmentation overrides.
FILES_OF_CHARACTERS = ("digits", "emnist", "kmnist", "mnist", "svhn", "usps")


@dataclass(frozen=True)
class Registered:
    """A set that everyone knows by name: these facts are the same on every machine, with its files there or not."""

    summary: str
    shape: tuple[int, int, int]  # (channels, height, width) as published
    train_counts: tuple[int, ...]  # images of each class
    test_images: int
    flips: bool  # whether a mirrored image keeps its class
    files: tuple[str, ...] = ()  # that torchvision reads, in a data folder; none where a library brings the set along
    download: int = 0  # bytes


def _idx(folder: str) -> tuple[str, ...]:
    """The four files of MNIST and the sets made after it."""
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(f"{folder}/raw/{part}-ubyte" for part in parts)


SETS = {
    "digits": Registered(
        "scikit-learn's handwritten digits, which come along",
        (1, 8, 8),
        (125, 129, 124, 130, 124, 126, 127, 125, 122, 125),
        540,
        flips=False,
    ),
    "mnist": Registered(
        "handwritten digits (LeCun et al. 1998)",
        (1, 28, 28),
        (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        10_000,
        flips=False,
        files=_idx("MNIST"),
        download=11_594_722,
    ),
    "fashion-mnist": Registered(
        "clothes (Xiao et al. 2017)",
        (1, 28, 28),
        (6000,) * 10,
        10_000,
        flips=True,
        files=_idx("FashionMNIST"),
        download=30_878_645,
    ),
    "svhn": Registered(
        "digits of house numbers (Netzer et al. 2011), without the extra images",
        (3, 32, 32),
        (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        26_032,
        flips=False,
        files=("train_32x32.mat", "test_32x32.mat"),
        download=246_316_178,
    ),
    "cifar10": Registered(
        "small photographs of 10 kinds (Krizhevsky 2009)",
        (3, 32, 32),
        (5000,) * 10,
        10_000,
        flips=True,
        files=tuple(
            f"cifar-10-batches-py/{part}"
            for part in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
        ),
        download=170_498_071,
    ),
    "cifar100": Registered(
        "small photographs of 100 kinds (Krizhevsky 2009)",
        (3, 32, 32),
        (500,) * 100,
        10_000,
        flips=True,
        files=("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
        download=169_001_437,
    ),
}


@dataclass(frozen=True)
class Photographs:
    """A published set of photographs of many sizes, too many for memory: streamed (`engine.datasets.streaming`)."""

    summary: str
    classes: int
    train_images: int
    test_images: int  # the published validation images: labels of the test images are not published
    folder: str  # in the data folder, with train/CLASS/ and val/CLASS/ in it


PHOTOGRAPHS = {
    "imagenet": Photographs("photographs, ILSVRC 2012 (Russakovsky et al. 2015)", 1000, 1_281_167, 50_000, "imagenet"),
    "places365": Photographs(
        "photographs of places, Places365-Standard (Zhou et al. 2017)", 365, 1_803_460, 36_500, "places365_standard"
    ),
}
PHOTOGRAPH_SHAPE = (3, 224, 224)
REGISTERED = tuple(f"{name}{half}" for name in (*SETS, *PHOTOGRAPHS) for half in ("", "-a", "-b"))


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set: `shape` is (channels, height, width) as the networks see it."""

    name: str
    identity: str
    location: str  # a path, or empty for a set that a library brings along
    part: Part
    shape: tuple[int, int, int]
    classes: int
    train_images: int  # of this part
    test_images: int
    flips: bool  # whether a mirrored image keeps its class
    # Training images of each class of the whole set; None where only the database remembers it.
    counts: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

    def augmentation(self, wish: str) -> Literal["none", "crop", "crop-flip"]:
        """`wish`, with `standard` resolved: crops for all but the smallest images, flips for all but characters."""
        match wish:
            case "none" | "crop" | "crop-flip":
                return wish
            case "standard" if min(self.shape[1:]) < SMALL_SIDE:
                return "none"
            case "standard":
                return "crop-flip" if self.flips else "crop"
        raise unknown(OptionName("augmentation"), wish, AUGMENTATIONS)


def network_shape(channels: int, height: int, width: int) -> tuple[int, int, int]:
    """The shape that networks see: gray is repeated to 3 channels and 28x28 padded to 32x32; tiny images stay."""
    if min(height, width) < SMALL_SIDE:
        return channels, height, width
    return 3, 32 if height == 28 else height, 32 if width == 28 else width


def remembered(
    name: str, identity: str, location: str, shape: tuple[int, int, int], classes: int, train: int, test: int
) -> DataSet:
    """A data set of which these facts were recorded; its file need not be there."""
    base, part = split_part(identity)
    flips = SETS[base].flips if base in SETS else mirrors(name.partition(":")[2])
    return DataSet(name, identity, location, part, shape, classes, train, test, flips)


def is_streamed(identity: str) -> bool:
    """Whether the images of a set are decoded while they are trained on, and never all in memory."""
    return identity.startswith("stream:") or split_part(identity)[0] in PHOTOGRAPHS


def spec_of(identity: str, location: str) -> str:
    """What `resolve` finds a data set by: its name, or the place where its files lay when it was last resolved."""
    base, part = split_part(identity)
    kind, colon, _ = base.partition(":")
    return f"{kind}:{location}" + (f"-{part}" if part else "") if colon else identity


def first(data: DataSet, images: int) -> DataSet:
    """The same with only its first `images` training images; `data` itself where it has no more."""
    if images >= data.train_images:
        return data
    which, _ = steps_of(data.part)
    part = f"{which}-{images}" if which else str(images)
    part_size(data.train_images, data.classes, str(images))
    name, identity = (f"{text.removesuffix(f'-{data.part}')}-{part}" for text in (data.name, data.identity))
    return replace(data, name=name, identity=identity, part=part, train_images=images)


def split_part(spec: str) -> tuple[str, Part]:
    """A spec or identity without its `-a`, `-5000` or `-a-5000`, and which part that named."""
    found = re.fullmatch(r"(.+?)(?:-([ab]|(?:[ab]-)?[1-9]\d*))?", spec, re.DOTALL)
    return (found[1], found[2] or "") if found else (spec, "")


def steps_of(part: Part) -> tuple[str, int | None]:
    """The half (`a`, `b`, or empty for the whole) that a part is taken from, and how many of its first images."""
    which, _, images = part.rpartition("-") if part[-1:].isdigit() else (part, "", "")
    return which, int(images) if images else None


def mirrors(stem: str) -> bool:
    """Whether an image of the file called `stem` keeps its class when it is mirrored."""
    return not stem.lower().startswith(FILES_OF_CHARACTERS)


def part_size(images: int, classes: int, part: Part) -> int:
    """How many of so many training images a part has. Raises InputError for too few or too many first ones.

    Of the classes with an odd number of images, the odd ones go to a and b in turn.
    """
    which, wanted = steps_of(part)
    size = {"": images, "a": (images + 1) // 2, "b": images // 2}[which]
    if wanted is None:
        return size
    if not classes <= wanted < size:
        raise InputError(
            f"it cannot be cut to {wanted} training images: allowed are {classes}, one of each class, to {size - 1}"
        )
    return wanted
