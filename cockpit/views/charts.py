"""Charts of curves as rows of coloured text: braille lines and markers over bands that tint the cells."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import fmean
from typing import Literal

from cockpit.text import words
from cockpit.views import axes
from cockpit.views.axes import AXES, Axis, place
from cockpit.views.canvas import Canvas, Colour, Piece, Row, Spot, mix
from cockpit.views.curves import BARRIER, DENSE, Series, matched
from cockpit.views.legends import LIVE, MATCH, MORE, RULE, Entry, View, fractions, legend, signs, style

Spread = Literal["bands", "bars", "none"]
SPREADS: tuple[Spread, ...] = ("bands", "bars", "none")
CROSSHAIR = (128, 128, 128)
STRENGTH = 0.34  # of a band's colour in a cell that it covers
DIMNESS = 0.25  # fraction of the background in the colour of random tickets' lines
APART = [step * sign for step in range(1, 7) for sign in (1, -1)]  # columns to which a marker may move aside
AXIS = 5  # columns of the vertical axis
READING = len("100.0 ± 10.0 ")
LEAST_PLOT, WIDE_PLOT = 36, 60  # least columns of curves next to their names, and next to names with readings
MOST_LABEL = 0.42  # largest fraction of the width for names
LEAST_ROWS = 6  # of a chart without title, axis label and legend


@dataclass(frozen=True)
class Layout:
    """The layout of a chart: its axes, and the numbers of columns left and right of the curves."""

    x: Axis
    y: Axis
    left: int
    right: int


def labelled(shown: Sequence[Series], view: View, width: int, height: int) -> bool:
    """Whether the names of the curves, and the readings of a crosshair, fit at their ends."""
    visible = _visible(shown, view)
    names, room = _names(visible), _room(visible, view, width)
    return names <= MOST_LABEL * width and width - AXIS - room >= LEAST_PLOT and len(visible) <= height - 2


def _names(visible: Sequence[Series]) -> int:
    """The number of columns for names at the ends of curves."""
    return 3 + max((len(words.line(one.called)) for one in visible), default=0)


def _room(visible: Sequence[Series], view: View, width: int) -> int:
    """The number of columns for names and for readings, which a wide chart keeps free while it has no crosshair."""
    names = _names(visible)
    has_readings = view.crosshair is not None or width - AXIS - names - READING >= WIDE_PLOT
    return names + READING if has_readings else names


def layout(shown: Sequence[Series], view: View, width: int, height: int) -> Layout:
    """The layout of a chart of `width` columns and `height` rows."""
    visible = _visible(shown, view)
    means = [] if view.full else [mean for one in visible for mean in (*one.means, *_so_far(one))]
    fine = bool(visible) and all(one.ticket == BARRIER for one in visible)
    means += [0.0] if fine and means else []
    y_axis = axes.accuracy(means or [0.0, 1.0], view.y_range, max(2, height - 2), fine)
    left = 1 + max(map(len, y_axis.labels), default=0)
    right = _room(visible, view, width) if view.labelled else 0
    remaining = [left for one in visible for left in (*one.remaining, *one.plan)]
    return Layout(axes.sparsity(remaining, view.x, view.x_range, max(2, width - left - right)), y_axis, left, right)


def _so_far(one: Series) -> list[float]:
    return [run.accuracy for run in one.live]


def _visible(shown: Sequence[Series], view: View) -> list[Series]:
    return [one for one in shown if one.name not in view.hidden]


def draw(shown: Sequence[Series], view: View, width: int, height: int) -> list[Row]:
    """The curves as a chart without a legend, exactly `width` columns and `height` rows."""
    where = layout(shown, view, width, height)
    canvas = Canvas(where.x.cells, where.y.cells, view.background, view.sure)
    lines = [
        _Line(one, *style(number, one), where, view) for number, one in enumerate(shown) if one.name not in view.hidden
    ]
    _crosshair(canvas, shown, view, where)
    for line in sorted(lines, key=lambda line: line.one.ticket != DENSE):  # rules under curves
        if view.spread == "bands":
            line.shade(canvas)
        line.draw(canvas)
    traced = [line for line in reversed(lines) if line.one.ticket != DENSE]  # the first series on top
    canvas.lines(part for line in traced for part in (*line.bars(), line.trace()))
    _mark(canvas, lines, shown)
    labels = _labels(lines, legend(shown, view), view, where) if view.labelled else {}
    return axes.framed(canvas.rows(), where.x, where.y, labels, where.right)


def _crosshair(canvas: Canvas, shown: Sequence[Series], view: View, where: Layout) -> None:
    left = fractions(shown).get(view.crosshair) if view.crosshair is not None else None
    if left is not None and (left > 0 or view.x == "pruned"):
        for row in range(canvas.height):
            canvas.put(where.x.cell(place(left, view.x)), row, "│", CROSSHAIR)


def _labels(lines: Sequence["_Line"], entries: Sequence[Entry], view: View, where: Layout) -> dict[int, Row]:
    """The ends of curves by row: marker and name, with the reading of the crosshair before the name."""
    entry_of = {entry.key: entry for entry in entries}
    found: dict[int, Row] = {}
    rows = _apart([line.end for line in lines], where.y.cells)
    for line, row in zip(lines, rows, strict=True):
        entry = entry_of[line.one.name]
        reading = f"{entry.reading} " if view.crosshair is not None else ""
        text = words.short(reading + words.line(entry.name), where.right - 3)
        found[row] = [Piece(f" {entry.marker} ", entry.colour), Piece(text.ljust(where.right - 3))]
    return found


def _apart(heights: Sequence[float], rows: int) -> list[int]:
    """A distinct row near each height, in the same order.

    This is isotonic regression of the heights less their ranks: neighbours in the wrong order are pooled and share
    their mean.
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    pools: list[list[float]] = []
    for number, i in enumerate(order):
        pools.append([heights[i] - number])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    starts = [fmean(pool) for pool in pools for _ in pool]
    last = rows - len(heights)
    found = {
        i: min(max(round(start), 0), last) + number for number, (i, start) in enumerate(zip(order, starts, strict=True))
    }
    return [found[i] for i in range(len(heights))]


