"""Tables on standard output: as wide as they are, so that no number is ever cut, on a terminal or in a pipe.

They are laid out here, since rich takes a quarter of a second for the 1,000 lines that a long queue has. It is
imported where a table is printed: most commands print none.
"""

from collections.abc import Iterable, Sequence
from textwrap import wrap

HEADING_WIDTH = 16  # longer headings go over several lines
GAP = "  "


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0, keys: int = 0) -> None:
    """Print rows under their headings; the first `left` columns are aligned left, the others right.

    A table too wide for the terminal is printed in parts, each with the first `keys` columns, if there are such.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    heads = [wrap(heading, HEADING_WIDTH, break_on_hyphens=False, break_long_words=False) for heading in headings]
    widths = [max(map(cell_len, column)) for column in _columns(heads, rows)]
    end = len(headings)
    while keys and console.is_terminal and end > keys + 1 and _total(widths[:end]) > console.width:
        end -= 1
    depth = max(map(len, heads[:end]))
    for line in range(depth):
        cells = [head[line - depth + len(head)] if line >= depth - len(head) else "" for head in heads[:end]]
        console.print(Text(_line(cells, widths, left), "bold"), soft_wrap=True)
    for row in rows:
        console.print(Text(_line(row[:end], widths, left)), soft_wrap=True)
    if end < len(headings):
        rest = [[*row[:keys], *row[end:]] for row in rows]
        show([*headings[:keys], *headings[end:]], rest, left, keys)


def _columns(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> Iterable[list[str]]:
    return ([*head, *(row[place] for row in rows), ""] for place, head in enumerate(heads))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    from rich.cells import cell_len

    padded = []
    for place, cell in enumerate(cells):
        blanks = " " * (widths[place] - cell_len(cell))
        padded.append(cell + blanks if place < left else blanks + cell)
    return GAP.join(padded).rstrip()
