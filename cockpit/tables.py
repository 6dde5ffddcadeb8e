"""Tables on standard output: as wide as they are, so that no number is ever cut, on a terminal or in a pipe."""

from collections.abc import Sequence
from textwrap import wrap

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

HEADING_WIDTH = 16  # longer headings go over several lines
WIDEST = 100_000


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0, keys: int = 0) -> None:
    """Print rows under their headings; the first `left` columns are aligned left, the others right.

    A table too wide for the terminal is printed in parts, each with the first `keys` columns, if there are such.
    """
    console = Console(highlight=False)
    end = len(headings)
    while keys and console.is_terminal and end > keys + 1 and _width(console, headings[:end], rows) > console.width:
        end -= 1
    console.width = WIDEST
    console.print(_table(headings[:end], rows, left))
    if end < len(headings):
        rest = [[*row[:keys], *row[end:]] for row in rows]
        show([*headings[:keys], *headings[end:]], rest, left, keys)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        lines = "\n".join(wrap(heading, HEADING_WIDTH, break_on_hyphens=False, break_long_words=False))
        table.add_column(lines, justify="left" if place < left else "right", no_wrap=True, vertical="bottom")
    for row in rows:
        table.add_row(*map(Text, row[: len(headings)]))  # as they are: a name may look like markup
    return table


def _width(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    unlimited = console.options.update(max_width=WIDEST)
    return Measurement.get(console, unlimited, _table(headings, rows)).maximum
