"""Which data sets there are and what is known of them before they are read. Nothing here imports torch or numpy.

A set is named by a *spec*: `digits`, or `npz:PATH`, either with `-a` or `-b` behind it for one class-balanced half
of the training images. Its *identity* is its content: a registered set's name (its pixels are checked against a
checksum when read), or the SHA-256 of the file; never a path.
"""

from dataclasses import dataclass
from typing import Literal

from engine.errors import InputError, unknown

Part = Literal["", "a", "b"]

REGISTERED = ("digits", "digits-a", "digits-b")
ALLOWED = (*REGISTERED, "npz:PATH", "npz:PATH-a", "npz:PATH-b")
SMALL_SIDE = 16  # pixels; smaller images keep their own shape and are not augmented
# A mirrored 2 is no 2. For a set read from a file only its name can tell; --augmentation overrides.
FILES_OF_CHARACTERS = ("digits", "emnist", "kmnist", "mnist", "svhn", "usps")


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

    def augmentation(self, wish: str) -> Literal["none", "crop", "crop-flip"]:
        """`wish`, with `standard` resolved: crops for all but the smallest images, flips for all but characters."""
        match wish:
            case "none" | "crop" | "crop-flip":
                return wish
            case "standard" if min(self.shape[1:]) < SMALL_SIDE:
                return "none"
            case "standard":
                return "crop-flip" if self.flips else "crop"
        raise unknown("augmentation", wish, ("standard", "none", "crop", "crop-flip"))


def network_shape(channels: int, height: int, width: int) -> tuple[int, int, int]:
    """The shape that networks see: gray is repeated to 3 channels and 28x28 padded to 32x32; tiny images stay."""
    if min(height, width) < SMALL_SIDE:
        return channels, height, width
    return 3, 32 if height == 28 else height, 32 if width == 28 else width


def resolve(spec: str) -> DataSet:
    """The data set that `spec` names. Raises InputError for an unknown name or a file that cannot be used."""
    if spec.startswith("npz:"):
        from engine.datasets import npz

        return npz.resolve(spec)
    if spec not in REGISTERED:
        if spec.endswith(".npz"):
            raise InputError(f"unknown data set {spec!r}: a file is named as npz:{spec}")
        raise unknown("data set", spec, ALLOWED)
    part = _part(spec)
    images = {"": 1257, "a": 629, "b": 628}[part]
    return DataSet(spec, spec, "", part, (1, 8, 8), 10, images, 540, flips=False)


def remembered(
    name: str, identity: str, location: str, shape: tuple[int, int, int], classes: int, train: int, test: int
) -> DataSet:
    """A data set of which these facts were recorded; its file need not be there."""
    flips = identity not in REGISTERED and mirrors(name.removeprefix("npz:"))
    return DataSet(name, identity, location, _part(identity), shape, classes, train, test, flips)


def spec_of(data: DataSet) -> str:
    """What `resolve` finds the data set by: its name, or the place where its file lay when it was last resolved."""
    kind, colon, _ = data.identity.partition(":")
    part = f"-{data.part}" if data.part else ""
    return f"{kind}:{data.location}{part}" if colon else data.identity


def split_part(spec: str) -> tuple[str, Part]:
    """A spec or identity without its `-a` or `-b`, and which half that named."""
    part = _part(spec)
    return (spec[:-2] if part else spec), part


def _part(spec: str) -> Part:
    return "a" if spec.endswith("-a") else "b" if spec.endswith("-b") else ""


def mirrors(stem: str) -> bool:
    """Whether an image of the file called `stem` keeps its class when it is mirrored."""
    return not stem.lower().startswith(FILES_OF_CHARACTERS)


def half_sizes(counts: list[int]) -> dict[str, int]:
    """How many images each half gets: where a class has an odd number, the odd ones go to a and b in turn."""
    a = sum(count // 2 for count in counts) + (sum(count % 2 for count in counts) + 1) // 2
    return {"a": a, "b": sum(counts) - a}
