"""Curves as text: the only file that imports plotext."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from plotext._figure import (
    _figure_class as Figure,
)  # an object for each chart; the module's functions share one

from cockpit.text import words
from cockpit.views.curves import DENSE, Series, cell, evenly, matched
from cockpit.views.layers import ratio_title
from engine.analysis.layers import Ratios

AXES = {  # what each shows, and how it is labelled
    "remaining": "weights remaining, %",  # a log axis: pruning iterations are evenly spaced
    "pruned": "fraction of weights pruned",  # linear
    "log-pruned": "fraction of weights pruned",  # as the paper has it: the log axis, labelled with what is pruned
}
# Okabe and Ito (2008), and a violet as far from them: told apart with every kind of colour blindness. Six sources and
# random tickets are seven curves. Each has a marker too, for no colours at all.
COLOURS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (150, 15, 240),
)
NEUTRAL = (148, 148, 148)  # of dense networks, which others are compared with
MARKERS = "●×▲■◆▼★✚"  # one more than colours, so that 56 curves look different
TICKS = (1.0, 0.51, 0.26, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
STEPS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # between ticks of a linear axis
CROSSHAIR = (128, 128, 128)
MATCH = "▾"  # stands over the last level that matches dense
SHADE = "░"
DIMNESS = 0.55  # of a band: how much of the background is in its colour
DASH, GAP = 5, 4  # dots
LIGHT, DARK = (190, 215, 240), (8, 64, 150)  # of ratios: the first level, and the sparsest
LEVELS = 6  # whose ratios are drawn as text
RATIO_STEPS = (*STEPS, 0.5, 1.0)
RATIO_DIGITS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,))  # of ticks on a log axis of ratios, as many as there is room for

Colour = tuple[int, int, int]
Range = tuple[float, float]
Spread = Literal["bands", "bars", "none"]
SPREADS: tuple[Spread, ...] = ("bands", "bars", "none")


@dataclass(frozen=True)
class View:
    """How curves are looked at. Ranges are in units of the axes: see `place`."""

    x: str = "remaining"  # one of AXES
    full: bool = False  # accuracy from 0 to 1
    spread: Spread = "bars"  # how one sample standard deviation to each side is shown
    x_range: Range | None = None
    y_range: Range | None = None
    crosshair: int | None = None  # a level
    hidden: frozenset[str] = frozenset()  # names of curves, which keep their colours for when they come back
    dark: bool = True
    printed: bool = False  # as `cockpit plot` prints it: framed, every line solid, its table says where n is less


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: its range, its ticks, and how many character cells it spans."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    cells: int

    def cell(self, value: float, dots: int) -> int:
        """The cell in which a braille line of so many dots a cell passes through `value`."""
        part = (value - self.low) / (self.high - self.low)
        return math.floor(0.5 + (dots * self.cells - 1) * part) // dots

    def middle(self, cell: float) -> float:
        """The value in the middle of a cell, where plotext puts a character."""
        return self.low + cell / (self.cells - 1) * (self.high - self.low)

    def snap(self, value: float, dots: int) -> float:
        """The middle of the cell of `value`.

        plotext rounds dots and characters apart, so that a marker could stand beside the line it belongs to.
        """
        return self.middle(self.cell(value, dots))


@dataclass(frozen=True)
class Layout:
    """Where the curves lie in a chart: its axes, and how many columns and rows come before them."""

    x: Axis
    y: Axis
    left: int
    top: int


@dataclass(frozen=True)
class Entry:
    """A line of the legend: how a curve is drawn, its name, its replicates, its reading at the crosshair, remarks."""

    colour: Colour
    marker: str
    name: str
    count: str
    reading: str
    remarks: tuple[str, ...]

    @property
    def style(self) -> str:
        """The colour as Rich writes it."""
        return f"rgb({self.colour[0]},{self.colour[1]},{self.colour[2]})"


def place(remaining: float, x: str) -> float:
    """Where a fraction of remaining weights lies on the x axis: plotext's own log axis breaks when drawn twice."""
    return 1.0 - remaining if x == "pruned" else -math.log10(remaining)


