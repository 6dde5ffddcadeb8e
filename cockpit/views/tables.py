"""Tables and charts on standard output.

In a pipe, tables have their full width; on a terminal, they are broken into parts so that no number is cut.

The layout is done here because Rich takes a quarter of a second for 1,000 lines, as of a long queue. Rich is imported
only when a table is printed, which most commands do not do.
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

BLENDING = ("truecolor", "256", "windows")  # Rich's names of colour systems with enough colours to blend
HEADING_WIDTH = 16  # columns, after which headings are wrapped
GAP = "  "


class Plain:
    """A substitute for Rich's console if standard output is no terminal; importing Rich would take long."""

    is_terminal = False
    width = 80

    def print(self, text: str, **_: object) -> None:
        """Print text."""
        print(words.stripped(text))


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0, keys: int = 0) -> None:
    """Print rows under their headings; the first `left` columns are aligned left, the others right.

    A table too wide for the terminal is printed in parts, each with the first `keys` columns. If `keys` is 0, the first
    columns of a row are above the rest of it, as many per line as fit.
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
    """Print text, with lines broken between words to fit the terminal."""
    console = _console()
    console.print(text, soft_wrap=not console.is_terminal)


def draw(chart: "Callable[[int, bool], Iterable[Row]]") -> None:
    """Print a chart that `draw` makes for the terminal's width and colours."""
    from cockpit.text.console import Console

    console = Console()
    for row in chart(console.width, blends(console)):
        console.print(coloured(row), soft_wrap=True)


def blends(console: "Console") -> bool:
    """Whether a terminal has colours that blend."""
    return console.color_system in BLENDING and not console.no_color


def coloured(row: "Row") -> "Text":
    """A row of a chart as text for Rich."""
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
    """Each row on several lines: its first columns, and indented below them the others, of these widths."""
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
    """The cells in lines of this width, as many per line as fit."""
    lines: list[str] = []
    for cell in cells:
        if lines and _cells(lines[-1]) + len(GAP) + _cells(cell) <= width:
            lines[-1] += GAP + cell
        else:
            lines.append(cell)
    return lines


def _heading_lines(heads: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """The cells of each line of wrapped headings, aligned at the last line."""
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
    """The cells, each on one line."""
    return list(map(words.line, cells))


def _cells(text: str) -> int:
    """The number of terminal columns of a text."""
    if text.isascii() or all(letter.isascii() or letter in words.GLYPHS for letter in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
