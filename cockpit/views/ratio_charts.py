"""Charts of two scopes layer by layer: ratios of remaining or pruned weights, from light to dark over levels."""

import math

from cockpit.text import words
from cockpit.views.axes import STEPS, Axis, framed
from cockpit.views.canvas import Canvas, Colour, Piece, Row
from cockpit.views.curves import evenly
from cockpit.views.layer_tables import ratio_title
from cockpit.views.legends import BACKGROUNDS, MARKERS
from engine.analysis.comparing import Ratios

LIGHT, DARK = (190, 215, 240), (8, 64, 150)  # the first level, and the sparsest
LEVELS = 6  # most levels in a text chart
RATIO_STEPS = (*STEPS, 0.5, 1.0)
RATIO_DIGITS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,))  # of ticks on a logarithmic axis; the densest that fits is used


def printed_ratios(ratios: Ratios, width: int) -> list[Row]:
    """The chart that the command line prints: ratios of layers at a few levels, from light to dark (figure 1b)."""
    height = max(15, min(30, width // 4)) - 2
    scale, last = ratio_axis(ratios, height), len(ratios.layers)
    left = 1 + max(map(len, scale.labels))
    layers = Axis(0.5, last + 0.5, tuple(range(1, last + 1)), tuple(map(str, range(1, last + 1))), width - left)
    canvas = Canvas(layers.cells, height, BACKGROUNDS[True])
    shown = evenly(ratio_levels(ratios), LEVELS)
    drawn, entries = [], []
    for number, level in enumerate(shown):
        colour, marker = shade(number, len(shown)), MARKERS[number]
        spots = [(layers.position(x), height - scale.position(y)) for x, y in ratio_points(ratios, level)]
        drawn.append((spots, marker, colour))
        entries.append([Piece(f"  {marker}", colour), Piece(f" {ratio_name(ratios, level)}")])
    canvas.lines((spots, colour) for spots, _, colour in drawn)
    for spots, marker, colour in drawn:  # above all lines
        for x, y in spots:
            canvas.put(math.floor(x), math.floor(y), marker, colour)
    title = [Piece(words.line(ratio_title(ratios)))]
    return [title, *framed(canvas.rows(), layers, scale), [Piece("layer".rjust(width))], *entries]


def ratio_levels(ratios: Ratios) -> list[int]:
    """The levels with a ratio to draw."""
    return [level for level in ratios.levels if ratio_points(ratios, level)]


def ratio_points(ratios: Ratios, level: int) -> list[tuple[int, float]]:
    """The position of each layer's ratio, from layer 1 on, without layers that have none on this axis."""
    return [
        (layer, ratio_place(value.mean, ratios))
        for layer, value in enumerate(ratios.levels[level], 1)
        if value and (value.mean > 0 or ratios.fraction == "pruned")
    ]


def ratio_name(ratios: Ratios, level: int) -> str:
    """The legend of a level of ratios."""
    counts = {value.n for value in ratios.levels[level] if value}
    span = "-".join(map(str, sorted({min(counts), max(counts)}))) if counts else "0"
    return f"level {level}, {ratios.pruned[level] * 100:.4g} % pruned (n={span})"


def ratio_place(ratio: float, ratios: Ratios) -> float:
    """The value of a ratio on its axis: logarithmic for remaining weights, linear for pruned ones."""
    return math.log10(ratio) if ratios.fraction == "remaining" else ratio


def ratio_axis(found: Ratios, cells: int) -> Axis:
    """An axis that includes all ratios and 1."""
    places = [place for level in found.levels for _, place in ratio_points(found, level)] + [ratio_place(1.0, found)]
    low, high, most = min(places), max(places), max(1, min(6, cells - 2))
    if found.fraction == "remaining":
        powers = range(math.floor(low), math.ceil(high) + 1)
        choices = [[math.log10(digit) + power for power in powers for digit in digits] for digits in RATIO_DIGITS]
    else:
        choices = [
            [step * at for at in range(math.floor(low / step), math.ceil(high / step) + 1)] for step in RATIO_STEPS
        ]
    inside = ([tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9] for ticks in choices)
    ticks = next((ticks for ticks in inside if len(ticks) <= most), [ratio_place(1.0, found)])
    ratios = [10**tick if found.fraction == "remaining" else tick for tick in ticks]
    room = max(0.05 * (high - low), 0.01)
    return Axis(low - room, high + room, tuple(ticks), tuple(f"{ratio:.3g}" for ratio in ratios), cells)


def shade(number: int, of: int) -> Colour:
    """The blue of each level, from light to dark."""
    part = number / max(of - 1, 1)
    red, green, blue = (round(light + (dark - light) * part) for light, dark in zip(LIGHT, DARK, strict=True))
    return red, green, blue
