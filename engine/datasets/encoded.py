"""Checks of encoded images, in a folder or packed in an npz file. No torch or numpy."""

import io
from collections.abc import Callable
from typing import NamedTuple

from engine.errors import InputError

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow's modes of at most eight bits a channel
GRAY = ("1", "L")


class Look(NamedTuple):
    """The size of an image in pixels, and whether it is gray."""

    height: int
    width: int
    gray: bool


def look(data: bytes, name: str, fits: Callable[[int, int], None] = lambda height, width: None) -> Look:
    """Height, width and colour of an image, which is decoded to find damage.

    `fits` may raise InputError for a height and width before decoding. Raises InputError that begins with `name` for
    bytes that are no image, for a damaged image, and for more than eight bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            (width, height), mode = image.size, image.mode
            fits(height, width)
            image.draft("L", (1, 1))  # a JPEG's coarsest scale: reads all data, computes a fraction of the pixels
            image.load()
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name} is no image that Pillow can read: replace or remove it") from None
    except Exception as error:  # decoders raise anything for a damaged file
        raise InputError(f"{name} is damaged ({error}): replace or remove it") from None
    if mode not in MODES:
        raise InputError(f"{name} has more than eight bits a channel (Pillow's mode {mode}): convert it")
    return Look(height, width, mode in GRAY)


def mode_of(gray: bool) -> str:
    """The mode of Pillow to which the images of a set are converted."""
    return "L" if gray else "RGB"
