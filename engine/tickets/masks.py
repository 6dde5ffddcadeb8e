"""Mask files (`starts.pack_masks`) without torch and numpy: a layer's mask is an integer whose bit i is weight i."""

from engine.errors import InputError
from engine.tickets import headers


def read(data: bytes) -> dict[str, int]:
    """The masks of a file's bytes, by layer. Raises InputError for a file that is cut off or no safetensors file."""
    try:
        header = headers.read(data)
    except ValueError as error:
        raise InputError(f"not a cockpit mask file ({error})") from None
    if len(data) < header.end:
        raise InputError(f"the mask file is cut off: {len(data):,} of its {header.end:,} bytes are here")
    return {name: int.from_bytes(data[header.span(entry)], "little") for name, entry in header.tensors.items()}


def common(a: bytes, b: bytes) -> dict[str, int]:
    """The number of weights that both of two mask files keep, for each layer that both have."""
    masks_a, masks_b = read(a), read(b)
    return {name: (mask & masks_b[name]).bit_count() for name, mask in masks_a.items() if name in masks_b}
