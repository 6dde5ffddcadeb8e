"""Folders of images: `folder:PATH` is read into memory, `stream:PATH` is decoded during training. No torch or numpy.

The layout is torchvision's ImageFolder: PATH/train/CLASS/image and the same under PATH/test or, if that has no classes,
PATH/val. Images are recognised by their endings, at any depth of a class's folder.

Queueing a set reads every image (`engine.datasets.manifests`), so that damaged files are found before training.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from engine.datasets import manifests, places
from engine.datasets.catalog import (
    PHOTOGRAPH_SHAPE,
    PHOTOGRAPHS,
    DataSet,
    Part,
    mirrors,
    network_shape,
    part_size,
    split_part,
)
from engine.datasets.manifests import Seen
from engine.errors import InputError
from engine.machine import paths

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
SIDES = {"folder": (2, 1024), "stream": (32, 1024)}  # pixels, from and to
# Names that operating systems and programs create among the user's files: never classes, never images.
CLUTTER = ("@eadir", "#recycle", "#snapshot", "@recycle", "__macosx", "__pycache__", "$recycle.bin", "lost+found",
           "system volume information", "thumbs.db", "desktop.ini")  # fmt: skip
STREAM_SIDE = 224  # the default: ImageNet's


class Split(NamedTuple):
    """The images of the training or test part: paths relative to the set's folder, and class numbers."""

    files: list[str]
    labels: list[int]


class Pictures(NamedTuple):
    """The images of a set of folders, in order; classes are numbered in the order of their names."""

    root: Path
    classes: list[str]
    train: Split
    test: Split


@dataclass(frozen=True)
class _Named:
    """The folder that a spec, or an identity and its location, names; images are resized to `side` (None: not)."""

    kind: str  # folder or stream
    root: Path
    side: int | None
    part: Part

    @property
    def location(self) -> str:
        """The folder's path, and the side if one was given."""
        return str(self.root.resolve()) + (f"@{self.side}" if self.side else "")


def resolve(spec: str) -> DataSet:
    """The data set of `folder:PATH` or `stream:PATH`. Raises InputError if it cannot be used."""
    try:
        with _readable():
            named = _named(spec)
            pictures = listing(named.root)
            seen = _look(pictures)
            channels, height, width = shape = _shape(named, pictures, seen)
    except InputError as error:
        raise InputError(f"data set {spec!r}: ", error) from None
    suffix = f"-{named.part}" if named.part else ""
    side = f"@{named.side}" if named.side else ""
    return DataSet(
        name=f"{named.kind}:{named.root.resolve().name}{side}{suffix}",
        identity=f"{named.kind}:{_digest(named, seen)}{suffix}",
        location=named.location,
        part=named.part,
        shape=shape if named.kind == "stream" else network_shape(channels, height, width),
        classes=len(pictures.classes),
        train_images=part_size(len(pictures.train.labels), len(pictures.classes), named.part),
        test_images=len(pictures.test.files),
        flips=mirrors(named.root.resolve().name),
        counts=tuple(map(Counter(pictures.train.labels).__getitem__, range(len(pictures.classes)))),
    )


def verified(identity: str, location: str) -> tuple[Pictures, int | None, bool]:
    """The images of a queued set, the side to which they are resized (None: not), and whether all are gray.

    Raises InputError if they are missing or have changed since they were queued.
    """
    base, _ = split_part(identity)
    kind = base.partition(":")[0]
    named = _named(f"{kind}:{location}")
    if not location or not named.root.is_dir():
        raise places.lost(f"{kind}:{named.root.name}" if location else base[:16], base, location)
    with _readable():
        pictures = listing(named.root)
        seen = _look(pictures)
    if _digest(named, seen) != base.partition(":")[2]:
        raise InputError(
            f"data set folder {named.root} has changed since it was queued: restore it, or queue it as a new set"
        )
    return pictures, named.side, _all_gray(seen)


def state(identity: str, location: str) -> str:
    """The state of a queued set's images: `there` (unchanged), `changed`, or `gone`."""
    if not _named(f"{identity.partition(':')[0]}:{location}").root.is_dir():
        return "gone"
    try:
        verified(identity, location)
    except InputError:
        return "changed"
    return "there"


def unused(identity: str, location: str) -> list[str]:
    """The names in a set's folder that are not read, as they are neither its training nor its test part."""
    root = _named(f"{identity.partition(':')[0]}:{location}").root
    read = {"train", listing(root).test.files[0].partition("/")[0]}
    return sorted(entry.name for entry in root.iterdir() if entry.name not in read and not is_clutter(entry.name))


def find(identity: str, location: str) -> tuple[Pictures, int]:
    """The images of a streamed set, and their side in pixels. Raises InputError if they are missing or changed."""
    name, _ = split_part(identity)
    if name in PHOTOGRAPHS:
        return _registered(name), PHOTOGRAPH_SHAPE[1]
    pictures, side, _ = verified(identity, location)
    assert side is not None
    return pictures, side


def _registered(name: str) -> Pictures:
    """The images of a published set, checked by their numbers only: hashing a million files would take too long."""
    facts, folder = PHOTOGRAPHS[name], places.find(name)
    if folder is None:
        raise places.absent(name)
    root = folder / facts.folder
    pictures = listing(root, tests=("val",))
    counted = len(pictures.classes), len(pictures.train.files), len(pictures.test.files)
    right = facts.classes, facts.train_images, facts.test_images
    if counted != right:
        has, needs = (
            f"{c} classes, {train:,} training and {test:,} test images" for c, train, test in (counted, right)
        )
        raise InputError(f"{root} is not all of {name}: it holds {has}; the published set has {needs}")
    return pictures


