"""What remains of each layer at each level, as a table whose cells are coloured by it."""

from rich.text import Text
from textual.widgets import DataTable

from engine.store.layers import HeatMap

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


class Heat(DataTable[Text]):
    """Layers down, levels across; the number in a cell is the per cent that remain."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, show_cursor=False, fixed_columns=1, cell_padding=0, zebra_stripes=False)
        self.shown: tuple[HeatMap, int] | None = None

    def show(self, found: HeatMap, level: int) -> None:
        """Show a heat map, with `level` marked and in sight."""
        if (found, level) == self.shown:
            return
        self.shown = found, level
        self.clear(columns=True)
        self.add_column("layer ")
        for number in found.levels:
            self.add_column(Text(f"[{number}]" if number == level else f"{number} ", justify="right"), width=5)
        for name, fractions in found.layers.items():
            self.add_row(Text(f"{name.removesuffix('.weight')} "), *map(_cell, fractions))
        if level in found.levels:
            self.move_cursor(column=found.levels.index(level) + 1, animate=False)


def legend(what: str) -> Text:
    """What the colours stand for."""
    parts: list[str | tuple[str, str]] = [f"{what}:"]
    for least, colour, ink in RAMP:
        parts += [" ", (f" ≥{least * 100:g} " if least else " <1 ", f"{ink} on {colour}")]
    return Text.assemble(*parts)


def _cell(fraction: float) -> Text:
    colour, ink = next((colour, ink) for least, colour, ink in RAMP if fraction >= least)
    number = f"{fraction * 100:.{0 if fraction >= 0.0995 else 1 if fraction >= 0.00995 else 2}f}"
    return Text(f"{number:>4} ", f"{ink} on {colour}")
