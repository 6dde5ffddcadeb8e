"""What an npz file holds, read from its headers and labels without numpy."""

import ast
import hashlib
import io
import zipfile
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from engine.datasets.catalog import DataSet, Part, mirrors, network_shape, part_size, split_part
from engine.errors import InputError

MAX_SIDE = 1024  # pixels
PACKED = ("bytes", "offsets", "labels")
ARRAYS = ("images", "labels")


def resolve(spec: str) -> DataSet:
    """The data set that `npz:PATH` names. Raises InputError for a file that cannot be used."""
    name, (base, part) = spec.removeprefix("npz:"), split_part(spec)
    try:
        if part and not Path(name).expanduser().exists():
            name = base.removeprefix("npz:")
        else:
            part = ""  # a file may itself be called photos-a
        path = Path(name).expanduser()
        if not path.is_file():
            near = path.with_name(f"{path.name}.npz")
            hint = f"did you mean npz:{near}?" if near.is_file() else "give npz:PATH, or npz:PATH-a for a half"
            raise InputError(f"there is no file {path}; {hint}")
        return _describe(path, part)
    except InputError as error:
        raise InputError(f"data set {spec!r}: {error}") from None
    except OSError as error:
        raise InputError(f"data set {spec!r} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # whatever a damaged zip or header leads to
        raise InputError(f"data set {spec!r} cannot be read as npz ({error}); is the file complete?") from None


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state(identity: str, location: str) -> str:
    """Whether the file of a set that was queued is `there` as it was then, `changed`, or `gone`."""
    path, (base, _) = Path(location), split_part(identity)
    if not path.is_file():
        return "gone"
    return "there" if file_digest(path) == base.removeprefix("npz:") else "changed"


def _describe(path: Path, part: Part) -> DataSet:
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        packed = "train_bytes" in names
        wanted = [f"{split}_{key}" for split in ("train", "test") for key in (PACKED if packed else ARRAYS)]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise InputError(
                f"{path} has no array {', '.join(missing)}: it needs train_images, train_labels, test_images and"
                " test_labels (uint8 pixels), or train_bytes, train_offsets, train_labels and the same for test"
            )
        labels = {split: _labels(archive, f"{split}_labels") for split in ("train", "test")}
        shapes = {}
        for split, values in labels.items():
            count, shape = (_packed_shape if packed else _array_shape)(archive, split)
            if count != len(values):
                raise InputError(f"{path} has {count} {split} images but {len(values)} {split} labels")
            if not count:
                raise InputError(f"{path} has no {split} images")
            shapes[split] = shape
    if shapes["train"] != shapes["test"]:
        raise InputError(f"{path}: training images are {shapes['train']}, test images {shapes['test']} (C, H, W)")
    counts = Counter(labels["train"])
    classes = len(counts)
    if min(counts) != 0 or max(counts) != classes - 1:
        raise InputError(f"{path}: training labels must run from 0 without gaps, these are {_some(counts)}")
    if unknown_labels := set(labels["test"]) - set(counts):
        raise InputError(f"{path}: test labels must occur in training, these do not: {_some(unknown_labels)}")
    if untested := set(counts) - set(labels["test"]):
        raise InputError(f"{path}: every class needs test images, these labels have none: {_some(untested)}")
    if classes < 2:
        raise InputError(f"{path}: all training images have one label, there is nothing to learn")
    digest, suffix = file_digest(path), f"-{part}" if part else ""
    return DataSet(
        name=f"npz:{path.stem}{suffix}",
        identity=f"npz:{digest}{suffix}",
        location=str(path.resolve()),
        part=part,
        shape=network_shape(*shapes["train"]),
        classes=classes,
        train_images=part_size(len(labels["train"]), classes, part),
        test_images=len(labels["test"]),
        flips=mirrors(path.stem),
    )


def _some(labels: Iterable[int]) -> str:
    """The first few of some labels, in order."""
    found = sorted(labels)
    return ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")


def _header(file: IO[bytes]) -> dict[str, Any]:
    """The header of an npy file (numpy's NEP 1), read without numpy: its dtype and shape."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise InputError("one of its arrays is not in npy format")
    length = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    header = ast.literal_eval(file.read(length).decode("latin1"))
    if not isinstance(header, dict) or not isinstance(header["shape"], tuple):
        raise InputError("one of its arrays has a damaged header")
    return header


def _open(archive: zipfile.ZipFile, name: str, dtypes: Mapping[str, str]) -> tuple[IO[bytes], str, tuple[int, ...]]:
    """An array's bytes behind its header, its dtype and its shape, checked against the size that the file states."""
    file = archive.open(f"{name}.npy")
    header = _header(file)
    dtype, shape = header["descr"], header["shape"]
    if not isinstance(dtype, str) or dtype not in dtypes:
        wanted = "uint8" if dtypes is PIXELS else "whole numbers of 8 to 64 bits, little-endian"
        raise InputError(f"array {name} has dtype {dtype}: it must be {wanted}")
    items = 1
    for side in shape:
        items *= side
    if archive.getinfo(f"{name}.npy").file_size != file.tell() + items * int(dtype[2:]):
        raise InputError(f"array {name} does not hold the {shape} values that its header states")
    if header["fortran_order"] and len(shape) > 1:
        raise InputError(f"array {name} is in Fortran order: save it with numpy.ascontiguousarray")
    return file, dtype, shape


PIXELS = {"|u1": "B"}  # numpy's name of each type that is read, and that of Python's array
INTEGERS = {"|u1": "B", "|i1": "b", "<u2": "H", "<i2": "h", "<u4": "I", "<i4": "i", "<u8": "Q", "<i8": "q"}


def _labels(archive: zipfile.ZipFile, name: str) -> "array[int]":
    file, dtype, shape = _open(archive, name, INTEGERS)
    if len(shape) != 1 and shape[1:] != (1,):
        raise InputError(f"array {name} has shape {shape}: labels are one integer an image, (N,) or (N, 1)")
    with file:
        return array(INTEGERS[dtype], file.read())


def _array_shape(archive: zipfile.ZipFile, split: str) -> tuple[int, tuple[int, int, int]]:
    file, _, shape = _open(archive, f"{split}_images", PIXELS)
    file.close()
    if len(shape) == 3:
        shape = (*shape, 1)
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise InputError(f"array {split}_images has shape {shape}: allowed are (N, H, W), (N, H, W, 1), (N, H, W, 3)")
    count, height, width, channels = shape
    _check_side(f"array {split}_images", height, width)
    return count, (channels, height, width)


def _packed_shape(archive: zipfile.ZipFile, split: str) -> tuple[int, tuple[int, int, int]]:
    """Encoded images end to end: the first of them tells the shape (each is checked when they are decoded)."""
    from PIL import Image, UnidentifiedImageError

    file, dtype, shape = _open(archive, f"{split}_offsets", INTEGERS)
    with file:
        offsets = array(INTEGERS[dtype], file.read())
    file, _, length = _open(archive, f"{split}_bytes", PIXELS)
    with file:
        ordered = all(a < b for a, b in pairwise(offsets))
        if (
            len(shape) != 1
            or len(length) != 1
            or len(offsets) < 2
            or offsets[0] != 0
            or offsets[-1] != length[0]
            or not ordered
        ):
            raise InputError(f"{split}_offsets must rise from 0 to the number of bytes in {split}_bytes, {length[0]}")
        first = file.read(offsets[1])
    try:
        with Image.open(io.BytesIO(first)) as image:
            width, height = image.size
            channels = 1 if image.mode in ("1", "L") else 3
    except UnidentifiedImageError:
        raise InputError(f"the first of {split}_bytes is no image that Pillow can read") from None
    _check_side(f"the first of {split}_bytes", height, width)
    return len(offsets) - 1, (channels, height, width)


def _check_side(what: str, height: int, width: int) -> None:
    if not (2 <= height <= MAX_SIDE and 2 <= width <= MAX_SIDE):
        raise InputError(f"{what} has images of {height}x{width} pixels: allowed are 2 to {MAX_SIDE} a side")