class _Line:
    """A curve to draw on a canvas."""

    def __init__(self, one: Series, colour: Colour, marker: str, where: Layout, view: View) -> None:
        self.one, self.colour, self.marker, self.where, self.view = one, colour, marker, where, view
        self.kept = [i for i, fraction in enumerate(one.remaining) if fraction > 0 or view.x == "pruned"]

    def _x(self, i: int) -> float:
        return self.where.x.position(place(self.one.remaining[i], self.view.x))

    def _y(self, accuracy: float) -> float:
        return self.where.y.cells - self.where.y.position(accuracy)

    @cached_property
    def spots(self) -> list[tuple[float, float]]:
        """The position of each level on the canvas."""
        return [(self._x(i), self._y(self.one.means[i])) for i in self.kept]

    @property
    def end(self) -> float:
        """The row of its last visible point."""
        spots = self.spots or [(0.0, self._y(accuracy)) for accuracy in _so_far(self.one)]
        seen = [y for x, y in spots if x <= self.where.x.cells] or [y for _, y in spots]
        return seen[-1] - 0.5

    def shade(self, canvas: Canvas) -> None:
        """Tint the band of one standard deviation to each side."""
        edges: list[tuple[float, float, float]] = []
        for i, (x, _) in zip(self.kept, self.spots, strict=True):
            spread = self.one.deviations[i] or 0.0
            edges.append((x, self._y(self.one.means[i] + spread), self._y(self.one.means[i] - spread)))
        if self.one.ticket == DENSE and edges:
            edges = [(0.0, *edges[0][1:]), (float(canvas.width), *edges[0][1:])]
        for (x, top, bottom), (x_to, top_to, bottom_to) in pairwise(edges):
            last = math.floor(x_to) + (x_to == edges[-1][0])  # the last column belongs to the next part
            for column in range(max(math.floor(x), 0), min(last, canvas.width)):
                part = min(max((column + 0.5 - x) / (x_to - x), 0.0), 1.0)
                canvas.tint(
                    column, top + (top_to - top) * part, bottom + (bottom_to - bottom) * part, self.colour, STRENGTH
                )

    def draw(self, canvas: Canvas) -> None:
        """Draw the rule of the dense network, which lies under all curves."""
        if self.one.ticket == DENSE:
            for column in range(canvas.width) if self.spots else ():
                canvas.put(column, math.floor(self.spots[0][1]), RULE, self.colour)

    def bars(self) -> Iterator[tuple[Sequence[Spot], Colour]]:
        """The bars of one standard deviation to each side, if the view has bars."""
        for i, (x, _) in zip(self.kept, self.spots, strict=True) if self.view.spread == "bars" else ():
            if spread := self.one.deviations[i]:
                yield [(x, self._y(self.one.means[i] + sign * spread)) for sign in (-1, 1)], self.colour

    def trace(self) -> tuple[Sequence[Spot], Colour]:
        """The line through its levels, dimmer for random tickets."""
        is_random = self.one.ticket.startswith("random")
        return self.spots, mix(self.colour, self.view.background, DIMNESS) if is_random else self.colour

    def marks(self) -> Iterator[tuple[int, int, str]]:
        """The cell and marker of each level; the marker is the number of replicates if some are missing."""
        for i, (x, y) in zip(self.kept, self.spots, strict=True) if self.one.ticket != DENSE else ():
            count = self.one.counts[i]
            yield math.floor(x), math.floor(y), str(min(count, 9)) if count < self.one.planned[i] else self.marker
        for run in self.one.live:
            x, y = self.where.x.position(place(run.remaining, self.view.x)), self._y(run.accuracy)
            yield math.floor(x), math.floor(y), LIVE


