"""Decoding and cropping one image, against Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from engine.datasets import decoding
from engine.errors import InputError

MODES = ("L", "RGB", "CMYK")
KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "progressive": {"progressive": True},
    "coarse": {"quality": 5},
    "full colour": {"subsampling": "4:4:4", "quality": 100},
    "half colour": {"subsampling": "4:2:2"},
    "quarter colour": {"subsampling": "4:2:0", "optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "stored as RGB": {"keep_rgb": True},
}


def pillow(path: Path, gray: bool = False) -> Tensor:
    with Image.open(path) as image:
        pixels: Tensor = F.pil_to_tensor(image.convert("L" if gray else "RGB"))
        return pixels


def jpeg(mode: str, options: dict[str, object], size: tuple[int, int] = (53, 37)) -> bytes:
    """A photograph of smooth colours with grain, by default of a size that no JPEG block or subsampling divides."""
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size)
    grain = draw.normal(0, 9, (size[1], size[0], 3))
    image = Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(file := io.BytesIO(), "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_jpeg_has_the_pixels_that_pillow_gives_it(
    tmp_path: Path, mode: str, kind: str, gray: bool
) -> None:
    path = tmp_path / "one.jpg"
    path.write_bytes(jpeg(mode, KINDS[kind]))
    assert torch.equal(decoding.decode(path, gray), pillow(path, gray))


@pytest.mark.parametrize(("mode", "gray"), [("RGB", False), ("L", True)])
def test_photographs_are_decoded_without_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, gray: bool
) -> None:
    path = tmp_path / "one.jpg"
    path.write_bytes(jpeg(mode, {}))
    expected = pillow(path, gray)
    monkeypatch.setattr(Image, "open", None)
    assert torch.equal(decoding.decode(path, gray), expected)


def test_a_damaged_jpeg_is_refused_or_has_the_pixels_that_pillow_gives_it(tmp_path: Path) -> None:
    path, whole, draw = tmp_path / "one.jpg", jpeg("RGB", {}), np.random.default_rng(1)
    outcomes = set()
    for number in range(200):
        content = bytearray(whole)
        if number % 2:
            content[draw.integers(len(content))] ^= int(draw.integers(1, 256))
        else:
            content = content[: draw.integers(1, len(content))]
        path.write_bytes(content)
        try:
            expected = pillow(path)
        except Exception:
            with pytest.raises(InputError, match="cannot be decoded"):
                decoding.decode(path)
            outcomes.add("refused")
        else:
            assert torch.equal(decoding.decode(path), expected), number
            outcomes.add("decoded")
    assert outcomes == {"refused", "decoded"}
