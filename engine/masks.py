"""Mask files (`tickets.pack_masks`) read without torch and numpy: a layer's mask is an integer, weight i its bit i."""

import json

from engine.errors import InputError

ABOUT = "__metadata__"  # the one key of a safetensors header that names no tensor


def read(data: bytes) -> dict[str, int]:
    """The masks in a file's bytes, by layer. Raises InputError for bytes that are no safetensors file.

    Such a file is its header's length in eight bytes, the header in JSON, and the tensors' bytes.
    """
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        places = {name: entry["data_offsets"] for name, entry in header.items() if name != ABOUT}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a mask file of cockpit ({error})") from None
    return {
        name: int.from_bytes(data[start + first : start + last], "little") for name, (first, last) in places.items()
    }


def common(a: bytes, b: bytes) -> dict[str, int]:
    """How many weights of each layer remain under both of two mask files, for the layers that both have."""
    masks_a, masks_b = read(a), read(b)
    return {name: (mask & masks_b[name]).bit_count() for name, mask in masks_a.items() if name in masks_b}
