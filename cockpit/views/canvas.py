"""A canvas of terminal cells: characters, lines drawn by plotext, and backgrounds that blend where they overlap."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from math import floor, prod
from operator import itemgetter
from threading import Lock
from typing import NamedTuple

import plotext

Colour = tuple[int, int, int]
Spot = tuple[float, float]  # column and row

_ONE_FIGURE = Lock()  # plotext has one figure per process, and threads draw charts
_PIECE = re.compile(r"(?:\x1b\[38;2;(\d+);(\d+);(\d+)m)?([^\x1b]+)(?:\x1b\[0m)?")  # a piece of plotext's output


class Piece(NamedTuple):
    """Text in one style; None is the terminal's default colour."""

    text: str
    colour: Colour | None = None
    background: Colour | None = None


Row = list[Piece]


class Canvas:
    """A grid of cells. Positions are in cells from the top left corner: cell (2, 0) spans 2 to 3 and 0 to 1.

    If the background colour is not `sure`, cells are tinted fully or not at all, because a faint tint over a wrong
    background would stand out most.
    """

    def __init__(self, width: int, height: int, background: Colour, sure: bool = True) -> None:
        self.width, self.height, self.background, self.sure = width, height, background, sure
        self._letters: dict[tuple[int, int], tuple[str, Colour | None]] = {}
        self._tints: dict[tuple[int, int], list[tuple[Colour, float]]] = defaultdict(list)

    def put(self, column: int, row: int, letter: str, colour: Colour | None = None) -> None:
        """Write a character into a cell, in place of its content. Cells outside the canvas are ignored."""
        if 0 <= column < self.width and 0 <= row < self.height:
            self._letters[column, row] = letter, colour

    def lines(self, curves: Iterable[tuple[Sequence[Spot], Colour]]) -> None:
        """Draw a line through the spots of each curve, later ones over earlier ones and over all characters."""
        with _ONE_FIGURE:
            plotext.clear_figure()
            plotext.theme("clear")
            plotext.limit_size(False, False)  # not limited to the terminal's size
            plotext.plot_size(self.width, self.height)
            plotext.frame(False)
            plotext.xticks([])
            plotext.yticks([])
            plotext.xlim(0, 2 * self.width - 1)  # a braille pattern has two columns of four dots
            plotext.ylim(0, 4 * self.height - 1)
            for spots, colour in curves:
                for part in _inside(spots, self.width, self.height):
                    xs, ys = ([2 * x - 0.5 for x, _ in part], [4 * (self.height - y) - 0.5 for _, y in part])
                    plotext.plot(xs, ys, marker="braille", color=colour)
            built = plotext.build()
        for row, text in enumerate(built.split("\n")):
            letters = [(letter, piece) for piece in _PIECE.finditer(text) for letter in piece[4]]
            for column, (letter, piece) in enumerate(letters):
                if letter != " ":
                    self.put(column, row, letter, (int(piece[1]), int(piece[2]), int(piece[3])))

    def tint(self, column: int, top: float, bottom: float, colour: Colour, strength: float) -> None:
        """Tint a column from one height to another, each cell in proportion to the part covered."""
        steps = 8 if self.sure else 1
        top, bottom = max(top, 0.0), min(bottom, float(self.height))
        for row in range(floor(top), min(floor(bottom) + 1, self.height)):
            covered = round((min(bottom, row + 1) - max(top, row)) * steps) / steps
            if covered > 0:
                self._tints[column, row].append((colour, strength * covered))

    def rows(self) -> Iterator[Row]:
        """The rows from the top, each in as few pieces as its styles need."""
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
    """A background with the weighted mean of its tints; more tints are stronger together. None without tints."""
    if not tints:
        return None
    total = sum(strength for _, strength in tints)
    red, green, blue = (sum(colour[i] * strength for colour, strength in tints) / total for i in range(3))
    return mix(background, (red, green, blue), 1 - prod(1 - strength for _, strength in tints))


def mix(one: Colour, other: tuple[float, float, float], part: float) -> Colour:
    """A colour between two: `part` (0 to 1) of the other, the rest of the first."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _inside(spots: Sequence[Spot], width: int, height: int) -> Iterator[list[Spot]]:
    """The parts of a line within a canvas; plotext would compute those outside, too, however long."""
    part: list[Spot] = []
    for start, end in pairwise(spots):
        clips = _between(start[0], end[0], width), _between(start[1], end[1], height)
        first, last = max(clip[0] for clip in clips), min(clip[1] for clip in clips)
        if first > last:
            continue
        if not part or first > 0:
            yield from [part] if part else []
            part = [_on_the_way(start, end, first)]
        part.append(_on_the_way(start, end, last))
    yield from [part] if part else []


def _on_the_way(start: Spot, end: Spot, part: float) -> Spot:
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _between(start: float, end: float, limit: float) -> tuple[float, float]:
    """The first and last fractions of the way from `start` to `end` that are between 0 and `limit`."""
    if start == end:
        return (0.0, 1.0) if 0 <= start <= limit else (1.0, 0.0)
    first, last = sorted((-start / (end - start), (limit - start) / (end - start)))
    return max(first, 0.0), min(last, 1.0)
