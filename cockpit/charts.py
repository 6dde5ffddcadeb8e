"""Curves as text: the only file that imports plotext."""

import math
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from plotext._figure import (
    _figure_class as Figure,
)  # an object for each chart; the module's functions share one
from rich.table import Table

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
MARKERS = "●×▲■+◆▼"
TICKS = (1.0, 0.51, 0.26, 0.1, 0.05, 0.01, 0.001)
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


def draw(shown: list[Series], title: str, x: str, full: bool, width: int, colours: bool) -> str:
    """The curves as a chart of `width` columns with a legend below: lines for means, bars for +-1 deviation."""
    figure = Figure()
    figure._limit_size(False, False)  # else it is cut to the size of the terminal
    figure.plot_size(width, max(15, min(30, width // 4)))
    figure.theme("clear")
    figure.title(title)
    place = (lambda fraction: -math.log10(fraction)) if x == "remaining" else (lambda fraction: 1.0 - fraction)
    legend, points = [], []
    for number, one in enumerate(shown):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        if one.ticket == DENSE:
            figure.horizontal_line(one.means[0], color=colour)
            legend.append((colour, "─", f"{one.name} {one.means[0]:.3f}"))
            continue
        kept = [i for i, fraction in enumerate(one.remaining) if fraction > 0 or x == "pruned"]
        xs, ys = [place(one.remaining[i]) for i in kept], [one.means[i] for i in kept]
        for i, at in zip(kept, xs, strict=True):
            if spread := one.deviations[i]:
                ends = [max(0.0, one.means[i] - spread), min(1.0, one.means[i] + spread)]
                figure.plot([at, at], ends, color=colour, marker="braille")
        if xs:
            figure.plot(xs, ys, color=colour, marker="braille")
            points.append((xs, ys, colour, marker))
        legend.append((colour, marker, one.name))
    for xs, ys, colour, marker in reversed(points):  # above all lines, the first series on top
        figure.scatter(xs, ys, color=colour, marker=marker)
    _axes(figure, shown, x, full)
    lines = [figure.build(), *(_legend_entry(*entry) for entry in legend)]
    text = "\n".join(lines)
    return text if colours else re.sub(r"\x1b\[[0-9;]*m", "", text)


def _axes(figure: Figure, shown: list[Series], x: str, full: bool) -> None:
    least = min((fraction for one in shown for fraction in one.remaining if fraction > 0), default=1.0)
    if x == "remaining":
        ticks = [tick for tick in TICKS if tick >= least * 0.9]
        figure.xticks([-math.log10(tick) for tick in ticks], [f"{tick * 100:g}" for tick in ticks])
        figure.xlabel("weights remaining, %")
    else:
        figure.xlabel("fraction of weights pruned")
    values = [mean for one in shown for mean in one.means]
    low, high = (0.0, 1.0) if full else (min(values), max(values))
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [step * place for place in range(first, max(last, first + 1) + 1)]
    figure.ylim(marks[0], marks[-1])
    figure.yticks(marks, [f"{mark:.2f}" for mark in marks])


def _legend_entry(colour: tuple[int, int, int], marker: str, name: str) -> str:
    red, green, blue = colour
    return f"  \x1b[38;2;{red};{green};{blue}m{marker}\x1b[0m {name}"


def table(shown: list[Series]) -> Table:
    """Mean and standard deviation of each curve, in per cent, a row a level; n where replicates are missing."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    found.add_column("level", justify="right")
    found.add_column("remaining %", justify="right")
    for one in shown:
        found.add_column(one.name, justify="right")
    fractions = {level: one.remaining[i] for one in reversed(shown) for i, level in enumerate(one.levels)}
    for level in sorted(fractions):
        found.add_row(str(level), f"{fractions[level] * 100:.2f}", *(_cell(one, level) for one in shown))
    return found


def _cell(one: Series, level: int) -> str:
    if level not in one.levels:
        return ""
    i = one.levels.index(level)
    spread, partial = one.deviations[i], one.counts[i] < one.planned[i]
    text = f"{one.means[i] * 100:.1f}" + (f" ± {spread * 100:.1f}" if spread is not None else "")
    return text + (f" (n={one.counts[i]} of {one.planned[i]})" if partial else "")
