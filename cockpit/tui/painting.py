"""How screens are painted: each time once, and what lies dimmed behind a dialog without being computed anew."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from rich.console import RenderableType
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.command import CommandPalette
from textual.geometry import Size
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import ModalScreen, Screen, ScreenResultType


class PaintedOnce(Screen[ScreenResultType]):
    """A screen that is not painted, nor laid out or styled, when that will be done again in a moment."""

    def _post_register(self, app: App[Any]) -> None:
        # It is new, so it finds its styles by the rules of now, and for the size of now. Textual would read all rules
        # again, twice, and find all styles again once the screen has been told its size.
        super()._post_register(app)
        self._css_update_count = app._css_update_count
        for size, breakpoints in zip(app.size, (app.HORIZONTAL_BREAKPOINTS, app.VERTICAL_BREAKPOINTS), strict=True):
            self.add_class(*self._get_breakpoint_classes(size, breakpoints or []), update=False)

    def _screen_resized(self, size: Size) -> None:
        # What has changed while it was not looked at is laid out when it is painted. `size` is the application's
        # already; `_size` is what it was laid out for.
        if size != self._size:
            super()._screen_resized(size)

    def _compositor_refresh(self) -> None:
        # Behind a dialog it stands still: each change would have all painted again, dimmed. And where all of it is
        # about to be painted, within a sixtieth of a second, parts are not painted before.
        if self is self.app.screen and not self._repaint_required:
            super()._compositor_refresh()


class Dialog(ModalScreen[ScreenResultType], PaintedOnce[ScreenResultType]):  # in this order, else without its styles
    """A dialog over a screen that can still be seen."""

    def render(self) -> RenderableType:
        """What is behind it."""
        found = super().render()
        return Dimmed(found.screen, found.color) if isinstance(found, BackgroundScreen) else found


class Palette(CommandPalette, Dialog[None]):
    """Textual's palette of commands."""


class Dimmed(BackgroundScreen):
    """Textual's dimmed screen, which mixes the colours of each style once and not for each piece of text."""

    @classmethod
    def process_segments(cls, segments: Iterable[Segment], color: Color) -> Iterator[Segment]:
        """The same text, dimmed."""
        for text, style, control in segments:
            yield Segment(text, _dimmed(style, color), control)


@lru_cache(maxsize=1024)
def _dimmed(style: Style | None, color: Color) -> Style | None:
    (found,) = BackgroundScreen.process_segments([Segment(" ", style)], color)
    return found.style
