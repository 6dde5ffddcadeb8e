"""The arrays of an npz file without numpy: their headers, and integers in pieces.

A header is checked against the size of the data after it, and at most one piece is in memory, so that a small file
that unpacks to gigabytes is refused.
"""

import ast
import zipfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import IO, Annotated, Any

import msgspec

from engine.errors import InputError

LONGEST_HEADER = 10_000  # bytes; numpy's limit
PIECE = 1 << 20  # bytes
PIXELS = {"|u1": "B"}  # numpy's name of a type -> the code of Python's array
INTEGERS = {"|u1": "B", "|i1": "b", "<u2": "H", "<i2": "h", "<u4": "I", "<i4": "i", "<u8": "Q", "<i8": "q"}


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """The header of an npy file (numpy's NEP 1)."""

    descr: Any
    fortran_order: bool
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]


@dataclass(frozen=True)
class Stored:
    """An array of an npz file whose header was read and checked."""

    archive: zipfile.ZipFile
    name: str
    dtype: str
    shape: tuple[int, ...]

    def open(self) -> IO[bytes]:
        """The file of the array, at the first byte after its header."""
        file = self.archive.open(f"{self.name}.npy")
        _header(file, self.name)
        return file

    def pieces(self) -> "Iterator[array[int]]":
        """The integers, in arrays of up to `PIECE` bytes."""
        with self.open() as file:
            while piece := file.read(PIECE):
                yield array(INTEGERS[self.dtype], piece)

    def integers(self) -> Iterator[int]:
        """The integers, one by one."""
        return chain.from_iterable(self.pieces())


def names(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays of an npz file."""
    return [name.removesuffix(".npy") for name in dict.fromkeys(archive.namelist()) if name.endswith(".npy")]


def stored(archive: zipfile.ZipFile, name: str, dtypes: Mapping[str, str]) -> Stored:
    """The array of this name. Raises InputError for another dtype, a damaged header or a wrong size."""
    with archive.open(f"{name}.npy") as file:
        header, begins = _header(file, name), file.tell()
    dtype, shape = header.descr, header.shape
    if not isinstance(dtype, str) or dtype not in dtypes:
        wanted = "uint8" if dtypes is PIXELS else "whole numbers of 8 to 64 bits, little-endian"
        raise InputError(f"array {name} has dtype {str(dtype)[:40]}: it must be {wanted}")
    if archive.getinfo(f"{name}.npy").file_size != begins + prod(shape) * int(dtype[2:]):
        raise InputError(f"array {name} does not hold the {shape} values that its header states")
    if header.fortran_order and len(shape) > 1:
        raise InputError(f"array {name} is in Fortran order: save it with numpy.ascontiguousarray")
    return Stored(archive, name, dtype, shape)


def _header(file: IO[bytes], name: str) -> _Header:
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise InputError(f"array {name} is not in npy format")
    length = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    if length > LONGEST_HEADER:
        raise InputError(f"array {name} has a header of {length} bytes: allowed are {LONGEST_HEADER}")
    try:
        header = msgspec.convert(fields := ast.literal_eval(file.read(length).decode("latin1")), _Header)
        if not isinstance(fields["shape"], tuple):  # numpy accepts no list, either
            raise TypeError
        return header
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise InputError(f"array {name} has a damaged header") from None
