"""Heat maps of layers and levels: fractions remaining or pruned, or ratios of two tickets, as coloured numbers."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cockpit.text import words
from engine.analysis.comparing import Fraction, HeatMap, Ratios

# The least fraction of each colour, the colour, and that of the number on it: cividis, for colour-blind readers, too.
RAMP = (
    (0.5, "#fee838", "#000000"),
    (0.2, "#c8b866", "#000000"),
    (0.1, "#9b9477", "#000000"),
    (0.05, "#7c7b78", "#ffffff"),
    (0.02, "#575d6d", "#ffffff"),
    (0.01, "#2c4171", "#ffffff"),
    (0.0, "#00224e", "#ffffff"),
)
STYLES = {least: Style(color=ink, bgcolor=colour) for least, colour, ink in RAMP}
# The colours of ratios: if A keeps less than B, if both keep the same, if A keeps more.
LESS, EQUAL, MORE = (0, 114, 178), (245, 245, 240), (213, 94, 0)
FARTHEST = 2.0  # binary logarithm of the ratio, or of its inverse, with the full colour
SHADES = 64  # on each side
CELL = 4  # columns: 31 levels of VGG19 fit into 140


class Heat(ScrollView, can_focus=True):
    """Layers down, levels across. A cell's number is the percentage remaining or pruned, or the ratio A/B.

    It draws its lines itself, because a DataTable of this many coloured cells blocks the event loop for 0.1 s.
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.levels: Sequence[int] = ()
        self.cells: Mapping[str, Sequence[tuple[str, Style]]] = {}  # by layer
        self.level = 0
        self._base = Style()

    def show(self, heat_map: HeatMap, level: int, fraction: Fraction) -> None:
        """Show a heat map of fractions remaining or pruned, with `level` marked and visible."""
        of = {
            name: [part if fraction == "remaining" else 1 - part for part in parts]
            for name, parts in heat_map.layers.items()
        }
        cells = {name: [(_percent(part), _style(part)) for part in parts] for name, parts in of.items()}
        self._show(heat_map.levels, cells, level)

    def show_ratios(self, ratios: Ratios, level: int) -> None:
        """Show the ratios A/B on a diverging scale, with `level` marked and visible."""
        columns = [[ratio_cell(one.mean if one else None) for one in row] for row in ratios.levels.values()]
        cells = {name: [column[place] for column in columns] for place, name in enumerate(ratios.layers)}
        self._show(tuple(ratios.levels), cells, level)

    def _show(self, levels: Sequence[int], cells: Mapping[str, Sequence[tuple[str, Style]]], level: int) -> None:
        self.levels, self.cells, self.level = levels, cells, level
        self.virtual_size = Size(self._labels + CELL * len(levels), 1 + len(cells))
        self.refresh()
        self.call_after_refresh(self._bring_into_sight)  # once its size is known

    def on_resize(self) -> None:
        self._bring_into_sight()

    def _bring_into_sight(self) -> None:
        if self.level in self.levels:
            middle = (self.size.width - self._labels) // 2
            self.scroll_to(x=CELL * list(self.levels).index(self.level) - middle, animate=False)

    @property
    def needed(self) -> int:
        """The columns of the whole map, with a scroll bar."""
        return self._labels + CELL * len(self.levels) + 2

    @property
    def _labels(self) -> int:
        """The columns of the names of layers."""
        return max((cell_len(_short(name)) for name in self.cells), default=0) + 1

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a region."""
        self._base = self.rich_style  # found out once for all of them: it takes as long as a line does
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """The visible line `y`; the first has the levels and does not scroll."""
        plain, width = self._base, self.size.width
        place = y - 1 + self.scroll_offset.y
        if place >= len(self.cells):
            return Strip.blank(width, plain)
        if y == 0:
            name, strong = "layer", plain + Style(bold=True)
            cells = [(f"[{n}]" if n == self.level else f"{n} ", strong) for n in self.levels]
        else:
            name = list(self.cells)[place]
            cells = [(f"{text} ", style) for text, style in self.cells[name]]
        across = Strip([Segment(text.rjust(CELL), style) for text, style in cells])
        left = self.scroll_offset.x
        seen = across.crop(left, left + width - self._labels)
        label = Segment(set_cell_size(_short(name), self._labels), plain)
        return Strip([label, *seen]).adjust_cell_length(width, plain)


def legend(what: str) -> Text:
    """The meaning of the colours."""
    parts: list[str | tuple[str, Style]] = [f"{what}:"]
    for least, style in STYLES.items():
        parts += [" ", (f" ≥{least * 100:g} " if least else " <1 ", style)]
    return Text.assemble(*parts)


def ratio_legend(what: str) -> Text:
    """The meaning of the colours of ratios."""
    ends = f" {2**-FARTHEST:g} ", f" {2**FARTHEST:g} "
    parts: list[str | tuple[str, Style]] = [f"{what}: ", ends[0]]
    parts += [("  ", ratio_cell(2 ** (step / 4 * FARTHEST))[1]) for step in range(-4, 5)]
    return Text.assemble(*parts, ends[1], " (1: as many)")


def ratio_cell(ratio: float | None) -> tuple[str, Style]:
    """A ratio in at most three characters, with its colours; a dash for None."""
    if ratio is None:
        return "-", Style()
    towards = max(-1.0, min(1.0, math.log2(ratio) / FARTHEST)) if ratio > 0 else -1.0
    text = (
        f"{ratio:.2f}".removeprefix("0") if ratio < 1 else f"{ratio:.1f}" if ratio < 9.95 else f"{min(ratio, 999):.0f}"
    )
    return text, _diverging(round(towards * SHADES))


@lru_cache(maxsize=2 * SHADES + 1)
def _diverging(shade: int) -> Style:
    """The colours of a ratio, from blue through none to red."""
    end, part = (MORE if shade > 0 else LESS), abs(shade) / SHADES
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(EQUAL, end, strict=True))
    return Style(color="#000000" if part < 0.6 else "#ffffff", bgcolor=f"rgb({red},{green},{blue})")


def _short(name: str) -> str:
    return words.line(name.removesuffix(".weight"))


def _percent(fraction: float) -> str:
    """A fraction in per cent in at most three characters: 100, 26, 3.4, .12, 0."""
    if not fraction:
        return "0"
    return f"{fraction * 100:.{0 if fraction >= 0.0995 else 1 if fraction >= 0.00995 else 2}f}".removeprefix("0")


def _style(fraction: float) -> Style:
    return STYLES[next(least for least, _, _ in RAMP if fraction >= least)]