def _mark(canvas: Canvas, lines: Sequence[_Line], shown: Sequence[Series]) -> None:
    """Put the markers. Several in one cell move aside; if they do not fit, the last shows the number of others."""
    at: dict[tuple[int, int], dict[int, str]] = defaultdict(dict)
    for number, line in enumerate(lines):
        for column, row, marker in line.marks():
            at[column, row].setdefault(number, marker)
    columns = sorted({column for column, _ in at})
    between = min((after - before for before, after in pairwise(columns)), default=canvas.width)
    taken = set(at)
    for (column, row), markers in at.items():
        beside = [column + step for step in APART if abs(step) <= (between - 1) // 2]
        room = [column, *(x for x in beside if 0 <= x < canvas.width and (x, row) not in taken)]
        taken |= {(x, row) for x in room[: len(markers)]}
        for x, (number, marker) in zip(room, markers.items(), strict=False):
            canvas.put(x, row, marker, lines[number].colour)
        if (more := len(markers) - len(room)) > 0:  # counts the last marker and those without room
            canvas.put(room[-1], row, MORE[min(more + 1, 9)], lines[list(markers)[len(room) - 1]].colour)
    for line in lines:
        last = matched(line.one, shown)
        if last is not None and line.one.levels.index(last) in line.kept:
            column, row = map(math.floor, line.spots[line.kept.index(line.one.levels.index(last))])
            above = next((up for up in (row - 1, row - 2, row + 1) if (column, up) not in taken and up >= 0), row - 1)
            canvas.put(column, above, MATCH, line.colour)


def printed(shown: Sequence[Series], title: str, view: View, width: int, rows: int | None = None) -> list[Row]:
    """The chart that the command line prints, with a title, and its legend and signs below.

    It has `rows` rows in total (None: by the width), if that leaves `LEAST_ROWS` for the chart itself.
    """
    height = max(15, min(30, width // 4)) if rows is None else rows - 2
    view = replace(view, labelled=labelled(shown, view, width, height))
    below = [[Piece(AXES[view.x].rjust(width))]]
    if not view.labelled:
        below += [[Piece(entry.marker, entry.colour), Piece(f" {_named(entry)}")] for entry in legend(shown, view)]
    if notes := signs(shown, view):
        below.append([Piece(", ".join(notes))])
    if rows is not None:
        height = max(rows - 1 - len(below), LEAST_ROWS)
    return [[Piece(words.line(title))], *draw(shown, view, width, height), *below]


def _named(entry: Entry) -> str:
    return " ".join(filter(None, (words.line(entry.name), entry.reading)))


def zoomed(shown: Sequence[Series], view: View, factor: float, x: float, y: float) -> View:
    """The view with `factor` times the ranges of both axes around a point, at most the ranges of the curves."""
    now = layout(shown, view, 80, 24)
    whole = layout(shown, replace(view, x_range=None, y_range=None), 80, 24)
    x_range = axes.scaled((now.x.low, now.x.high), factor, x, (whole.x.low, whole.x.high))
    y_range = axes.scaled((now.y.low, now.y.high), factor, y, (0.0, 1.0))
    if factor > 1 and x_range == (whole.x.low, whole.x.high) and y_range[1] - y_range[0] >= whole.y.high - whole.y.low:
        return replace(view, x_range=None, y_range=None)
    return replace(view, x_range=x_range, y_range=y_range)
