"""What an encoded image must be, whether it lies in a folder or packed in an npz file. No torch or numpy here."""

import io
from collections.abc import Callable
from typing import NamedTuple

from engine.errors import InputError

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # of Pillow: eight bits a channel
GRAY = ("1", "L")


class Look(NamedTuple):
    """What is known of an image that was decoded once."""

    height: int
    width: int
    gray: bool


def look(data: bytes, name: str, fits: Callable[[int, int], None] = lambda height, width: None) -> Look:
    """Height, width and colour of an image, decoded to know that it is whole.

    `fits` may refuse a height and width before anything is decoded. Raises InputError, which begins with `name`, for
    bytes that are no image, a damaged one, or one of more than eight bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            (width, height), mode = image.size, image.mode
            fits(height, width)
            image.draft("L", (1, 1))  # a JPEG's coarsest scale: all of it is read, a fraction computed
            image.load()
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name} is no image that Pillow can read: replace or remove it") from None
    except Exception as error:  # whatever a damaged file leads a decoder to
        raise InputError(f"{name} is damaged ({error}): replace or remove it") from None
    if mode not in MODES:
        raise InputError(f"{name} has more than eight bits a channel (Pillow's mode {mode}): convert it")
    return Look(height, width, mode in GRAY)


def mode_of(gray: bool) -> str:
    """The mode of Pillow that the images of a set are converted to."""
    return "L" if gray else "RGB"
