"""The content of an npz file, from its headers, labels and encoded images, without numpy."""

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.datasets import encoded, npy, places
from engine.datasets.catalog import DataSet, Part, mirrors, network_shape, part_size, split_part
from engine.datasets.manifests import cache_folder, write_cache
from engine.errors import InputError
from engine.machine import paths

PARTS = ("train", "test")
MAX_SIDE = 1024  # pixels
MAX_IMAGES = 10**8  # of a part; the streams of random numbers distinguish as many
MAX_CLASSES = 10**5
MAX_ENCODED = 2**26  # bytes of an image
IN_COLOUR = "@rgb"  # follows the hash in an identity: see `Contents.identity`
NEEDS = (
    "train_images, train_labels, test_images and test_labels (uint8 pixels), the same as x_train, y_train, x_test and"
    " y_test, or train_bytes, train_offsets, train_labels and the same for test"
)


class Layout(NamedTuple):
    """The names of a part's arrays. Only encoded images have offsets."""

    images: str
    labels: str
    offsets: str = ""

    def of(self, part: str) -> "Layout":
        """The names for `part`."""
        return Layout(*(name.format(part) for name in self))


LAYOUTS = (Layout("{}_images", "{}_labels"), Layout("x_{}", "y_{}"), Layout("{}_bytes", "{}_labels", "{}_offsets"))


class Pixels(NamedTuple):
    """The facts of all images of a file: their size in pixels, and whether all are gray."""

    height: int
    width: int
    gray: bool
    first_gray: bool  # whether the first training image is gray


@dataclass(frozen=True)
class Contents:
    """The content of a file: the layout of its arrays, its images, and the training images of each class."""

    sha256: str  # of the file
    layout: Layout
    pixels: Pixels
    counts: tuple[int, ...]
    test_images: int

    @property
    def identity(self) -> str:
        """The identity of the whole set: `npz:` and the hash of the file.

        Earlier versions read a set as gray if its first image was gray. A mark distinguishes the pixels of such a set.
        """
        mark = IN_COLOUR if self.pixels.first_gray and not self.pixels.gray else ""
        return f"npz:{self.sha256}{mark}"


def resolve(spec: str) -> DataSet:
    """The data set of `npz:PATH`. Raises InputError for a file that cannot be used."""
    name, (base, part) = spec.removeprefix("npz:"), split_part(spec)
    try:
        with _readable():
            if part and not paths.given(name).exists():
                name = base.removeprefix("npz:")
            else:
                part = ""  # a file called photos-a
            path = paths.given(name)
            if path.is_dir():
                raise InputError(f"{path} is a folder: name it as folder:{path}")
            if not path.is_file():
                near = path.with_name(f"{path.name}.npz")
                hint = f"did you mean npz:{near}?" if near.is_file() else "give npz:PATH, or npz:PATH-a for a half"
                raise InputError(f"file {path} does not exist: {hint}")
            return _describe(path, part)
    except InputError as error:
        raise InputError(f"data set {spec!r}: ", error) from None


def _describe(path: Path, part: Part) -> DataSet:
    whole, suffix = contents(path), f"-{part}" if part else ""
    channels = 1 if whole.pixels.gray else 3
    return DataSet(
        name=f"npz:{path.stem}{suffix}",
        identity=f"{whole.identity}{suffix}",
        location=str(path.resolve()),
        part=part,
        shape=network_shape(channels, whole.pixels.height, whole.pixels.width),
        classes=len(whole.counts),
        train_images=part_size(sum(whole.counts), len(whole.counts), part),
        test_images=whole.test_images,
        flips=mirrors(path.stem),
        counts=whole.counts,
    )


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(identity: str, location: str) -> tuple[Path, Contents]:
    """The file of a queued set, and its content. Raises InputError if the file is missing or has changed."""
    path = Path(location)
    base, _ = split_part(identity)
    if not path.is_file():
        raise places.lost(f"npz:{path.stem}" if location else base[:16], base, location)
    try:
        with _readable():
            if file_digest(path) != _hash_in(base):
                raise InputError("it has changed since it was queued: restore it, or queue it as a new set")
            whole = contents(path)
            if whole.identity != base:
                raise InputError(
                    "an earlier version read it as gray, since its first image is; it is read in colour now: queue it"
                    " as a new set"
                )
    except InputError as error:
        raise InputError(f"data set file {path}: {error}") from None
    return path, whole


