"""A row of the screen made of pieces that can be clicked."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from cockpit.text import words


class Piece(NamedTuple):
    """A piece of a row. `kind` is name, current, key or empty; `action` is run by a click on it."""

    text: str
    kind: str = ""
    action: str = ""


class Line(Widget):
    """One row: pieces at the left, and others at the right end."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"line--name", "line--current", "line--key"}

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pieces: tuple[Sequence[Piece], Sequence[Piece]] = ((), ())

    def show(self, left: Sequence[Piece], right: Sequence[Piece]) -> None:
        """Show these pieces."""
        if (left, right) != self._pieces:
            self._pieces = (left, right)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The row."""
        base, (left, right) = self.rich_style, self._pieces
        room = max(0, self.size.width - sum(cell_len(piece.text) for piece in (*left, *right)))
        pieces = [*left, Piece(" " * room), *right]
        return Strip([self._segment(piece, base) for piece in pieces]).adjust_cell_length(self.size.width, base)

    def _segment(self, piece: Piece, base: Style) -> Segment:
        style = self.get_component_rich_style(f"line--{piece.kind}") if piece.kind else base
        click = Style(meta={"@click": piece.action}) if piece.action else Style()
        return Segment(words.line(piece.text), style + click)
