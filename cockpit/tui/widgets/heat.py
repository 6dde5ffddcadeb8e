"""What remains of each layer at each level, as coloured cells with their numbers."""

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cockpit.text import words
from engine.analysis.comparing import Fraction, HeatMap

# From where on a colour holds, the colour, and that of the number on it: cividis, which colour-blind people can read.
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
CELL = 4  # columns: 31 levels of VGG19 fit into 140


class Heat(ScrollView, can_focus=True):
    """Layers down, levels across; the number in a cell is the per cent that remain, or that are pruned.

    It draws its lines itself: a DataTable of so many coloured cells holds the event loop for a tenth of a second.
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: HeatMap | None = None
        self.level = 0
        self.fraction: Fraction = "remaining"

    def show(self, found: HeatMap, level: int, fraction: Fraction) -> None:
        """Show a heat map of what remains, or of what is pruned, with `level` marked and in sight."""
        self.shown, self.level, self.fraction = found, level, fraction
        self.virtual_size = Size(self._labels + CELL * len(found.levels), 1 + len(found.layers))
        self.refresh()
        self.call_after_refresh(self._bring_into_sight)  # once its size is known

    def on_resize(self) -> None:
        self._bring_into_sight()

    def _bring_into_sight(self) -> None:
        if self.shown and self.level in self.shown.levels:
            middle = (self.size.width - self._labels) // 2
            self.scroll_to(x=CELL * self.shown.levels.index(self.level) - middle, animate=False)

    @property
    def _labels(self) -> int:
        """The columns that the names of the layers take."""
        return max(cell_len(_short(name)) for name in self.shown.layers) + 1 if self.shown else 0

    def render_line(self, y: int) -> Strip:
        """The line `y` of what is in sight; the first has the levels, and stays where it is."""
        plain, width = self.rich_style, self.size.width
        place = y - 1 + self.scroll_offset.y
        if self.shown is None or place >= len(self.shown.layers):
            return Strip.blank(width, plain)
        if y == 0:
            name, strong = "layer", plain + Style(bold=True)
            cells = [(f"[{n}]" if n == self.level else f"{n} ", strong) for n in self.shown.levels]
        else:
            name = list(self.shown.layers)[place]
            remain = self.shown.layers[name]
            parts = remain if self.fraction == "remaining" else [1 - part for part in remain]
            cells = [(f"{_percent(part)} ", _style(part)) for part in parts]
        across = Strip([Segment(text.rjust(CELL), style) for text, style in cells])
        left = self.scroll_offset.x
        seen = across.crop(left, left + width - self._labels)
        label = Segment(set_cell_size(_short(name), self._labels), plain)
        return Strip([label, *seen]).adjust_cell_length(width, plain)


def legend(what: str) -> Text:
    """What the colours stand for."""
    parts: list[str | tuple[str, Style]] = [f"{what}:"]
    for least, style in STYLES.items():
        parts += [" ", (f" ≥{least * 100:g} " if least else " <1 ", style)]
    return Text.assemble(*parts)


def _short(name: str) -> str:
    return words.line(name.removesuffix(".weight"))


def _percent(fraction: float) -> str:
    """A fraction in per cent in at most three characters: 100, 26, 3.4, .12, 0."""
    if not fraction:
        return "0"
    return f"{fraction * 100:.{0 if fraction >= 0.0995 else 1 if fraction >= 0.00995 else 2}f}".removeprefix("0")


def _style(fraction: float) -> Style:
    return STYLES[next(least for least, _, _ in RAMP if fraction >= least)]
