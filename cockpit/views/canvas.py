"""Cells of a terminal to draw on: characters, braille lines, and backgrounds that blend where they overlap."""

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from math import floor, prod
from operator import itemgetter
from typing import NamedTuple

Colour = tuple[int, int, int]

BLANK = 0x2800  # the braille pattern without dots
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille pattern, by column and row


class Piece(NamedTuple):
    """Text in one style; None is the terminal's own colour."""

    text: str
    colour: Colour | None = None
    background: Colour | None = None


Row = list[Piece]


class Canvas:
    """A grid of cells. Positions are in cells from the top left corner: cell (2, 0) spans 2 to 3 and 0 to 1.

    Where the background is not `sure`, no cell is tinted in part: a faint tint of a wrong colour would stand out most.
    """

    def __init__(self, width: int, height: int, background: Colour, sure: bool = True) -> None:
        self.width, self.height, self.background, self.sure = width, height, background, sure
        self._letters: dict[tuple[int, int], tuple[str, Colour | None]] = {}
        self._tints: dict[tuple[int, int], list[tuple[Colour, float]]] = defaultdict(list)

    def put(self, column: int, row: int, letter: str, colour: Colour | None = None) -> None:
        """Write a character over whatever a cell holds; nothing outside of the canvas."""
        if 0 <= column < self.width and 0 <= row < self.height:
            self._letters[column, row] = letter, colour

    def line(self, x: float, y: float, x_to: float, y_to: float, colour: Colour) -> None:
        """Draw a line of braille dots. Dots that a cell already has stay, in the new colour; other characters go."""
        clips = _inside(x, x_to, self.width), _inside(y, y_to, self.height)
        first, last = max(clip[0] for clip in clips), min(clip[1] for clip in clips)
        steps = max(1, round(max(2 * abs(x_to - x), 4 * abs(y_to - y)) * (last - first)))
        for step in range(steps + 1) if first <= last else ():
            part = first + (last - first) * step / steps
            self._dot(x + (x_to - x) * part, y + (y_to - y) * part, colour)

    def _dot(self, x: float, y: float, colour: Colour) -> None:
        cell = column, row = min(floor(x), self.width - 1), min(floor(y), self.height - 1)
        now = ord(self._letters.get(cell, (" ", None))[0])
        now = now if now & ~0xFF == BLANK else BLANK
        dot = DOTS[min(floor(2 * (x - column)), 1)][min(floor(4 * (y - row)), 3)]
        self._letters[cell] = chr(now | dot), colour

    def tint(self, column: int, top: float, bottom: float, colour: Colour, strength: float) -> None:
        """Colour the background of a column from one height to another, each cell as far as it is covered."""
        steps = 8 if self.sure else 1  # a character's own finest
        top, bottom = max(top, 0.0), min(bottom, float(self.height))
        for row in range(floor(top), min(floor(bottom) + 1, self.height)):
            covered = round((min(bottom, row + 1) - max(top, row)) * steps) / steps
            if covered > 0:
                self._tints[column, row].append((colour, strength * covered))

    def rows(self) -> Iterator[Row]:
        """The rows from the top, each in as few pieces as its styles allow."""
        letters, tints, blank, none = self._letters, self._tints, (" ", None), ()
        for row in range(self.height):
            cells = [
                (*letters.get((column, row), blank), _blend(self.background, tuple(tints.get((column, row), none))))
                for column in range(self.width)
            ]
            yield [
                Piece("".join(cell[0] for cell in group), *style)
                for style, group in groupby(cells, key=itemgetter(1, 2))
            ]


@lru_cache(maxsize=4096)
def _blend(background: Colour, tints: tuple[tuple[Colour, float], ...]) -> Colour | None:
    """A background with the mean of its tints, by strength; the more of them the stronger."""
    if not tints:
        return None
    total = sum(strength for _, strength in tints)
    red, green, blue = (sum(colour[i] * strength for colour, strength in tints) / total for i in range(3))
    return mix(background, (red, green, blue), 1 - prod(1 - strength for _, strength in tints))


def mix(one: Colour, other: tuple[float, float, float], part: float) -> Colour:
    """A colour between two: `part` of the other."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _inside(start: float, end: float, limit: float) -> tuple[float, float]:
    """The first and last part of the way from `start` to `end` that lies between 0 and `limit`."""
    if start == end:
        return (0.0, 1.0) if 0 <= start <= limit else (1.0, 0.0)
    first, last = sorted((-start / (end - start), (limit - start) / (end - start)))
    return max(first, 0.0), min(last, 1.0)