def style(number: int, one: Series) -> tuple[Colour, str]:
    """Colour and marker of the curve that comes at place `number`, which dense networks do (`curves.series`) last."""
    if one.ticket == DENSE:
        return NEUTRAL, "─"
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]


def legend(shown: Sequence[Series], view: View) -> list[Entry]:
    """What stands beside a chart of these curves, hidden ones too. Without a crosshair there is only dense to read."""
    at = fractions(shown).get(view.crosshair) if view.crosshair is not None else None
    return [_entry(number, one, shown, view, at) for number, one in enumerate(shown)]


def _entry(number: int, one: Series, shown: Sequence[Series], view: View, at: float | None) -> Entry:
    remarks, reading, count = [], "", one.all_counts()
    last = matched(one, shown)
    if last is not None:
        remarks.append(f"matches dense down to {_per_cent(one, last)}")
    gone = [str(level) for level, left in zip(one.levels, one.remaining, strict=True) if not left]
    if gone and view.x != "pruned":
        remarks.append(f"no weights left at level {', '.join(gone)}: not on this axis")
    level = 0 if one.ticket == DENSE else view.crosshair
    if level is not None:
        reading = "—"
        if level in one.levels:
            i = one.levels.index(level)
            reading, count = one.value(i), one.count(i)
            if one.ticket != DENSE and at is not None and not math.isclose(one.remaining[i], at, rel_tol=0.05):
                remarks.append(f"level {level} is {_per_cent(one, level)} here")
    return Entry(*style(number, one), one.name, count, reading, tuple(remarks))


def _per_cent(one: Series, level: int) -> str:
    return f"{one.remaining[one.levels.index(level)] * 100:.3g} %"


def fractions(shown: Sequence[Series]) -> dict[int, float]:
    """The fraction of weights that remains at each level, in order: that of the first curve which has the level."""
    found = {level: one.remaining[i] for one in reversed(shown) for i, level in enumerate(one.levels)}
    return dict(sorted(found.items()))


def layout(shown: Sequence[Series], view: View, width: int, height: int) -> Layout:
    """Where everything goes in a chart of `width` columns and `height` rows."""
    visible = [one for one in shown if one.name not in view.hidden]
    around = 5 if view.printed else 3  # title, frame, ticks and label
    y_axis = _accuracy_axis(visible, view, max(2, height - around))
    left = 1 + max(map(len, y_axis.labels), default=0)
    x_axis = _sparsity_axis(visible, view, max(2, width - left - view.printed))
    return Layout(x_axis, y_axis, left, 2 if view.printed else 0)


def draw(shown: Sequence[Series], view: View, width: int, height: int, title: str = "") -> str:
    """The curves as a chart without a legend, which fills `width` columns and `height` rows exactly."""
    where = layout(shown, view, width, height)
    figure = Figure()
    figure._limit_size(False, False)  # else it is cut to the size of the terminal
    figure.plot_size(width, height)
    figure.theme("clear")
    figure.title(title)
    figure.xlabel(AXES[view.x])
    if not view.printed:
        figure.xaxes(True, False)
        figure.yaxes(True, False)
    for axis, limit, ticks in ((where.x, figure.xlim, figure.xticks), (where.y, figure.ylim, figure.yticks)):
        limit(axis.low, axis.high)
        ticks(axis.ticks, axis.labels)
    lines = [
        _Line(one, *style(number, one), where, view) for number, one in enumerate(shown) if one.name not in view.hidden
    ]
    at = fractions(shown).get(view.crosshair, 0.0) if view.crosshair is not None else 0.0
    if at > 0 or (view.crosshair is not None and view.x == "pruned"):
        figure.vertical_line(where.x.snap(place(at, view.x), 2), color=CROSSHAIR)
    if view.spread == "bands":
        _bands(figure, lines, where, view)
    for line in lines:
        line.draw(figure)
    for line in reversed(lines):  # above all lines, the first series on top
        line.mark(figure, matched(line.one, shown))
    return str(figure.build()).removesuffix("\n")


