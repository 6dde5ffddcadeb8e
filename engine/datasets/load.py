"""Reading data sets into memory as uint8 arrays, and checking them against the identity that was queued."""

import hashlib
import importlib.util
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

from engine import streams
from engine.datasets import classes, encoded, folders, npz, official
from engine.datasets.catalog import SETS, Part, network_shape, part_size, split_part, steps_of
from engine.errors import InputError
from engine.machine import vision

DIGITS_SHA256 = "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"
DIGITS_TRAIN = 1257  # the first in the file; the last 540 come from other writers and are the test part

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
    """Read the data set of this identity. Raises InputError if its files are missing, damaged or changed."""
    base, part = split_part(identity)
    return cut(_whole(base, location), part)


def cut(arrays: Arrays, part: Part) -> Arrays:
    """A part of a whole data set; all parts have all test images."""
    if not part:
        return arrays
    chosen = members(arrays.train_labels, part)
    return replace(arrays, train_images=arrays.train_images[chosen], train_labels=arrays.train_labels[chosen])


def _whole(identity: str, location: str) -> Arrays:
    if identity == "digits":
        return _digits()
    if identity in SETS:
        return Arrays(*official.read(identity), classes=len(SETS[identity].train_counts))
    if identity.startswith("folder:"):
        return _folder(identity, location)
    return _npz(identity, location)


def members(labels: Array, part: Part) -> Array:
    """The indices (ascending) of the training images of a part; `labels` (N,) are of the whole set."""
    which, images = steps_of(part)
    chosen = half(labels, which) if which else np.arange(len(labels))
    if images is not None:
        chosen = chosen[first(labels[chosen], images)]
    assert len(chosen) == part_size(len(labels), len(np.unique(labels)), part)
    return chosen


def half(labels: Array, which: str) -> Array:
    """The indices (ascending) of half `a` or `b`: disjoint, class-balanced, the same in all versions.

    Each class is sorted by a fixed hash of the index and cut in the middle. In classes with an odd number of images,
    the odd image goes to `a` and `b` in turn.
    """
    order = streams.permutation(len(labels), streams.key("halves")).numpy()
    chosen, odd = [], 0
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        cut = len(members) // 2
        if len(members) % 2:
            cut += odd % 2 == 0
            odd += 1
        chosen.append(members[:cut] if which == "a" else members[cut:])
    return np.sort(np.concatenate(chosen))


def first(labels: Array, images: int) -> Array:
    """The indices (ascending) of the first images in a fixed order that keeps the shares of the classes.

    Each class is sorted by a fixed hash of the index. The order starts with the first image of each class; the others
    follow by their relative rank in their class. A smaller set is a subset of a larger one.
    """
    order = streams.permutation(len(labels), streams.key("first")).numpy()
    rank = np.empty(len(labels))
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
        rank[members[:1]] = 0.0
    return np.sort(np.lexsort((labels, rank))[:images])


def held_out(labels: Array, fraction: float) -> Array:
    """The indices (ascending) of the validation part: round(fraction x n) of each class's n images, at least 1."""
    order = streams.permutation(len(labels), streams.key("validation")).numpy()
    parts = []
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        parts.append(members[: classes.held_out(len(members), fraction)])
    return np.sort(np.concatenate(parts))


def _digits() -> Arrays:
    try:  # scikit-learn's file, without importing scikit-learn, which would take longer than a run
        library = importlib.util.find_spec("sklearn")
        assert library is not None
        assert library.origin is not None
        table = np.loadtxt(Path(library.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    except (AssertionError, OSError, ValueError):
        raise InputError("scikit-learn's digits cannot be read: install scikit-learn anew") from None
    images, labels = table[:, :-1], table[:, -1].astype(np.int64)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # sixteen steps of gray
    if hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest() != DIGITS_SHA256:
        raise InputError("scikit-learn's digits are not those of this version of cockpit: install scikit-learn anew")
    cut = DIGITS_TRAIN
    return Arrays(pixels[:cut], labels[:cut], pixels[cut:], labels[cut:], classes=10)


def _folder(identity: str, location: str) -> Arrays:
    vision.torchvision()  # raises a clear error if it cannot be used
    from engine.datasets import decoding

    pictures, side, gray = folders.verified(identity, location)

    def part(split: folders.Split) -> tuple[Array, Array]:
        images = [decoding.decode(pictures.root / file, gray) for file in split.files]
        same = [decoding.centred(image, side, resize=1) if side else image for image in images]
        return torch.stack(same).permute(0, 2, 3, 1).numpy(), np.array(split.labels, np.int64)

    return Arrays(*part(pictures.train), *part(pictures.test), classes=len(pictures.classes))


def _npz(identity: str, location: str) -> Arrays:
    path, contents = npz.verified(identity, location)
    try:
        with np.load(path, allow_pickle=False) as archive:
            parts = [_part(archive, contents.layout.of(part), contents.pixels) for part in npz.PARTS]
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"data set file {path} cannot be read ({error}): is it complete?") from None
    return Arrays(*parts[0], *parts[1], classes=len(contents.counts))


def _part(archive: Any, layout: npz.Layout, pixels: npz.Pixels) -> tuple[Array, Array]:
    """The images (N, H, W, C) uint8 and labels (N,) int64 of a part."""
    images, labels = (archive[f"{name}.npy"] for name in (layout.images, layout.labels))
    if layout.offsets:
        images = _decoded(images, archive[f"{layout.offsets}.npy"], pixels)
    return images if images.ndim == 4 else images[..., None], labels.astype(np.int64).reshape(-1)


def _decoded(data: Array, offsets: Array, pixels: npz.Pixels) -> Array:
    """Encoded images as an array (N, H, W, C) uint8; image i is `data[offsets[i]:offsets[i + 1]]`."""
    from PIL import Image

    images = np.empty((len(offsets) - 1, pixels.height, pixels.width, 1 if pixels.gray else 3), np.uint8)
    for image, (start, end) in zip(images, pairwise(offsets.tolist()), strict=True):
        with Image.open(io.BytesIO(data[start:end].tobytes())) as opened:
            image[:] = np.asarray(opened.convert(encoded.mode_of(pixels.gray))).reshape(image.shape)
    return images


def as_networks_see(images: Array) -> torch.Tensor:
    """Images (N, H, W, C) uint8 as a tensor (N, H', W', C') of `catalog.network_shape`."""
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
