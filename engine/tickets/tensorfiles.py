"""Tensors and JSON to the bytes of a safetensors file, and back. Nothing is pickled."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.errors import InputError
from engine.tickets import headers
from engine.tickets.headers import METADATA  # a single key, so that equal content gives equal bytes


def pack(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """The bytes of a file with `tensors`, on any device and of any layout, and the JSON value `about` as metadata."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, {METADATA: json.dumps(about, sort_keys=True)})


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the JSON value of a file of `pack`. Raises InputError for any other bytes."""
    try:
        tensors = load(data)
        return tensors, headers.decode(headers.read(data).metadata[METADATA])
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"not a cockpit safetensors file ({error})") from None
