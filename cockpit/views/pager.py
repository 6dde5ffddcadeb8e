"""Pages of a text file of any size, read by seeking, a few hundred KiB at a time.

A position is the offset of a line's first byte. A line longer than `LONGEST` continues as further lines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import BinaryIO

LONGEST = 2000  # bytes of a line
CHUNK = 2**20  # bytes that a search reads between two checks whether it was cancelled


@dataclass(frozen=True)
class Page:
    """Lines of a file, the position of each and of the line after them, and the size of the file."""

    lines: tuple[str, ...]
    starts: tuple[int, ...]
    end: int
    size: int

    @property
    def top(self) -> int:
        """The position of the first line."""
        return self.starts[0] if self.starts else 0


def page(file: BinaryIO, top: int, count: int) -> Page:
    """The page of lines from `top`, or the file's last page if fewer lines follow."""
    size = file.seek(0, 2)
    top = min(top, back(file, size, count))
    lines = _lines(file, top, count)
    *starts, end = accumulate(map(len, lines), initial=top)
    return Page(tuple(line.decode(errors="replace").rstrip("\r\n") for line in lines), tuple(starts), end, size)


def _lines(file: BinaryIO, start: int, count: int) -> list[bytes]:
    file.seek(start)
    return list(takewhile(bool, (file.readline(LONGEST) for _ in range(count))))


def forward(file: BinaryIO, start: int, count: int) -> int:
    """The position of the line `count` lines below."""
    return start + sum(map(len, _lines(file, start, count)))


def back(file: BinaryIO, end: int, count: int) -> int:
    """The position of the line `count` lines above the one at `end`."""
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
    """The position of the next line with `text` at or after `start`, or of the last before it; None if not found.

    Also None once `wanted` returns False. The search ignores case unless `text` has capitals.
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
