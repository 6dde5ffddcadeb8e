"""Images and data sets that tests write and read."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.datasets import load, specs

Arrays = dict[str, Any]


def gray(count: int = 40, side: int = 28, seed: int = 0) -> Arrays:
    """A small set in MedMNIST's layout."""
    draw = np.random.default_rng(seed)
    return {
        "train_images": draw.integers(0, 256, (count, side, side), dtype=np.uint8),
        "train_labels": np.arange(count).reshape(-1, 1) % 4,
        "test_images": draw.integers(0, 256, (8, side, side), dtype=np.uint8),
        "test_labels": (np.arange(8) % 4).reshape(-1, 1),
    }


def encoded(pixels: Any, form: str = "PNG") -> tuple[Any, Any]:
    """Images end to end, as in the packs of encoded images, and their offsets."""
    parts = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, form)
        parts.append(file.getvalue())
    offsets = np.cumsum([0, *map(len, parts)])
    return np.frombuffer(b"".join(parts), np.uint8), offsets


def save(path: Path, arrays: Arrays, compress: bool = True) -> str:
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    return f"npz:{path}"


def read(spec: str) -> load.Arrays:
    found = specs.resolve(spec)
    return load.load(found.identity, found.location)


def arrays(channels: int = 3, side: int = 32, count: int = 50) -> load.Arrays:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    labels = (np.arange(count) % 5).astype(np.int64)
    return load.Arrays(images, labels, images[:10], labels[:10], classes=5)


def scalar_hash(value: int, key: int) -> int:
    """`streams.hash32` with Python's integers."""

    def mix(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D & 0xFFFFFFFF
        x ^= x >> 15
        x = x * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    return mix(mix((value ^ key) & 0xFFFFFFFF) ^ (key >> 32))
