"""Pages of a text file of any size, read by seeking: never more than a few hundred KiB at once.

A position is the offset of a line's first byte. A line longer than `LONGEST` continues as further lines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import BinaryIO

LONGEST = 2000  # bytes of a line
CHUNK = 2**20  # bytes that a search looks at between two looks at whether it is still wanted


@dataclass(frozen=True)
class Page:
    """Some lines of a file, where each begins and where what follows them does, and how large the file is."""

    lines: tuple[str, ...]
    starts: tuple[int, ...]
    end: int
    size: int

    @property
    def top(self) -> int:
        """Where it begins."""
        return self.starts[0] if self.starts else 0


def page(file: BinaryIO, top: int, count: int) -> Page:
    """The lines from `top`; the last ones of the file where those are too few to fill a page."""
    size = file.seek(0, 2)
    top = min(top, back(file, size, count))
    lines = _lines(file, top, count)
    *starts, end = accumulate(map(len, lines), initial=top)
    return Page(tuple(line.decode(errors="replace").rstrip("\r\n") for line in lines), tuple(starts), end, size)


def _lines(file: BinaryIO, start: int, count: int) -> list[bytes]:
    file.seek(start)
    return list(takewhile(bool, (file.readline(LONGEST) for _ in range(count))))


def forward(file: BinaryIO, start: int, count: int) -> int:
    """Where the line begins that is `count` lines further down."""
    return start + sum(map(len, _lines(file, start, count)))


def back(file: BinaryIO, end: int, count: int) -> int:
    """Where the line begins that is `count` lines before the one at `end`."""
    low = max(0, end - count * LONGEST - 1)
    file.seek(low)
    data = file.read(end - low)
    place = data.find(b"\n") + 1 if low else 0  # the first line may have begun before; without any, it is cut here
    starts = []
    while place < len(data):
        starts.append(low + place)
        newline = data.find(b"\n", place, place + LONGEST)
        place = newline + 1 if newline >= 0 else place + LONGEST
    return starts[-count:][0] if starts else end


def find(file: BinaryIO, text: str, start: int, forwards: bool, wanted: Callable[[], bool]) -> int | None:
    """Where `text` is next at or after `start`, or last before it; None if nowhere, or not `wanted` any more.

    Capitals make no difference unless `text` has some.
    """
    sought, folds = text.encode(), text.islower()
    size, overlap = file.seek(0, 2), len(sought) - 1
    low, high = (start, start + CHUNK) if forwards else (max(0, start - CHUNK), start)
    while wanted():
        file.seek(low)
        data = file.read(min(high, size) - low + overlap)
        data = data.lower() if folds else data
        place = data.find(sought) if forwards else data.rfind(sought)
        if place >= 0:
            return low + place
        if (forwards and high >= size) or (not forwards and low == 0):
            return None
        low, high = (high, high + CHUNK) if forwards else (max(0, low - CHUNK), low)
    return None
