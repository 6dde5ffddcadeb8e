"""The hash and size of each image of a folder, cached. No torch or numpy.

An image is read, hashed and decoded once. The result is kept in the user's cache, and is valid while the file's path,
size and time of modification stay the same.
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

TOGETHER = 1024  # images read between two additions to the result


class Seen(NamedTuple):
    """The facts of an image's file."""

    bytes: int
    modified: int  # nanoseconds
    sha256: str
    height: int
    width: int
    gray: bool


def look(root: Path, images: list[str]) -> dict[str, Seen]:
    """The facts of each image by its path relative to `root`. Reads only new and changed files.

    Raises InputError for a file that is no image or damaged.
    """
    cache = cache_folder() / "folders" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()}.jsonl"
    known, facts, complete = _cached(cache), dict[str, Seen](), False
    files = iter(images)
    try:
        with ThreadPoolExecutor(devices.cores()) as threads:
            while some := list(islice(files, TOGETHER)):
                seen = threads.map(lambda path: _see(root, path, known), some)
                facts.update(zip(some, seen, strict=True))
        complete = True
    finally:  # also after an interruption, so that the next call continues
        kept = facts if complete else {**known, **facts}
        if kept != known:
            write_cache(cache, (json.dumps([path, *about]) for path, about in kept.items()))
    return facts


def _see(root: Path, path: str, known: dict[str, Seen]) -> Seen:
    """The facts of one image. Raises InputError if it is no image or damaged."""
    about = (root / path).stat()
    before = known.get(path)
    if before and (before.bytes, before.modified) == (about.st_size, about.st_mtime_ns):
        return before
    data = (root / path).read_bytes()
    look = encoded.look(data, str(root / path))
    return Seen(about.st_size, about.st_mtime_ns, hashlib.sha256(data).hexdigest(), *look)


def cache_folder() -> Path:
    """The folder for results that take long to compute again."""
    return user_cache_path("cockpit")


def _cached(cache: Path) -> dict[str, Seen]:
    try:
        with cache.open(encoding="utf-8") as lines:
            return {path: Seen(*about) for path, *about in map(json.loads, lines)}
    except (OSError, ValueError, TypeError):  # missing, cut short by a full disk, or of another version
        return {}


def write_cache(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a file of the cache in one step. Errors of the disk are ignored: the cache is optional."""
    partial = path.with_name(f".{path.name}.{processes.mark()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
