"""What is known of the images of a folder: hash and size of each, found out once. No torch or numpy here.

An image is read, hashed and decoded when it is first looked at. What was found is kept in the user's cache by path,
size and time of modification; from then on only those are looked at.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

from engine import devices
from engine.errors import InputError

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # of Pillow: eight bits a channel
GRAY = ("1", "L")
TOGETHER = 1024  # images


class Seen(NamedTuple):
    """What is known of an image's file since it was last looked at."""

    bytes: int
    modified: int  # nanoseconds
    sha256: str
    height: int
    width: int
    gray: bool


def look(root: Path, images: list[str]) -> dict[str, Seen]:
    """What is known of each image, by its path below `root`; only what is new or changed is read.

    Raises InputError for a file that is no image, or damaged.
    """
    cache = cache_folder() / "folders" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()}.jsonl"
    known, found, complete = _remembered(cache), dict[str, Seen](), False
    files = iter(images)
    try:
        with ThreadPoolExecutor(devices.cores()) as threads:
            while some := list(islice(files, TOGETHER)):
                seen = threads.map(lambda path: _see(root, path, known), some)
                found.update(zip(some, seen, strict=True))
        complete = True
    finally:  # what is interrupted after an hour goes on from there
        kept = found if complete else {**known, **found}
        if kept != known:
            write_cache(cache, (json.dumps([path, *about]) for path, about in kept.items()))
    return found


def _see(root: Path, path: str, known: dict[str, Seen]) -> Seen:
    """What is known of one image. Raises InputError if it is none, or damaged."""
    from PIL import Image, UnidentifiedImageError

    about = (root / path).stat()
    before = known.get(path)
    if before and (before.bytes, before.modified) == (about.st_size, about.st_mtime_ns):
        return before
    data = (root / path).read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            (width, height), mode = image.size, image.mode
            image.draft("L", (1, 1))  # a JPEG's coarsest scale: all of it is read, a fraction computed
            image.load()
    except UnidentifiedImageError:
        raise InputError(f"{root / path} is no image that Pillow can read: replace or remove it") from None
    except Exception as error:  # whatever a damaged file leads a decoder to
        raise InputError(f"{root / path} is damaged ({error}): replace or remove it") from None
    if mode not in MODES:
        raise InputError(f"{root / path} has more than eight bits a channel (Pillow's mode {mode}): convert it")
    return Seen(about.st_size, about.st_mtime_ns, hashlib.sha256(data).hexdigest(), height, width, mode in GRAY)


def cache_folder() -> Path:
    """Where what is costly to find out again is kept."""
    return user_cache_path("cockpit")


def _remembered(cache: Path) -> dict[str, Seen]:
    try:
        with cache.open(encoding="utf-8") as lines:
            return {path: Seen(*about) for path, *about in map(json.loads, lines)}
    except (OSError, ValueError, TypeError):  # none yet, or one that another version or a full disk left
        return {}


def write_cache(place: Path, lines: Iterable[str]) -> None:
    """Keep lines, all or none of them. Where the cache cannot be written they are found out again next time."""
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
