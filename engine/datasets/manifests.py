"""What is known of the images of a folder: hash and size of each, found out once. No torch or numpy here.

An image is read, hashed and decoded when it is first looked at. What was found is kept in the user's cache by path,
size and time of modification; from then on only those are looked at.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

from engine.datasets import encoded
from engine.machine import devices, processes

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
    about = (root / path).stat()
    before = known.get(path)
    if before and (before.bytes, before.modified) == (about.st_size, about.st_mtime_ns):
        return before
    data = (root / path).read_bytes()
    found = encoded.look(data, str(root / path))
    return Seen(about.st_size, about.st_mtime_ns, hashlib.sha256(data).hexdigest(), *found)


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
    partial = place.with_name(f".{place.name}.{processes.mark()}")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
