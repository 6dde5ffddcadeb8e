"""How things are said to a person: durations, sizes, what went wrong."""

from collections.abc import Mapping
from math import ceil
from typing import Any

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
SIZES = ("bytes", "kB", "MB", "GB", "TB")


def duration(seconds: float) -> str:
    """Seconds in its two largest units, rounded up: 3 h 12 min, 45 s."""
    left = ceil(seconds)
    for length, step in ((3600, 60), (86_400, 3600)):
        if left >= length:
            left = ceil(left / step) * step
    parts = []
    for unit, length in UNITS:
        whole, left = divmod(left, length)
        parts += [f"{whole} {unit}"] if whole else []
    return " ".join(parts) or "0 s"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of at least 1: 2.6 MB."""
    place = 0
    while count >= 1000 and place < len(SIZES) - 1:
        count, place = count / 1000, place + 1
    return f"{count:.1f} {SIZES[place]}" if place else f"{count:.0f} {SIZES[place]}"


def problems(row: Mapping[str, Any]) -> str:
    """How many runs of an experiment did not end well, and how."""
    return ", ".join(f"{row[status]} {status}" for status in ("failed", "diverged", "blocked") if row[status])