def printed(shown: Sequence[Series], title: str, x: str, full: bool, width: int) -> str:
    """The curves as the command line prints them: a chart with a title, and its legend below."""
    above, title = _above(title, width)
    text = above + draw(shown, View(x=x, full=full, printed=True), width, max(15, min(30, width // 4)), title) + "\n"
    for number, one in enumerate(shown):
        (red, green, blue), marker = style(number, one)
        name = f"{one.name} {cell(one, 0)}" if one.ticket == DENSE else one.name
        text += f"\n  \x1b[38;2;{red};{green};{blue}m{marker}\x1b[0m {words.line(name)}"
    return text


def _above(title: str, width: int) -> tuple[str, str]:
    """What stands above a chart, and its title: plotext leaves out one that is too long."""
    title = words.line(title)
    return (f"{title}\n", "") if len(title) > width - 4 else ("", title)


def printed_ratios(found: Ratios, width: int) -> str:
    """The ratios of each layer at a few levels, light to dark, as the command line prints them: figure 1b."""
    height = max(15, min(30, width // 4))
    scale, last = ratio_axis(found, height - 5), len(found.layers)
    figure = Figure()
    figure._limit_size(False, False)
    figure.plot_size(width, height)
    figure.theme("clear")
    above, title = _above(ratio_title(found), width)
    figure.title(title)
    figure.xlabel("layer")
    figure.xlim(0.5, last + 0.5)
    figure.xticks(list(range(1, last + 1)))
    figure.ylim(scale.low, scale.high)
    figure.yticks(scale.ticks, scale.labels)
    entries = ""
    shown = evenly(ratio_levels(found), LEVELS)
    for number, level in enumerate(shown):
        colour, marker = shade(number, len(shown)), MARKERS[number]
        points = list(map(list, zip(*ratio_points(found, level), strict=True)))
        figure.plot(*points, color=colour, marker="braille")
        figure.scatter(*points, color=colour, marker=marker)
        entries += f"\n  \x1b[38;2;{colour[0]};{colour[1]};{colour[2]}m{marker}\x1b[0m {ratio_name(found, level)}"
    return above + str(figure.build()).removesuffix("\n") + "\n" + entries


def ratio_levels(found: Ratios) -> list[int]:
    """The levels that have anything to draw."""
    return [level for level in found.levels if ratio_points(found, level)]


def ratio_points(found: Ratios, level: int) -> list[tuple[int, float]]:
    """Where the ratio of each layer lies, from layer 1 on; not of those that have none on this axis."""
    return [
        (layer, ratio_place(value.mean, found))
        for layer, value in enumerate(found.levels[level], 1)
        if value and (value.mean > 0 or found.fraction == "pruned")
    ]


def ratio_name(found: Ratios, level: int) -> str:
    """What a legend says of a level of ratios."""
    counts = {value.n for value in found.levels[level] if value}
    span = "-".join(map(str, sorted({min(counts), max(counts)}))) if counts else "0"
    return f"level {level}, {found.pruned[level] * 100:.4g} % pruned (n={span})"


def ratio_place(ratio: float, found: Ratios) -> float:
    """Where a ratio lies on its axis: what remains differs by powers of ten, what is pruned does not."""
    return math.log10(ratio) if found.fraction == "remaining" else ratio


def ratio_axis(found: Ratios, cells: int) -> Axis:
    """An axis that has room for all ratios, and for 1."""
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
    """A blue for each of so many levels, from light to dark."""
    part = number / max(of - 1, 1)
    red, green, blue = (round(light + (dark - light) * part) for light, dark in zip(LIGHT, DARK, strict=True))
    return red, green, blue


class _Line:
    """A curve on its way into a figure."""

    def __init__(self, one: Series, colour: Colour, marker: str, where: Layout, view: View) -> None:
        self.one, self.colour, self.marker, self.where, self.view = one, colour, marker, where, view
        self.kept = [i for i, fraction in enumerate(one.remaining) if fraction > 0 or view.x == "pruned"]
        self.xs = [place(one.remaining[i], view.x) for i in self.kept]
        self.ys = [one.means[i] for i in self.kept]

    def draw(self, figure: Any) -> None:
        """Add the line, with bars for deviations if they are to be seen; for the dense network a horizontal rule."""
        y_axis = self.where.y
        if self.one.ticket == DENSE:
            self._rule(figure, y_axis.snap(self.ys[0], 4))
            return
        for i, x in zip(self.kept, self.xs, strict=True):
            if self.view.spread == "bars" and (spread := self.one.deviations[i]):
                mean = self.one.means[i]
                ends = [min(max(mean + sign * spread, y_axis.low), y_axis.high) for sign in (-1, 1)]
                figure.plot([x, x], ends, color=self.colour, marker="braille")
        if self.one.ticket.startswith("random") and not self.view.printed:
            if dots := list(self._dashes()):
                figure.scatter(*map(list, zip(*dots, strict=True)), color=self.colour, marker="braille")
        elif self.xs:
            figure.plot(self.xs, self.ys, color=self.colour, marker="braille")

    def _rule(self, figure: Any, y: float) -> None:
        """A horizontal rule: plotext's own lies under the bands."""
        if self.view.printed:
            figure.horizontal_line(y, color=self.colour)
        else:
            columns = [self.where.x.middle(column) for column in range(self.where.x.cells)]
            figure.scatter(columns, [y] * len(columns), color=self.colour, marker="─")

    def _dashes(self) -> Iterator[tuple[float, float]]:
        """The dots of a dashed line."""
        x_axis, y_axis = self.where.x, self.where.y
        x_dot = (x_axis.high - x_axis.low) / (2 * x_axis.cells - 1)
        y_dot = (y_axis.high - y_axis.low) / (4 * y_axis.cells - 1)
        done = 0
        for i in range(len(self.xs) - 1):
            (x, y), (x_to, y_to) = (self.xs[i], self.ys[i]), (self.xs[i + 1], self.ys[i + 1])
            steps = max(1, round(max(abs(x_to - x) / x_dot, abs(y_to - y) / y_dot)))
            for step in range(steps):
                if (done + step) % (DASH + GAP) < DASH:
                    yield x + (x_to - x) * step / steps, y + (y_to - y) * step / steps
            done += steps

    def mark(self, figure: Any, last: int | None) -> None:
        """Add the markers: the number of replicates where some are missing. `last` is the level that matches dense."""
        if self.one.ticket == DENSE:
            return
        x_axis, y_axis, missing = self.where.x, self.where.y, not self.view.printed
        by_marker: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for i, x, y in zip(self.kept, self.xs, self.ys, strict=True):
            count, point = self.one.counts[i], (x_axis.snap(x, 2), y_axis.snap(y, 4))
            by_marker[str(min(count, 9)) if missing and count < self.one.planned[i] else self.marker].append(point)
            if missing and self.one.levels[i] == last:
                above = min(y_axis.cell(y, 4) + 1, y_axis.cells - 1)
                by_marker[MATCH].append((point[0], y_axis.middle(above)))
        for marker, points in by_marker.items():
            figure.scatter(*map(list, zip(*points, strict=True)), color=self.colour, marker=marker)


def _bands(figure: Any, lines: Sequence[_Line], where: Layout, view: View) -> None:
    """Shade one deviation to each side of every curve. Where bands overlap their cells take turns."""
    covering: dict[tuple[int, int], list[Colour]] = defaultdict(list)
    for line in lines:
        for column, row in _band(line, where):
            covering[column, row].append(line.colour)
    by_colour: dict[Colour, list[tuple[float, float]]] = defaultdict(list)
    for (column, row), colours in covering.items():
        own = colours[(column + row) % len(colours)]
        by_colour[own].append((where.x.middle(column), where.y.middle(row)))
    background = 18 if view.dark else 255
    for colour, cells in by_colour.items():
        dim = tuple(round(part + (background - part) * DIMNESS) for part in colour)
        figure.scatter(*map(list, zip(*cells, strict=True)), color=dim, marker=SHADE)


def _band(line: _Line, where: Layout) -> Iterator[tuple[int, int]]:
    """The cells, column and row, that lie within one deviation of a curve."""
    x_axis, y_axis = where.x, where.y
    spreads = [line.one.deviations[i] or 0.0 for i in line.kept]
    points = list(zip(line.xs, line.ys, spreads, strict=True))
    if line.one.ticket == DENSE:
        points = [(x_axis.low, *points[0][1:]), (x_axis.high, *points[0][1:])]
    for (x, mean, spread), (x_to, mean_to, spread_to) in pairwise(points):
        first, last = x_axis.cell(x, 2), x_axis.cell(x_to, 2)
        for column in range(max(first, 0), min(last, x_axis.cells - 1) + 1) if spread or spread_to else ():
            part = (column - first) / max(last - first, 1)
            middle, around = mean + (mean_to - mean) * part, spread + (spread_to - spread) * part
            lowest, highest = max(y_axis.cell(middle - around, 4), 0), y_axis.cell(middle + around, 4)
            for row in range(lowest, min(highest, y_axis.cells - 1) + 1):
                yield column, row


def _sparsity_axis(visible: Sequence[Series], view: View, cells: int) -> Axis:
    if view.x == "pruned":
        low, high = view.x_range or (0.0, 1.0)
        ticks = _ticks_between(low, high, next((step for step in STEPS if (high - low) / step <= 6), 0.2))
        return Axis(low, high, ticks, tuple(f"{round(tick, 4):g}" for tick in ticks), cells)
    least = min((fraction for one in visible for fraction in one.remaining if fraction > 0), default=1.0)
    low, high = view.x_range or (0.0, max(0.1, place(least, view.x)))
    shown = [tick for tick in TICKS if low - 0.005 <= place(tick, view.x) <= high + 0.005]
    if len(shown) < 3:  # so near, or so few levels, that other fractions must do
        shown = [float(f"{10 ** -(low + (high - low) * part / 4):.2g}") for part in range(5)]
    labels = tuple(f"{tick * 100:g}" if view.x == "remaining" else f"{round(1 - tick, 6):g}" for tick in shown)
    ticks = tuple(min(place(tick, view.x), high) for tick in shown)
    return Axis(low, high, ticks, labels, cells)


def _accuracy_axis(visible: Sequence[Series], view: View, cells: int) -> Axis:
    """From a round number below all means to one above them, or from 0 to 1, or what the view is zoomed to."""
    values = [] if view.full else [mean for one in visible for mean in one.means]
    low, high = view.y_range or (min(values, default=0.0), max(values, default=1.0))
    steps = STEPS if view.y_range else STEPS[STEPS.index(0.01) :]
    most = max(1, min(6, cells - 2))  # steps: plotext shows any one of two labels that fall on the same line
    step = next((step for step in steps if (high - low) / step <= most), steps[-1])
    if view.y_range:
        ticks = _ticks_between(low, high, step)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(step * at for at in range(first, max(last, first + 1) + 1))
        low, high = ticks[0], ticks[-1]
    return Axis(low, high, ticks, tuple(f"{round(tick * 100, 2):g}" for tick in ticks), cells)


def _ticks_between(low: float, high: float, step: float) -> tuple[float, ...]:
    return tuple(step * at for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))


def zoomed(shown: Sequence[Series], view: View, factor: float, x: float, y: float) -> View:
    """The view with `factor` times the range on both axes around a point, never beyond what there is."""
    now = layout(shown, view, 80, 24)
    whole = layout(shown, replace(view, x_range=None, y_range=None), 80, 24)
    x_range = _scaled((now.x.low, now.x.high), factor, x, (whole.x.low, whole.x.high))
    y_range = _scaled((now.y.low, now.y.high), factor, y, (0.0, 1.0))
    if factor > 1 and x_range == (whole.x.low, whole.x.high) and y_range[1] - y_range[0] >= whole.y.high - whole.y.low:
        return replace(view, x_range=None, y_range=None)
    return replace(view, x_range=x_range, y_range=y_range)


def _scaled(span: Range, factor: float, around: float, limits: Range) -> Range:
    least = (limits[1] - limits[0]) / 64
    size = min(max((span[1] - span[0]) * factor, least), limits[1] - limits[0])
    low = around - (around - span[0]) * size / (span[1] - span[0])
    low = min(max(low, limits[0]), limits[1] - size)
    return low, low + size
