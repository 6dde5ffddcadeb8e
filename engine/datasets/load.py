"""Reading data sets into memory as uint8 arrays, checked against the identity under which they were queued."""

import hashlib
import io
import lzma
import zipfile
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine import streams, vision
from engine.datasets import folders, official
from engine.datasets.catalog import SETS, Part, half_sizes, network_shape, split_part
from engine.datasets.npz import file_digest
from engine.errors import InputError

DIGITS_SHA256 = "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"
DIGITS_TRAIN = 1257  # the first in file order; the last 540 come from other writers and are the test part

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Arrays:
    """A data set: images (N, H, W, C) uint8 with 1 or 3 channels, labels (N,) int64 below `classes`."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    classes: int


def load(identity: str, location: str) -> Arrays:
    """The data set of this identity. Raises InputError if its files are gone, damaged, or not what was queued."""
    base, part = split_part(identity)
    return cut(_whole(base, location), part)


def cut(arrays: Arrays, part: Part) -> Arrays:
    """A half of a whole data set, or all of it; the test part is not divided."""
    if not part:
        return arrays
    chosen = half(arrays.train_labels, part)
    return replace(arrays, train_images=arrays.train_images[chosen], train_labels=arrays.train_labels[chosen])


def _whole(identity: str, location: str) -> Arrays:
    if identity == "digits":
        return _digits()
    if identity in SETS:
        return Arrays(*official.read(identity), classes=len(SETS[identity].train_counts))
    if identity.startswith("folder:"):
        return _folder(identity, location)
    return _npz(identity, Path(location))


def half(labels: Array, part: Part) -> Array:
    """The indices, rising, of half `a` or `b`: disjoint, class-balanced, the same for ever.

    Each class is put in the order of a fixed hash of the index and cut in the middle; where a class has an odd
    number of images the odd ones go to `a` and `b` in turn.
    """
    order = streams.permutation(len(labels), streams.key("halves")).numpy()
    chosen, odd = [], 0
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        cut = len(members) // 2
        if len(members) % 2:
            cut += odd % 2 == 0
            odd += 1
        chosen.append(members[:cut] if part == "a" else members[cut:])
    found = np.sort(np.concatenate(chosen))
    counts = [int((labels == label).sum()) for label in range(int(labels.max()) + 1)]
    assert len(found) == half_sizes(counts)[part]
    return found


def held_out(labels: Array, fraction: float) -> Array:
    """The indices, rising, of the validation part: round(fraction x n) of each class, but at least 1, for ever."""
    order = streams.permutation(len(labels), streams.key("validation")).numpy()
    parts = []
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        parts.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(parts))


def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # sixteen steps of gray
    labels = labels.astype(np.int64)
    if hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest() != DIGITS_SHA256:
        raise InputError("scikit-learn's digits are not those of this version of cockpit: install scikit-learn anew")
    cut = DIGITS_TRAIN
    return Arrays(pixels[:cut], labels[:cut], pixels[cut:], labels[cut:], classes=10)


def _folder(identity: str, location: str) -> Arrays:
    vision.torchvision()  # which says what to do where it cannot be used
    from engine.datasets import decoding

    pictures, side, gray = folders.verified(identity, location)

    def part(split: folders.Split) -> tuple[Array, Array]:
        images = [decoding.decode(pictures.root / file, gray) for file in split.files]
        same = [decoding.centred(image, side, resize=1) if side else image for image in images]
        return torch.stack(same).permute(0, 2, 3, 1).numpy(), np.array(split.labels, np.int64)

    return Arrays(*part(pictures.train), *part(pictures.test), classes=len(pictures.classes))


def _npz(identity: str, path: Path) -> Arrays:
    if not path.is_file():
        raise InputError(
            f"data set file {path} is gone: put it back, or queue the experiment again from where it is now"
        )
    if file_digest(path) != identity.removeprefix("npz:"):
        raise InputError(f"data set file {path} has changed since it was queued: restore it, or queue it as a new set")
    try:
        with np.load(path, allow_pickle=False) as archive:
            train, labels = _split(archive, "train")
            return Arrays(train, labels, *_split(archive, "test"), classes=int(labels.max()) + 1)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"data set file {path} cannot be read ({error}): is it complete?") from None


def _split(archive: Any, split: str) -> tuple[Array, Array]:
    labels = archive[f"{split}_labels"].astype(np.int64).reshape(-1)
    if f"{split}_images" in archive:
        images = archive[f"{split}_images"]
        return images if images.ndim == 4 else images[..., None], labels
    return _decoded(archive[f"{split}_bytes"], archive[f"{split}_offsets"], split), labels


def _decoded(data: Array, offsets: Array, split: str) -> Array:
    """Encoded images end to end as one array; all must have the size of the first."""
    from PIL import Image, UnidentifiedImageError

    images: Array | None = None
    for place, (start, end) in enumerate(pairwise(offsets.tolist())):
        try:
            with Image.open(io.BytesIO(data[start:end].tobytes())) as image:
                gray = image.mode in ("1", "L")
                if images is None:
                    channels = 1 if gray else 3
                    images = np.empty((len(offsets) - 1, image.height, image.width, channels), np.uint8)
                mode = "L" if images.shape[3] == 1 else "RGB"
                pixels = np.asarray(image.convert(mode)).reshape(image.height, image.width, -1)
        except (UnidentifiedImageError, OSError):
            raise InputError(f"{split} image {place} is no image that Pillow can decode") from None
        if pixels.shape != images.shape[1:]:
            raise InputError(f"{split} image {place} is {pixels.shape}, the first is {images.shape[1:]} (H, W, C)")
        images[place] = pixels
    assert images is not None
    return images


def as_networks_see(images: Array) -> torch.Tensor:
    """Images (N, H, W, C) uint8 as a tensor in the shape of `catalog.network_shape`: gray repeated, 28 padded to 32."""
    count, height, width, channels = images.shape
    to_channels, to_height, to_width = network_shape(channels, height, width)
    if channels != to_channels:
        images = np.repeat(images, to_channels, axis=3)
    top, left = (to_height - height) // 2, (to_width - width) // 2
    if (to_height, to_width) != (height, width):
        padded = np.zeros((count, to_height, to_width, to_channels), np.uint8)
        padded[:, top : top + height, left : left + width] = images
        images = padded
    return torch.from_numpy(np.ascontiguousarray(images))
