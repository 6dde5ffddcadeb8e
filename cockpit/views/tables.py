"""Tables and charts on standard output.

In a pipe tables are as wide as they are; on a terminal they are broken so that no number is ever cut.

They are laid out here, since rich takes a quarter of a second for the 1,000 lines that a long queue has. It is
imported where a table is printed: most commands print none.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from cockpit.text import words

if TYPE_CHECKING:
    from rich.text import Text

    from cockpit.text.console import Console
    from cockpit.views.canvas import Colour, Row

BLENDING = ("truecolor", "256", "windows")  # what Rich calls enough colours for backgrounds that blend
HEADING_WIDTH = 16  # longer headings go over several lines
GAP = "  "


class Plain:
    """Standard output that is no terminal, as Rich's console has it. Rich takes longer to import than most commands."""

    is_terminal = False
    width = 80

    def print(self, text: str, **_: object) -> None:
        """Print text."""
        print(words.stripped(text))


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0, keys: int = 0) -> None:
    """Print rows under their headings; the first `left` columns are texts, aligned left, the others right.

    A table too wide for the terminal is printed in parts, each with the first `keys` columns, if any. If none,
    the texts of a row stand above the rest of it, as many in a line as have room.
    """
    console = _console()
    headings, rows = _lines(headings), list(map(_lines, rows))
    heads = [wrap(heading, HEADING_WIDTH, break_on_hyphens=False, break_long_words=False) for heading in headings]
    widths = [max(map(_cells, column)) for column in _columns(heads, rows)]
    end = len(headings)
    if console.is_terminal and left and not keys and _total(widths) > console.width:
        _show_folded(console, (headings[:left], heads[left:]), rows, widths[left:])
        return
    while keys and console.is_terminal and end > keys + 1 and _total(widths[:end]) > console.width:
        end -= 1
    for cells in _heading_lines(heads[:end]):
        console.print(_line(cells, widths, left), style="bold", soft_wrap=True)
    for row in rows:
        console.print(_line(row[:end], widths, left), soft_wrap=True)
    if end < len(headings):
        rest = [[*row[:keys], *row[end:]] for row in rows]
        show([*headings[:keys], *headings[end:]], rest, left, keys)


def say(text: str) -> None:
    """Print text, its lines broken between words where a terminal has no room for them."""
    console = _console()
    console.print(text, soft_wrap=not console.is_terminal)


def draw(chart: "Callable[[int, bool], Iterable[Row]]") -> None:
    """Print a chart, for the width of the terminal, and for whether it has colours that blend."""
    from cockpit.text.console import Console

    console = Console()
    for row in chart(console.width, blends(console)):
        console.print(coloured(row), soft_wrap=True)


def blends(console: "Console") -> bool:
    """Whether a terminal has colours that blend."""
    return console.color_system in BLENDING and not console.no_color


def coloured(row: "Row") -> "Text":
    """A row of a chart as Rich prints it."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    def own(colour: "Colour | None") -> Color | None:
        return Color.from_rgb(*colour) if colour else None

    parts = [(piece.text, Style(color=own(piece.colour), bgcolor=own(piece.background))) for piece in row]
    return Text.assemble(*parts, no_wrap=True)


def _show_folded(
    console: "Console | Plain",
    headings: tuple[Sequence[str], Sequence[Sequence[str]]],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
) -> None:
    """Each row over several lines: its texts, and indented below them the columns of these widths."""
    texts, heads = headings
    for line in _filled(texts, console.width):
        console.print(line, style="bold")
    for cells in _heading_lines(heads):
        console.print(GAP + _line(cells, widths, 0), style="bold", soft_wrap=True)
    for row in rows:
        for line in _filled(row[: len(texts)], console.width):
            console.print(line)
        if widths:
            console.print(GAP + _line(row[len(texts) :], widths, 0), soft_wrap=True)


def _filled(cells: Iterable[str], width: int) -> list[str]:
    """The cells in lines of this width, as many in each as fit."""
    lines: list[str] = []
    for cell in cells:
        if lines and _cells(lines[-1]) + len(GAP) + _cells(cell) <= width:
            lines[-1] += GAP + cell
        else:
            lines.append(cell)
    return lines


def _heading_lines(heads: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """The cells of each line of headings that go over several, all ending in the last."""
    depth = max(map(len, heads), default=0)
    for line in range(depth):
        yield [head[line - depth + len(head)] if line >= depth - len(head) else "" for head in heads]


def _columns(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> Iterable[list[str]]:
    return ([*head, *(row[place] for row in rows), ""] for place, head in enumerate(heads))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = []
    for place, cell in enumerate(cells):
        blanks = " " * (widths[place] - _cells(cell))
        padded.append(cell + blanks if place < left else blanks + cell)
    return GAP.join(padded).rstrip()


def _console() -> "Console | Plain":
    if sys.stdout.isatty() or any(name in os.environ for name in ("FORCE_COLOR", "TTY_COMPATIBLE")):
        from cockpit.text.console import Console

        return Console()
    return Plain()


def _lines(cells: Iterable[str]) -> list[str]:
    """The cells, each in one line."""
    return list(map(words.line, cells))


def _cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    if text.isascii() or all(letter.isascii() or letter in words.GLYPHS for letter in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
