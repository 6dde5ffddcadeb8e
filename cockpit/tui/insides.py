"""The only module that uses private names of Textual, for an application, screens, dialogs and tables that react fast.

docs/decisions/cockpit.md has the gain of each, measured by `python -m benchmarks dashboard`.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App
from textual.color import Color as Colour
from textual.command import CommandPalette
from textual.coordinate import Coordinate
from textual.css.styles import RulesMap
from textual.geometry import Region
from textual.reactive import Reactive
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.strip import Strip
from textual.style import Style as VisualStyle
from textual.visual import RenderOptions, Visual
from textual.widget import Widget
from textual.widgets import DataTable
from textual.widgets.data_table import RowKey

Cells = Sequence[str | Text]


class OpenApp(App[Any]):
    """An application that can make screens before they are shown, and has hooks for errors and its end."""

    def __init__(self) -> None:
        super().__init__()
        self._making: asyncio.Future[Any] | None = None  # of the last screen made or being made

    async def make(self, mode: str) -> None:
        """Make the screen of a mode, so that opening it only paints it."""
        self._making = asyncio.ensure_future(self._init_mode(mode))
        await asyncio.shield(self._making)

    def made(self) -> dict[str, Screen[Any]]:
        """The screens of modes that have been made."""
        return {mode: stack[0] for mode, stack in self._screen_stacks.items() if stack}

    def end(self) -> None:
        """Called before the screens are closed."""

    def explain(self, error: Exception) -> str:
        """The line to print for an error before exit code 2; empty for an unexpected error."""
        return ""

    async def _shutdown(self) -> None:
        # Waits for a screen that is being made: closed half-made, it would not find its widgets.
        self.end()
        if self._making is not None:
            await self._making
        await super()._shutdown()

    def _handle_exception(self, error: Exception) -> None:
        if said := self.explain(error):
            self._return_code = 2
            self.panic(Text(said))
        else:
            super()._handle_exception(error)


class PaintedOnce(Screen[ScreenResultType]):
    """A screen that is not painted, laid out or styled if that is about to be done again."""

    # Only the widgets that get and lose the focus are painted.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

    def _post_register(self, app: App[Any]) -> None:
        # A new screen is styled by the current rules and size. Textual would read all rules twice more, and style it
        # again after telling it its size.
        super()._post_register(app)
        self._css_update_count = app._css_update_count
        for size, breakpoints in zip(app.size, (app.HORIZONTAL_BREAKPOINTS, app.VERTICAL_BREAKPOINTS), strict=True):
            self.add_class(*self._get_breakpoint_classes(size, breakpoints or []), update=False)

    def _compositor_refresh(self) -> None:
        # Behind a dialog it is not repainted: each change would repaint the whole screen, dimmed. If the whole screen
        # is about to be painted, within a sixtieth of a second, parts are not painted before.
        if self is self.app.screen and not self._repaint_required:
            super()._compositor_refresh()


class Dialog(ModalScreen[ScreenResultType], PaintedOnce[ScreenResultType]):  # in this order, else without its styles
    """A dialog over a screen that can still be seen."""

    def render(self) -> RenderableType:
        """The screen below, dimmed."""
        below = super().render()
        return Dimmed(below.screen, below.color) if isinstance(below, BackgroundScreen) else below


class Dimmed(BackgroundScreen, Visual):
    """A screen behind a dialog. Its lines are dimmed style by style instead of through a console."""

    def render_strips(self, width: int, height: int | None, style: VisualStyle, options: RenderOptions) -> list[Strip]:
        """The lines of the screen."""
        base = style.rich_style
        return [
            Strip([Segment(text, _dimmed(own, self.color, base)) for text, own, _ in strip], strip.cell_length)
            for strip in self.screen._compositor.render_strips()[:height]
        ]

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """The whole width."""
        return container_width

    def get_height(self, rules: RulesMap, width: int) -> int:
        """The height of the screen."""
        return self.screen.size.height


@lru_cache(maxsize=4096)
def _dimmed(style: Style | None, colour: Colour, base: Style) -> Style:
    (segment,) = BackgroundScreen.process_segments([Segment("", style)], colour)
    assert segment.style is not None
    return base + segment.style


class Palette(CommandPalette, Dialog[None]):
    """Textual's palette of commands."""


class FastTable(DataTable[str | Text]):
    """A table that measures and draws plain text itself. `shown` are the cells of its rows by key."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self.shown: dict[str, Cells] = {}
        self._painted: Style | None = None  # its style while lines are painted

    @property
    def rich_style(self) -> Style:
        """The style of the table. DataTable asks for it at each line, which takes a quarter of a line's time."""
        return self._painted or super().rich_style

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a part of the table."""
        self._painted = super().rich_style
        try:
            return super().render_lines(crop)
        finally:
            self._painted = None

    def widen(self, cells: Cells) -> None:
        """Widen the columns to the cells of a row."""
        for column, cell in zip(self.ordered_columns, cells, strict=True):
            width = cell.cell_len if isinstance(cell, Text) else cell_len(cell)
            if width > column.content_width:
                column.content_width = width
                self._require_update_dimensions = True

    def _update_dimensions(self, new_rows: Iterable[RowKey]) -> None:
        """Update the table's size. DataTable renders all new cells for that; here, `widen` has measured them."""
        super()._update_dimensions(())

    def _render_line_in_row(
        self,
        row_key: RowKey,
        line_no: int,
        base_style: Style,
        cursor_location: Coordinate,
        hover_location: Coordinate,
    ) -> tuple[list[list[Segment]], list[list[Segment]]]:
        """A row. Plain text is drawn without a console, which takes ten times as long, and without markup."""
        cells = self.shown.get(row_key.value or "")
        if cells is None:  # the headings
            return super()._render_line_in_row(row_key, line_no, base_style, cursor_location, hover_location)
        row = self.get_row_index(row_key)
        hover, cursor = row == hover_location.row, row == cursor_location.row
        over, last = self._get_styles_to_render_cell(
            False,
            False,
            False,
            hover,
            cursor,
            self.show_cursor,
            self._show_hover_cursor,
            self.cursor_foreground_priority == "css",
            self.cursor_background_priority == "css",
        )
        style = base_style + over + last
        line, room, padding = [], self.size.width, " " * self.cell_padding
        for place, (column, cell) in enumerate(zip(self.ordered_columns, cells, strict=True)):
            width = column.get_render_width(self)
            room -= width
            if (text := _unstyled(cell)) is not None:
                fill = " " * (column.content_width - cell_len(text)) if _is_right(cell) else ""
                line.append(
                    Segment(set_cell_size(f"{padding}{fill}{text}{padding}", width), style + _place(row, place))
                )
            else:
                line += self._render_cell(row, place, base_style, width, cursor, hover)[line_no]
        return [], [[*line, Segment(" " * room, style + _place(row, 0, out_of_bounds=True))]]


@lru_cache(maxsize=4096)
def _place(row: int, column: int, **more: bool) -> Style:
    """A style whose metadata tell the mouse which cell is under it."""
    return Style(meta={"row": row, "column": column, **more})


def _unstyled(cell: str | Text) -> str | None:
    """The text of a cell without styles; None if it has one."""
    if isinstance(cell, Text):
        if cell.spans or cell.style:
            return None
        cell = cell.plain
    return cell if cell.isprintable() else None


def _is_right(cell: str | Text) -> bool:
    return isinstance(cell, Text) and cell.justify == "right"
