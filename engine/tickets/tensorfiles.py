"""Tensors and a little JSON as the bytes of one safetensors file, and back. Nothing is ever pickled."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.errors import InputError
from engine.tickets import headers
from engine.tickets.headers import METADATA  # one key, so that the same content always gives the same bytes


def pack(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """`tensors`, on any device and of any layout, with the JSON value `about` in the file's metadata."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, {METADATA: json.dumps(about, sort_keys=True)})


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the JSON value. Raises InputError for bytes that `pack` did not write."""
    try:
        tensors = load(data)
        return tensors, headers.decode(headers.read(data).metadata[METADATA])
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"not a cockpit safetensors file ({error})") from None
