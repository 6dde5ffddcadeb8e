"""Curves as text: the only file that imports plotext."""

import math
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from plotext._figure import (
    _figure_class as Figure,
)  # an object for each chart; the module's functions share one

AXES = ("remaining", "pruned")
# Okabe and Ito (2008): told apart with every kind of colour blindness. Each has a marker too, for no colours at all.
COLOURS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (148, 148, 148),
)
MARKERS = "●×▲■+◆▼★"  # one more than colours, so that 56 curves look different
TICKS = (1.0, 0.51, 0.26, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
DENSE = "dense"


@dataclass(frozen=True)
class Series:
    """One curve: for each level its fraction remaining, mean, sample standard deviation (None for n = 1), n."""

    name: str
    ticket: str
    levels: tuple[int, ...]
    remaining: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float | None, ...]
    counts: tuple[int, ...]
    planned: tuple[int, ...]


def series(rows: Sequence[sqlite3.Row]) -> list[Series]:
    """The rows of the view `curves` as series, winning tickets first, the dense network last."""
    names = dict.fromkeys(row["curve"] for row in rows)
    found = []
    for name in names:
        own = [row for row in rows if row["curve"] == name]
        found.append(
            Series(
                name=name,
                ticket=own[0]["ticket"],
                levels=tuple(row["level"] for row in own),
                remaining=tuple(1.0 - row["fraction_pruned"] for row in own),
                means=tuple(row["mean"] for row in own),
                deviations=tuple(row["std"] for row in own),
                counts=tuple(row["n"] for row in own),
                planned=tuple(row["replicates"] for row in own),
            )
        )
    return sorted(found, key=lambda one: (one.ticket == DENSE, one.ticket != "winning"))


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: its range, its ticks, and how many character cells it spans."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    cells: int

    def snap(self, value: float, dots: int) -> float:
        """The middle of the cell in which a braille line of so many dots a cell passes through `value`.

        plotext rounds dots and characters apart, so that a marker could stand beside the line it belongs to.
        """
        part = (value - self.low) / (self.high - self.low)
        cell = math.floor(0.5 + (dots * self.cells - 1) * part) // dots
        return self.low + cell / (self.cells - 1) * (self.high - self.low)


def draw(shown: list[Series], title: str, x: str, full: bool, width: int, colours: bool) -> str:
    """The curves as a chart of `width` columns with a legend below: lines for means, bars for +-1 deviation."""
    height = max(15, min(30, width // 4))
    y_axis = _accuracy_axis(shown, full, height - 5)  # less title, frame, ticks and label
    x_axis = _sparsity_axis(shown, x, width - 2 - max(map(len, y_axis.labels)))
    figure = Figure()
    figure._limit_size(False, False)  # else it is cut to the size of the terminal
    figure.plot_size(width, height)
    figure.theme("clear")
    figure.title(title)
    figure.xlabel("weights remaining, %" if x == "remaining" else "fraction of weights pruned")
    for axis, limit, ticks in ((x_axis, figure.xlim, figure.xticks), (y_axis, figure.ylim, figure.yticks)):
        limit(axis.low, axis.high)
        ticks(axis.ticks, axis.labels)
    legend, points = [], []
    for number, one in enumerate(shown):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        if one.ticket == DENSE:
            figure.horizontal_line(y_axis.snap(one.means[0], 4), color=colour)
            legend.append((colour, "─", f"{one.name} {_cell(one, 0)}"))
            continue
        kept = [i for i, fraction in enumerate(one.remaining) if fraction > 0 or x == "pruned"]
        xs, ys = [_place(one.remaining[i], x) for i in kept], [one.means[i] for i in kept]
        for i, at in zip(kept, xs, strict=True):
            if spread := one.deviations[i]:
                ends = [max(y_axis.low, one.means[i] - spread), min(y_axis.high, one.means[i] + spread)]
                figure.plot([at, at], ends, color=colour, marker="braille")
        if xs:
            figure.plot(xs, ys, color=colour, marker="braille")
            points.append(([x_axis.snap(v, 2) for v in xs], [y_axis.snap(v, 4) for v in ys], colour, marker))
        legend.append((colour, marker, one.name))
    for xs, ys, colour, marker in reversed(points):  # above all lines, the first series on top
        figure.scatter(xs, ys, color=colour, marker=marker)
    text = "\n".join([figure.build(), *(_legend_entry(*entry) for entry in legend)])
    return text if colours else re.sub(r"\x1b\[[0-9;]*m", "", text)


def _place(remaining: float, x: str) -> float:
    """Where a fraction of remaining weights lies on the x axis: plotext's own log axis breaks when drawn twice."""
    return -math.log10(remaining) if x == "remaining" else 1.0 - remaining


def _sparsity_axis(shown: list[Series], x: str, cells: int) -> Axis:
    least = min((fraction for one in shown for fraction in one.remaining if fraction > 0), default=1.0)
    if x == "pruned":
        ticks = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        return Axis(0.0, 1.0, ticks, tuple(f"{tick:g}" for tick in ticks), cells)
    shown_ticks = [tick for tick in TICKS if tick >= least * 0.99]
    labels = tuple(f"{tick * 100:g}" for tick in shown_ticks)
    return Axis(0.0, max(0.1, _place(least, x)), tuple(_place(tick, x) for tick in shown_ticks), labels, cells)


def _accuracy_axis(shown: list[Series], full: bool, cells: int) -> Axis:
    """From a round number below all means to one above them, or from 0 to 1."""
    values = [mean for one in shown for mean in one.means]
    low, high = (0.0, 1.0) if full else (min(values), max(values))
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(step * place for place in range(first, max(last, first + 1) + 1))
    return Axis(
        ticks[0], ticks[-1], ticks, tuple(f"{tick * 100:g}" for tick in (round(tick, 2) for tick in ticks)), cells
    )


def _legend_entry(colour: tuple[int, int, int], marker: str, name: str) -> str:
    red, green, blue = colour
    return f"  \x1b[38;2;{red};{green};{blue}m{marker}\x1b[0m {name}"


def table(shown: list[Series]) -> tuple[list[str], list[list[str]]]:
    """Headings and a row a level: mean and deviation of each curve in per cent, n where replicates are missing.

    The dense network has but one level, and its figures stand in the chart's legend.
    """
    shown = [one for one in shown if one.ticket != DENSE]
    fractions = {level: one.remaining[i] for one in reversed(shown) for i, level in enumerate(one.levels)}
    rows = [
        [str(level), f"{fractions[level] * 100:.2f}", *(_cell(one, level) for one in shown)]
        for level in sorted(fractions)
    ]
    return ["level", "remaining %", *(one.name for one in shown)], rows


def _cell(one: Series, level: int) -> str:
    if level not in one.levels:
        return ""
    i = one.levels.index(level)
    spread, partial = one.deviations[i], one.counts[i] < one.planned[i]
    text = f"{one.means[i] * 100:.1f}" + (f" ± {spread * 100:.1f}" if spread is not None else "")
    return text + (f" (n={one.counts[i]} of {one.planned[i]})" if partial else "")
