"""One image from its file to pixels: decoded by libjpeg-turbo or Pillow, cropped and resized by torchvision."""

import io
import math
from pathlib import Path

import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from engine import streams
from engine.datasets import encoded
from engine.errors import InputError

TEST_RESIZE = 256 / 224  # short side in testing, over the side of the crop; the custom for ImageNet
AREA = (0.08, 1.0)  # of a random resized crop, as a fraction of the image: torchvision's defaults
RATIO = (3 / 4, 4 / 3)  # width by height
TRIES = 10  # of drawing a crop that fits
DRAWS = 4 * TRIES + 1  # random numbers of an image: area, ratio, top and left of each try; then the flip


def decode(path: Path, gray: bool = False) -> Tensor:
    """The image (C, H, W) uint8 in a file, as RGB or `gray`. Raises InputError for a file that is no image.

    The channels of a pixel are adjacent in memory, the layout that torchvision crops and resizes fastest.
    """
    try:
        data = path.read_bytes()
        if (pixels := _photograph(data, gray)) is None:
            with Image.open(io.BytesIO(data)) as image:
                pixels = F.pil_to_tensor(image.convert(encoded.mode_of(gray)))
        return pixels
    except Exception as error:  # decoders raise anything for a damaged file
        raise InputError(f"image {path} cannot be decoded ({error}): replace or remove it") from None


def _photograph(data: bytes, gray: bool) -> Tensor | None:
    """A JPEG (C, H, W), with the same pixels as from Pillow in less time; None for other files or colour spaces."""
    if not simplejpeg.is_jpeg(data):
        return None
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
        if colours != ("Gray" if gray else "YCbCr"):  # left to Pillow, whose conversion of colours differs
            return None
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", fastdct=False, fastupsample=False)
    except ValueError:  # damaged, or of a kind that only Pillow reads
        return None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def centred(image: Tensor, side: int, resize: float = TEST_RESIZE) -> Tensor:
    """The central crop (C, side, side) of an image (C, H, W) whose short side is scaled to `resize` x `side`."""
    crop: Tensor = F.center_crop(F.resize(image, [round(resize * side)], antialias=True), [side, side])
    return crop


def augmented(image: Tensor, side: int, draws: list[float], flips: bool) -> Tensor:
    """A random resized crop (C, side, side) of an image (C, H, W); with `flips`, mirrored half of the time."""
    top, left, height, width = random_crop(image.shape[1], image.shape[2], draws)
    crop: Tensor = F.resized_crop(image, top, left, height, width, [side, side], antialias=True)
    return crop.flip(2) if flips and draws[-1] < 0.5 else crop


def draws_for(indices: list[int], stream_key: int) -> list[list[float]]:
    """`DRAWS` random numbers in [0, 1) for each image of `indices` (below 10^8); `stream_key` is the epoch's."""
    counters = torch.tensor(indices)[:, None] * DRAWS + torch.arange(DRAWS)
    return (streams.hash32(counters, stream_key).double() / 2**32).tolist()


def random_crop(height: int, width: int, draws: list[float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop, as torchvision's RandomResizedCrop draws it.

    A crop that does not fit is drawn again; after `TRIES` it is the largest central one of an allowed ratio.
    """
    low, high = map(math.log, RATIO)
    for try_ in range(TRIES):
        area, ratio, down, right = draws[4 * try_ : 4 * try_ + 4]
        size = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
        shape = math.exp(low + (high - low) * ratio)
        w, h = round(math.sqrt(size * shape)), round(math.sqrt(size / shape))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w
