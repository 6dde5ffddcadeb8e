"""Pictures drawn outside the event loop, as lines that are ready to show."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color as Parsed
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from cockpit.views import charts, curves, legends
from cockpit.views.canvas import Colour, Row
from cockpit.views.legends import View

CACHED = 8  # number of pictures

Picture = tuple[Strip, ...]


@lru_cache(maxsize=CACHED)
def picture(shown: tuple[curves.Series, ...], view: View, size: Size) -> Picture:
    """A chart as lines that are ready to show."""
    return strips(charts.draw(shown, view, *size))


def strips(rows: Iterable[Row]) -> Picture:
    """Rows as lines that are ready to show."""
    return tuple(map(_strip, rows))


def background_of(app: App[Any]) -> Colour:
    """The background colour of curves."""
    if app.native_ansi_color:
        return legends.BACKGROUNDS[app.current_theme.dark]
    return Parsed.parse(app.theme_variables["background"]).rgb


def _strip(row: Row) -> Strip:
    return Strip([Segment(text, _style(*colours)) for text, *colours in row])


@lru_cache(maxsize=4096)
def _style(colour: Colour | None, background: Colour | None) -> Style | None:
    if not colour and not background:
        return None
    return Style(color=_rich(colour), bgcolor=_rich(background))


def _rich(colour: Colour | None) -> Color | None:
    return Color.from_rgb(*colour) if colour else None


class Drawn(Widget):
    """A widget of lines drawn outside the event loop."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.picture: Picture = ()
        self._base = Style()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a region."""
        self._base = self.rich_style  # once for all lines, as it takes as long as a line
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """A line of the last picture."""
        strip = self.picture[y] if y < len(self.picture) else Strip.blank(self.size.width)
        return strip.adjust_cell_length(self.size.width).apply_style(self._base)