def state(identity: str, location: str) -> str:
    """The state of a queued set's file: `there` (unchanged), `changed`, `unreadable`, or `gone`."""
    path, (base, _) = Path(location), split_part(identity)
    try:
        if not path.is_file():
            return "gone"
        return "there" if file_digest(path) == _hash_in(base) else "changed"
    except OSError:
        return "unreadable"


def unused(location: str) -> list[str]:
    """The names of the arrays in a set's file that are not read."""
    with zipfile.ZipFile(location) as archive:
        names = npy.names(archive)
        layout = _layout(names)
    read = {name for part in PARTS for name in layout.of(part)}
    return [name for name in names if name not in read]


def _hash_in(identity: str) -> str:
    return identity.removeprefix("npz:").removesuffix(IN_COLOUR)


@contextmanager
def _readable() -> Iterator[None]:
    """Raise InputError for any error of reading a file, which may be damaged."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error})") from None
    except Exception as error:
        raise InputError(f"it cannot be read as npz ({error}); is the file complete?") from None


def contents(path: Path) -> Contents:
    """The content of a file. Raises InputError for another layout. Compares sizes before it reads data."""
    with zipfile.ZipFile(path) as archive:
        layout = _layout(npy.names(archive))
        counts = {part: _counts(path, archive, layout.of(part)) for part in PARTS}
        train, test = counts["train"], counts["test"]
        classes = len(train)
        if min(train) != 0 or max(train) != classes - 1:
            raise InputError(f"{path}: training labels must run from 0 without gaps, these are {_some(train)}")
        if unknown_labels := set(test) - set(train):
            raise InputError(f"{path}: test labels must occur in training, these do not: {_some(unknown_labels)}")
        if untested := set(train) - set(test):
            raise InputError(f"{path}: every class needs test images, these labels have none: {_some(untested)}")
        if classes < 2:
            raise InputError(f"{path}: all training images have one label, so a network has nothing to learn")
        sha256 = file_digest(path)
        pixels = _looked_at(archive, layout, sha256) if layout.offsets else _stated(archive, layout)
    return Contents(sha256, layout, pixels, tuple(train[label] for label in range(classes)), test.total())


def _layout(names: list[str]) -> Layout:
    """The layout of a file with these arrays. Raises InputError for none, for several, and for missing arrays."""
    present = [layout for layout in LAYOUTS if any(layout.of(part).images in names for part in PARTS)]
    held = f"it needs {NEEDS}; it holds {_listed(names) or 'none'}"
    if not present:
        raise InputError(f"it has no arrays of images: {held}")
    if len(present) > 1:
        several = [layout.of(part).images for layout in present for part in PARTS]
        raise InputError(f"it has images twice ({_listed(name for name in several if name in names)}): keep one kind")
    (layout,) = present
    if missing := [name for part in PARTS for name in layout.of(part) if name and name not in names]:
        raise InputError(f"it has no array {', '.join(missing)}: {held}")
    return layout


def _counts(path: Path, archive: zipfile.ZipFile, layout: Layout) -> Counter[int]:
    """The number of images of a part by label. Raises InputError if images, labels and offsets do not fit."""
    labels, images = npy.stored(archive, layout.labels, npy.INTEGERS), npy.stored(archive, layout.images, npy.PIXELS)
    if len(labels.shape) != 1 and labels.shape[1:] != (1,):
        raise InputError(
            f"array {labels.name} has shape {labels.shape}: labels are one integer an image, (N,) or (N, 1)"
        )
    if layout.offsets:
        offsets = npy.stored(archive, layout.offsets, npy.INTEGERS)
        if len(offsets.shape) != 1 or len(images.shape) != 1:
            raise InputError(f"arrays {offsets.name} and {images.name} must have one dimension")
        count = offsets.shape[0] - 1
    else:
        count, *_ = _shape(images)
    if count != labels.shape[0]:
        raise InputError(f"{path} has {count} images in {layout.images} but {labels.shape[0]} labels in {labels.name}")
    if not 0 < count <= MAX_IMAGES:
        raise InputError(f"{path} has {count} images in {layout.images}: allowed are 1 to {MAX_IMAGES}")
    by_label = Counter[int]()
    for piece in labels.pieces():
        by_label.update(piece)
        if len(by_label) > MAX_CLASSES:
            raise InputError(f"array {labels.name} has more than {MAX_CLASSES} different labels")
    return by_label


def _shape(images: npy.Stored) -> tuple[int, int, int, int]:
    """The shape (N, H, W, C) of an array of pixels. Raises InputError for another number of dimensions or channels."""
    shape = (*images.shape, 1) if len(images.shape) == 3 else images.shape
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise InputError(
            f"array {images.name} has shape {images.shape}: allowed are (N, H, W), (N, H, W, 1), (N, H, W, 3)"
        )
    count, height, width, channels = shape
    _check_side(f"array {images.name}", height, width)
    return count, height, width, channels


def _stated(archive: zipfile.ZipFile, layout: Layout) -> Pixels:
    """The facts of images in arrays of pixels, from the headers."""
    train, test = (_shape(npy.stored(archive, layout.of(part).images, npy.PIXELS))[1:] for part in PARTS)
    if train != test:
        raise InputError(f"training images are {train}, test images {test} (H, W, C)")
    height, width, channels = train
    return Pixels(height, width, channels == 1, channels == 1)


def _looked_at(archive: zipfile.ZipFile, layout: Layout, sha256: str) -> Pixels:
    """The facts of encoded images, each decoded once; kept in the user's cache by the file's hash."""
    cache = cache_folder() / "packed" / f"{sha256}.json"
    try:
        return msgspec.json.decode(cache.read_bytes(), type=Pixels)
    except (OSError, msgspec.MsgspecError):  # missing, cut short by a full disk, or of another version
        pass
    first: encoded.Look | None = None
    gray = True
    for part in PARTS:
        for name, data in _encoded(archive, layout.of(part)):
            image = encoded.look(data, name, partial(_check_size, name, first))
            first, gray = first or image, gray and image.gray
    assert first is not None
    pixels = Pixels(first.height, first.width, gray, first.gray)
    write_cache(cache, [json.dumps(pixels)])
    return pixels


def _encoded(archive: zipfile.ZipFile, layout: Layout) -> Iterator[tuple[str, bytes]]:
    """The name (for messages) and bytes of each encoded image of a part. Raises InputError for wrong offsets."""
    offsets, images = npy.stored(archive, layout.offsets, npy.INTEGERS), npy.stored(archive, layout.images, npy.PIXELS)
    (total,), reached = images.shape, 0
    with images.open() as file:
        for index, (begin, end) in enumerate(pairwise(offsets.integers())):
            if not reached == begin < end <= total:
                break
            if end - begin > MAX_ENCODED:
                raise InputError(f"image {index} of {images.name} has {end - begin} bytes: allowed are {MAX_ENCODED}")
            yield f"image {index} of {images.name}", file.read(end - begin)
            reached = end
    if reached != total:
        raise InputError(f"{offsets.name} must rise from 0 to the number of bytes in {images.name}, {total}")


def _check_size(name: str, first: encoded.Look | None, height: int, width: int) -> None:
    """Raise InputError if an image differs in size from the first, or if the first has a size that is not allowed."""
    if first is None:
        _check_side(name, height, width)
    elif (height, width) != first[:2]:
        raise InputError(f"{name} is {height}x{width}, the first is {first.height}x{first.width} (height x width)")


def _some(labels: Iterable[int]) -> str:
    """The first few labels in order, as text."""
    return _listed(map(str, sorted(labels)))


def _listed(names: Iterable[str]) -> str:
    """The first few names, as text."""
    shown = [name if name.isprintable() else repr(name) for name in names]
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")


def _check_side(what: str, height: int, width: int) -> None:
    if not (2 <= height <= MAX_SIDE and 2 <= width <= MAX_SIDE):
        raise InputError(f"{what} has images of {height}x{width} pixels: allowed are 2 to {MAX_SIDE} a side")
