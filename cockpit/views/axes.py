"""The axes of charts: ranges, ticks, and the cells of values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cockpit.views.canvas import Piece, Row

AXES = {  # the label of each kind of horizontal axis
    "remaining": "weights remaining, %",  # logarithmic, so that pruning iterations are evenly spaced
    "pruned": "fraction of weights pruned",  # linear
    "log-pruned": "fraction of weights pruned",  # the paper's: the logarithmic axis with labels of pruned weights
}
ACCURACY = "test accuracy, %"  # the vertical axis, unless another is named
STEPS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # between ticks of a linear axis
GAP = 2  # least number of columns between labels of ticks

Range = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: its range, ticks, and number of character cells."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    cells: int

    def position(self, value: float) -> float:
        """The position of a value in cells: the ends of the range are in the middle of the first and last cells."""
        return 0.5 + (value - self.low) / (self.high - self.low) * (self.cells - 1)

    def cell(self, value: float) -> int:
        """The number of the cell of a value."""
        return math.floor(self.position(value))

    def middle(self, cell: float) -> float:
        """The value at the middle of a cell."""
        return self.low + cell / (self.cells - 1) * (self.high - self.low)


def place(remaining: float, x: str) -> float:
    """The value on one of `AXES` of a fraction of remaining weights."""
    return 1.0 - remaining if x == "pruned" else -math.log10(remaining)


def sparsity(fractions: Iterable[float], x: str, zoom: Range | None, cells: int) -> Axis:
    """The axis of these fractions of remaining weights, with ticks at as many of them as fit."""
    places = sorted({place(left, x): left for left in fractions if left > 0 or x == "pruned"}.items())
    whole = (0.0, 1.0) if x == "pruned" else (0.0, max([0.1, *(at for at, _ in places)]))
    low, high = zoom or whole
    inside = [(at, _label(left, x)) for at, left in places if low - 1e-9 <= at <= high + 1e-9]
    ticks = _with_room(inside, Axis(low, high, (), (), cells))
    return Axis(low, high, tuple(at for at, _ in ticks), tuple(label for _, label in ticks), cells)


def starts(axis: Axis) -> list[int]:
    """The first column of each tick's label on a horizontal axis."""
    ticks = zip(axis.ticks, axis.labels, strict=True)
    return [min(max(axis.cell(at) - (len(label) - 1) // 2, 0), axis.cells - len(label)) for at, label in ticks]


def framed(rows: Iterable[Row], x: Axis, y: Axis, ends: Mapping[int, Row] | None = None, right: int = 0) -> list[Row]:
    """The rows of a chart with its axes: accuracies at the left, sparsities below.

    `ends` are the ends of rows by number, `right` columns wide; other rows end blank.
    """
    left, ends = 1 + max(map(len, y.labels), default=0), ends or {}
    blank = [Piece(" " * right)] if right else []
    labels = {y.cell(at): label for at, label in zip(y.ticks, y.labels, strict=True)}
    found = []
    for number, row in enumerate(rows):
        label = labels.get(y.cells - 1 - number)
        axis = Piece((label or "").rjust(left - 1) + ("┤" if label else "│"))
        found.append([axis, *row, *ends.get(number, blank)])
    columns = {x.cell(at) for at in x.ticks}
    line = "".join("┬" if column in columns else "─" for column in range(x.cells))
    text = [" "] * x.cells
    for start, label in zip(starts(x), x.labels, strict=True):
        text[start : start + len(label)] = label
    below = [" " * (left - 1) + "└" + line, " " * left + "".join(text)]
    return [*found, *([Piece(text), *blank] for text in below)]


def _label(left: float, x: str) -> str:
    """The label of a fraction on its axis, with about two digits of the remaining weights."""
    digits = 2 if left <= 0 else max(2, 1 - math.floor(math.log10(left)))
    if x != "remaining":
        return f"{round(1.0 - left, digits):g}"
    return f"{left * 100:.0f}" if left >= 0.0995 else f"{round(left * 100, digits - 2):g}"


def _with_room(ticks: Sequence[tuple[float, str]], axis: Axis) -> list[tuple[float, str]]:
    """The first and last ticks, and as many of the others as fit, from the left."""
    chosen: list[tuple[float, str]] = []
    end = -GAP
    for number, (at, label) in enumerate(ticks):
        (start,) = starts(Axis(axis.low, axis.high, (at,), (label,), axis.cells))
        if number == len(ticks) - 1 and start < end + GAP and len(chosen) > 1:
            chosen.pop()
            end = -GAP
        if start >= end + GAP:
            chosen.append((at, label))
            end = start + len(label)
    return chosen


def accuracy(means: Sequence[float], zoom: Range | None, cells: int, fine: bool = False) -> Axis:
    """The axis of accuracies: from a round number below all means to one above them, or the zoomed range.

    Ticks are at least a percentage point apart unless it is zoomed, or `fine`.
    """
    low, high = zoom or (min(means, default=0.0), max(means, default=1.0))
    steps = STEPS if zoom or fine else STEPS[STEPS.index(0.01) :]
    most = max(1, min(6, (cells - 1) // 2))  # steps: each label has a line of its own, with one between
    step = next((step for step in steps if (high - low) / step <= most), steps[-1])
    if zoom:
        ticks = multiples(low, high, step)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(step * at for at in range(first, max(last, first + 1) + 1))
        low, high = ticks[0], ticks[-1]
    return Axis(low, high, ticks, tuple(f"{round(tick * 100, 2):g}" for tick in ticks), cells)


def multiples(low: float, high: float, step: float) -> tuple[float, ...]:
    """The multiples of a step in a range."""
    return tuple(step * at for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))


def scaled(span: Range, factor: float, around: float, limits: Range) -> Range:
    """A range `factor` times as wide around a point, within `limits` and at least a 64th as wide as these."""
    least = (limits[1] - limits[0]) / 64
    size = min(max((span[1] - span[0]) * factor, least), limits[1] - limits[0])
    low = around - (around - span[0]) * size / (span[1] - span[0])
    low = min(max(low, limits[0]), limits[1] - size)
    return low, low + size
