"""Small folders of images for tests."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl")


def pixels(height: int, width: int, seed: int, gray: bool = False) -> Any:
    """An image of smooth noise whose class shifts its colours, so that networks can learn it."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 200, (4, 4) if gray else (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def make(
    root: Path,
    *,
    train: int = 6,
    test: int = 3,
    size: tuple[int, int] = (40, 40),
    ending: str = "png",
    part: str = "test",
) -> Path:
    """`train` and `test` images of each of three classes, (height, width) pixels large."""
    for split, count in (("train", train), (part, test)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                seed = 1000 * (split == "train") + 100 * label + number
                image = np.minimum(pixels(*size, seed) // 2 + 40 * label, 255).astype(np.uint8)
                Image.fromarray(image).save(root / split / name / f"{number:03}.{ending}")
    return root


def truncate(file: Path) -> None:
    """Cut a file to its first half."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def empty(folder: Path) -> None:
    """Empty a folder."""
    shutil.rmtree(folder)
    folder.mkdir()
