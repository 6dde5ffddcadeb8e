"""Mask files (`tickets.pack_masks`) read without torch and numpy: a layer's mask is an integer, weight i its bit i."""

from engine.errors import InputError
from engine.tickets import headers


def read(data: bytes) -> dict[str, int]:
    """The masks in a file's bytes, by layer. Raises InputError for bytes that are no whole safetensors file."""
    try:
        header = headers.read(data)
    except ValueError as error:
        raise InputError(f"not a cockpit mask file ({error})") from None
    if len(data) < header.end:
        raise InputError(f"the mask file is cut off: {len(data):,} of its {header.end:,} bytes are here")
    return {name: int.from_bytes(data[header.span(entry)], "little") for name, entry in header.tensors.items()}


def common(a: bytes, b: bytes) -> dict[str, int]:
    """How many weights of each layer remain under both of two mask files, for the layers that both have."""
    masks_a, masks_b = read(a), read(b)
    return {name: (mask & masks_b[name]).bit_count() for name, mask in masks_a.items() if name in masks_b}
