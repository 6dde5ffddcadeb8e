"""Tables on standard output: as wide as they are, so that no number is ever cut, on a terminal or in a pipe."""

from collections.abc import Iterable, Sequence
from textwrap import wrap

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

HEADING_WIDTH = 20  # longer headings go over several lines
WIDEST = 100_000


def show(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 0) -> None:
    """Print rows under their headings; the first `left` columns are aligned left, the others right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        lines = "\n".join(wrap(heading, HEADING_WIDTH))
        table.add_column(lines, justify="left" if place < left else "right", no_wrap=True, vertical="bottom")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    needed = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
