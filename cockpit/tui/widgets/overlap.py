"""Matrices of overlaps: the masks of an experiment's tickets, each with each, coloured by how far from chance."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import ScrollableContainer

from cockpit.text import words
from cockpit.tui.plain import Plain
from cockpit.tui.widgets.heat import ratio_cell
from cockpit.views import layer_tables
from engine.analysis.overlaps import Cell, Matrix

FORMS = ((True, 3, True), (False, 3, True), (False, 2, True), (False, 2, False))  # deviation, digits, by chance
LEAST_NAME = 12  # columns of a ticket's name


class Overlaps(ScrollableContainer, can_focus=True):
    """The matrices of one level below each other, their cells as detailed as all of them fit."""

    def compose(self) -> ComposeResult:
        yield Plain()

    def show(self, matrices: Sequence[Matrix], width: int) -> None:
        """Show these matrices in this many columns, wider where even the briefest cells take more."""
        self.query_one(Plain).update(drawn(matrices, width))


def drawn(matrices: Sequence[Matrix], width: int) -> Text:
    """The matrices as coloured text. Columns have the numbers of the rows, whose names may be long."""
    most = max((len(one.names) for one in matrices), default=0)
    form = next((form for form in FORMS if most * (_width(matrices, form) + 2) + LEAST_NAME <= width), FORMS[-1])
    column = _width(matrices, form) + 2
    room = max(LEAST_NAME, width - most * column)
    return Text("\n\n", no_wrap=True).join(_matrix(one, form, column, room) for one in matrices)


def _matrix(one: Matrix, form: tuple[bool, int, bool], column: int, room: int) -> Text:
    names = [f"{number} {words.line(name)}" for number, name in enumerate(one.names, 1)]
    label = min(room, max(map(cell_len, names)) + 1)
    lines = [Text(title(one), "bold"), Text(" " * label + "".join(f"{n:^{column}}" for n in range(1, len(names) + 1)))]
    for place, (name, row) in enumerate(zip(names, one.cells, strict=True)):
        styles = [_style(cell) if other != place else "dim" for other, cell in enumerate(row)]  # not of one with itself
        cells = [(_said(cell, form).center(column), style) for cell, style in zip(row, styles, strict=True)]
        lines.append(Text.assemble(words.short(name, label - 1).ljust(label), *cells))
    return Text("\n").join(lines)


def title(one: Matrix) -> str:
    """What a matrix compares."""
    return words.line(one.chain or "chains, mean of shared replicates").replace(" -> ", " → ")


def _width(matrices: Sequence[Matrix], form: tuple[bool, int, bool]) -> int:
    return max((len(_said(cell, form)) for one in matrices for row in one.cells for cell in row), default=0)


def _said(cell: Cell, form: tuple[bool, int, bool]) -> str:
    spread, digits, chance = form
    said = layer_tables.ratio(cell.overlap, spread, digits=digits)
    return f"{said} ({layer_tables.ratio(cell.chance, False, digits=digits)})" if chance else said


def _style(cell: Cell) -> Style:
    if cell.overlap is None or not cell.chance or not cell.chance.mean:
        return Style()
    return ratio_cell(cell.overlap.mean / cell.chance.mean)[1]
