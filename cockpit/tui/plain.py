"""Plain text on the screens: names can contain neither markup nor commands to the terminal."""

from rich.segment import Segment
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter
from textual.visual import VisualType
from textual.widgets import Static

from cockpit.text import words


def plain(text: str) -> Content:
    """A text for a title, label or tooltip: Textual reads a `str` there as markup."""
    return Content(words.line(text))


class Plain(Static):
    """Textual's `Static` without markup."""

    def __init__(self, content: VisualType = "", *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(_seen(content), id=id, classes=classes, markup=False)

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        """Show another text."""
        super().update(_seen(content), layout=layout)


class Harmless(LineFilter):
    """A line filter that removes characters that control the terminal, which have no width."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The line without these characters, of the same width."""
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [segment._replace(text=words.stripped(segment.text)) for segment in segments]


def _seen(content: VisualType) -> VisualType:
    return words.visible(content) if isinstance(content, str) else content
