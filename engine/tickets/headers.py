"""A strict reader of the header of safetensors files, without torch and numpy. All such files are read with it."""

import json
import math
from typing import Annotated, Any

import msgspec

METADATA = "cockpit"  # the key of cockpit's JSON in the metadata

_SIZES = {  # bytes of an element
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor: its type, its shape, and the first and last + 1 of its bytes, counted from the end of the header."""

    dtype: str
    shape: list[_Count]
    data_offsets: tuple[_Count, _Count]


class Header(msgspec.Struct, frozen=True):
    """The header of a file: metadata, tensors, and the offset of the tensors' bytes."""

    metadata: dict[str, str]
    tensors: dict[str, Entry]
    start: int

    @property
    def end(self) -> int:
        """The size of the whole file in bytes."""
        return self.start + max((entry.data_offsets[1] for entry in self.tensors.values()), default=0)

    def span(self, entry: Entry) -> slice:
        """The bytes of a tensor in the file."""
        first, last = entry.data_offsets
        return slice(self.start + first, self.start + last)


def read(data: bytes) -> Header:
    """The header of a file: its length in eight bytes, then JSON. Raises ValueError for any other content.

    Tensors must follow each other without gaps, as in files of the safetensors library. `data` may lack their bytes.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or start > len(data):
        raise ValueError("it is no safetensors file, or cut off in its header")
    content = decode(data[8:start])
    if not isinstance(content, dict):
        raise ValueError("its header is no JSON object")
    metadata = msgspec.convert(content.pop("__metadata__", {}), dict[str, str])
    header = Header(metadata, msgspec.convert(content, dict[str, Entry]), start)
    after = 0
    for name, entry in sorted(header.tensors.items(), key=lambda item: item[1].data_offsets):
        first, last = entry.data_offsets
        if entry.dtype not in _SIZES or first != after or last - first != math.prod(entry.shape) * _SIZES[entry.dtype]:
            raise ValueError(f"the header says of {name[:100]!r} what cannot be")
        after = last
    return header


def decode(text: bytes | str) -> Any:
    """The value of JSON that all readers agree on: unique keys, finite numbers, whole characters. Raises ValueError."""
    try:
        whole = text.decode() if isinstance(text, bytes) else text
        value = json.loads(whole, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except (UnicodeError, json.JSONDecodeError):
        raise ValueError("it is no safetensors file, or its JSON is broken") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("its JSON has a key twice")
    return members


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"its JSON has the number {text[:20]}")
    return number