def listing(root: Path, tests: tuple[str, ...] = ("test", "val")) -> Pictures:
    """The classes and images in `root`; the first folder of `tests` that has classes is the test part.

    Raises InputError for another layout, and if the training and test parts have different classes.
    """
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist")
    wanted = f"it needs train/CLASS/ with images, and the same under {' or '.join(f'{name}/' for name in tests)}"
    if not (root / "train").is_dir():
        raise InputError(f"{root} has no folder train/: {wanted}")
    there = [name for name in tests if (root / name).is_dir()]
    if not there:
        raise InputError(f"{root} has no folder {' nor '.join(f'{name}/' for name in tests)}: {wanted}")
    test = next((name for name in there if _folders(root / name)), there[0])
    found = {part: _folders(root / part) for part in ("train", test)}
    for part, classes in found.items():
        if not classes:
            raise InputError(f"{root / part} has no folders of classes: {wanted}")
    classes = found["train"]
    for part, other in (("train", test), (test, "train")):
        if alone := sorted(set(found[part]) - set(found[other])):
            named = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
            raise InputError(
                f"{root}: only {part}/ has the classes {named}: give {other}/ folders of the same names, or remove them"
            )
    if len(classes) < 2:
        raise InputError(f"{root} has one class, {classes[0]}: add a folder for at least one other class")
    return Pictures(root, classes, _split(root, "train", classes), _split(root, test, classes))


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_clutter(entry.name))


def is_clutter(name: str) -> bool:
    """Whether to ignore a file or folder: its name is hidden or in `CLUTTER`."""
    return name.startswith(".") or name.casefold() in CLUTTER


def is_image(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return name.lower().endswith(ENDINGS) and not is_clutter(name)


def _split(root: Path, part: str, classes: list[str]) -> Split:
    split = Split([], [])
    for label, name in enumerate(classes):
        found = sorted(_images(root, f"{part}/{name}"))
        if not found:
            raise InputError(f"{root / part / name} holds no image ({', '.join(ENDINGS)}): fill the class or remove it")
        split.files.extend(found)
        split.labels.extend([label] * len(found))
    return split


def _images(root: Path, below: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The paths of the images in the folder `below` of `root`, at any depth; `above` are the folders that contain it.

    Raises InputError for a pipe, a link to nothing and the like, and for a link to a folder that contains it.
    """
    about = (root / below).stat()
    if (here := (about.st_dev, about.st_ino)) in above:
        raise InputError(f"{root / below} links to a folder that it lies in: remove the link")
    with os.scandir(root / below) as entries:
        for entry in entries:
            path = f"{below}/{entry.name}"
            if is_clutter(entry.name):
                continue
            if entry.is_dir():
                yield from _images(root, path, (*above, here))
            elif is_image(entry.name):
                if not entry.is_file():
                    what = "links to nothing" if entry.is_symlink() else "is no file, but a pipe, socket or device"
                    raise InputError(f"{root / path} {what}: remove it")
                yield path


@contextmanager
def _readable() -> Iterator[None]:
    """Raise InputError for an OSError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error}): {error.filename}") from None


def _named(spec: str) -> _Named:
    """The folder that a spec names. An existing folder called photos-a or photos@32 is that folder, not a part."""
    kind, _, path = spec.partition(":")
    part: Part = ""
    if not paths.given(path).is_dir():
        path, part = split_part(path)
    root, side = paths.given(path), STREAM_SIDE if kind == "stream" else None
    before, at, size = path.rpartition("@")
    if at and not root.is_dir():
        root = paths.given(before)
        least, most = SIDES[kind]
        if not (size.isdecimal() and least <= int(size) <= most):
            raise InputError(f"@{size} is no side in pixels: allowed are {least} to {most}, e.g. {kind}:{before}@32")
        side = int(size)
    return _Named(kind, root, side, part)


def _shape(named: _Named, pictures: Pictures, seen: dict[str, Seen]) -> tuple[int, int, int]:
    """(channels, height, width) of the images as read; one channel only if all are gray and not streamed."""
    channels = 1 if named.kind == "folder" and _all_gray(seen) else 3
    if named.side:
        return channels, named.side, named.side
    first = pictures.train.files[0]
    size = seen[first].height, seen[first].width
    for path, image in seen.items():
        if (image.height, image.width) != size:
            raise InputError(
                f"the images have several sizes: {first} is {size[0]}x{size[1]}, {path} {image.height}x{image.width}"
                f" (height x width): folder:{named.root}@32 resizes all of them to 32x32"
            )
    least, most = SIDES["folder"]
    if not (least <= min(size) and max(size) <= most):
        raise InputError(
            f"the images are {size[0]}x{size[1]}: allowed are {least} to {most} pixels a side;"
            f" folder:{named.root}@32 resizes them"
        )
    return channels, *size


def _look(pictures: Pictures) -> dict[str, Seen]:
    return manifests.look(pictures.root, pictures.train.files + pictures.test.files)


def _all_gray(seen: dict[str, Seen]) -> bool:
    return all(image.gray for image in seen.values())


def _digest(named: _Named, seen: dict[str, Seen]) -> str:
    """The SHA-256 of these images at this size, from relative paths and contents, independent of the location."""
    total = hashlib.sha256(f"side {named.side}\n".encode())
    for path in sorted(seen):
        total.update(f"{path}\0{seen[path].sha256}\n".encode(errors="surrogateescape"))
    return total.hexdigest()
