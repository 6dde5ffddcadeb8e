"""The published data sets, and the facts of any set that need no reading. No torch or numpy.

A set's *identity* stands for its content: the name of a published set, whose files are checked when read
(`engine.datasets.official`), or a SHA-256 of a file or of all images of a folder. It contains no path.
`engine.datasets.specs` resolves the name that a user gives.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from engine.errors import InputError, OptionName, unknown

Part = str  # of the training images: all (empty), a half (a, b), the first N (5000), or the first N of a half (a-5000)

FORMS = ("npz:PATH", "folder:PATH", "stream:PATH")  # specs of the user's own files
AUGMENTATIONS = ("standard", "none", "crop", "crop-flip")
SMALL_SIDE = 16  # pixels; smaller images keep their shape and are not augmented
# Sets of characters, which mirroring changes. Of the user's own sets only the file's name tells; --augmentation
# overrides it.
FILES_OF_CHARACTERS = ("digits", "emnist", "kmnist", "mnist", "svhn", "usps")


class Registered(msgspec.Struct, frozen=True):
    """A published set that fits into memory. Its facts are known without its files."""

    summary: str
    shape: tuple[int, int, int]  # (channels, height, width) as published
    train_counts: tuple[int, ...]  # images of each class
    test_images: int
    flips: bool  # whether a mirrored image keeps its class
    files: tuple[str, ...] = ()  # that torchvision reads, in a data folder; none for a set that is part of a library
    download: int = 0  # bytes


def _idx(folder: str) -> tuple[str, ...]:
    """The four files of MNIST and the sets made after it."""
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(f"{folder}/raw/{part}-ubyte" for part in parts)


SETS = {
    "digits": Registered(
        "scikit-learn's handwritten digits, included",
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


class Photographs(msgspec.Struct, frozen=True):
    """A published set of photographs of many sizes that does not fit into memory (`engine.datasets.streaming`)."""

    summary: str
    classes: int
    train_images: int
    test_images: int  # the published validation images, as the labels of the test images are not published
    folder: str  # in the data folder; contains train/CLASS/ and val/CLASS/


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
    """The facts of a data set. `shape` is (channels, height, width) as networks see it."""

    name: str
    identity: str
    location: str  # a path; empty for a published set
    part: Part
    shape: tuple[int, int, int]
    classes: int
    train_images: int  # of this part
    test_images: int
    flips: bool  # whether a mirrored image keeps its class
    # Training images of each class of the whole set; None if the facts come from the database.
    counts: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

    @property
    def spec(self) -> str:
        """Its spec. Files whose path is not known here, as in a database from elsewhere, are named without it."""
        known = self.location or ":" not in self.identity
        return spec_of(self.identity, self.location) if known else self.name

    def augmentation(self, name: str) -> Literal["none", "crop", "crop-flip"]:
        """The augmentation of this name; `standard` crops all but the smallest images, and flips all but characters."""
        match name:
            case "none" | "crop" | "crop-flip":
                return name
            case "standard" if min(self.shape[1:]) < SMALL_SIDE:
                return "none"
            case "standard":
                return "crop-flip" if self.flips else "crop"
        raise unknown(OptionName("augmentation"), name, AUGMENTATIONS)


def network_shape(channels: int, height: int, width: int) -> tuple[int, int, int]:
    """The shape (channels, height, width) that networks see: gray as 3 channels, 28x28 padded to 32x32.

    Images below `SMALL_SIDE` keep their shape.
    """
    if min(height, width) < SMALL_SIDE:
        return channels, height, width
    return 3, 32 if height == 28 else height, 32 if width == 28 else width


def remembered(
    name: str, identity: str, location: str, shape: tuple[int, int, int], classes: int, train: int, test: int
) -> DataSet:
    """A data set from recorded facts, without its files."""
    base, part = split_part(identity)
    flips = SETS[base].flips if base in SETS else mirrors(name.partition(":")[2])
    return DataSet(name, identity, location, part, shape, classes, train, test, flips)


def is_streamed(identity: str) -> bool:
    """Whether the images of a set are decoded during training instead of read into memory."""
    return identity.startswith("stream:") or split_part(identity)[0] in PHOTOGRAPHS


def spec_of(identity: str, location: str) -> str:
    """The spec of a recorded data set: its name, or the path of its files at their last known location."""
    base, part = split_part(identity)
    kind, colon, _ = base.partition(":")
    return f"{kind}:{location}" + (f"-{part}" if part else "") if colon else identity


def first(data: DataSet, images: int) -> DataSet:
    """The data set with only its first `images` training images; `data` itself if it has no more."""
    if images >= data.train_images:
        return data
    which, _ = steps_of(data.part)
    part = f"{which}-{images}" if which else str(images)
    part_size(data.train_images, data.classes, str(images))
    name, identity = (f"{text.removesuffix(f'-{data.part}')}-{part}" for text in (data.name, data.identity))
    return replace(data, name=name, identity=identity, part=part, train_images=images)


def split_part(spec: str) -> tuple[str, Part]:
    """A spec or identity without its ending `-a`, `-5000` or `-a-5000`, and the part that the ending names."""
    match = re.fullmatch(r"(.+?)(?:-([ab]|(?:[ab]-)?[1-9]\d*))?", spec, re.DOTALL)
    return (match[1], match[2] or "") if match else (spec, "")


def steps_of(part: Part) -> tuple[str, int | None]:
    """The half (`a`, `b`, or empty for the whole set) of a part, and the number of its first images (None: all)."""
    which, _, images = part.rpartition("-") if part[-1:].isdigit() else (part, "", "")
    return which, int(images) if images else None


def mirrors(stem: str) -> bool:
    """Whether images of the file or folder called `stem` keep their class when mirrored, as its name tells."""
    return not stem.lower().startswith(FILES_OF_CHARACTERS)


def part_size(images: int, classes: int, part: Part) -> int:
    """The number of training images of a part of a set of `images`. Raises InputError if the set cannot be cut to it.

    In classes with an odd number of images, the odd image goes to the halves a and b in turn.
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
