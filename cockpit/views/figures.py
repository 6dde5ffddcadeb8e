"""Figures for papers and slides. Only this file imports matplotlib, which is an optional dependency."""

import math
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from cockpit.text import words
from cockpit.views import charts, legends, ratio_charts
from cockpit.views.axes import ACCURACY, AXES, Range, place
from cockpit.views.canvas import Colour, mix
from cockpit.views.curves import DENSE, Series, evenly
from cockpit.views.export import whole
from cockpit.views.layer_tables import ratio_title
from engine.analysis.comparing import Ratios
from engine.errors import InputError, unknown
from engine.machine import processes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = ("png", "svg", "pdf")
UNDATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
MARKERS = dict(zip(legends.MARKERS, "oX^sDv*P", strict=True))
WIDTH, HEIGHT, LEGEND = 6.0, 4.0, 0.22  # inches: width and height of a chart, height of a line of its legend
TITLE = 64  # characters per line
DOTS = 150  # per inch, of a PNG
SHADE = 0.18
PAPER = legends.BACKGROUNDS[False]
UNDER = 1  # z-order of the rule of dense networks: under the curves
MARGIN = 0.02  # fraction of the axes, so that markers at the edge are not cut
LEAST = 0.005  # margin of accuracies around a single value
NAMED = 8  # most levels of ratios in a legend
CELLS = (100, 40)  # size of the terminal whose number of ticks figures use
NARROWED = 0.8  # fraction of the range of accuracies below which an axis has an inset with the whole range
INSET = 0.34  # fraction of the chart's width and height
AROUND = 0.03  # margin around an inset, for markers and its labels
SPACE = INSET + 2 * AROUND
LEFTS, BOTTOMS = (0.07, 0.64, 0.26, 0.45), (0.05, 0.62, 0.24, 0.43)  # candidate positions of an inset, edges first
PLACES = tuple((left, bottom) for left in LEFTS for bottom in BOTTOMS)


def form_of(path: Path) -> str:
    """The format of a file name's ending. Raises InputError for an unsupported one."""
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise unknown("form of figures", form or path.name, FORMS)
    return form


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """Yield a figure, then write it. Equal data gives equal files, independent of the user's matplotlib style."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.style import context
    except ModuleNotFoundError:
        raise InputError("matplotlib is not installed: pip install 'lottery-cockpit[figures]'") from None
    form = form_of(path)
    with context("default"), rc_context({"svg.hashsalt": "cockpit", "text.parse_math": False}):
        figure = Figure((width, height), layout="constrained")
        yield figure
        with whole(path) as partial:
            figure.savefig(partial, format=form, dpi=DOTS, metadata=UNDATED[form])


def write(
    path: Path,
    shown: Mapping[str, Sequence[Series]],
    view: legends.View,
    remarks: Sequence[str] = (),
    title: str | None = None,
    *,
    inset: bool = True,
    what: str = ACCURACY,
) -> None:
    """Draw groups of curves, by title, side by side: means, with one standard deviation to each side as a shade.

    Points with missing replicates are hollow. A narrowed axis of accuracies has an inset with the whole range. `what`
    is the label of the vertical axis if it shows something else, in points. `remarks` are below the titles. A `title`
    replaces the title of a single group, and is above the titles of several.
    """
    longest = max(map(len, shown.values()))
    with drawn(path, WIDTH * len(shown), HEIGHT + LEGEND * longest) as figure:
        if title and len(shown) > 1:
            figure.suptitle(words.line(title))
        for axes, (name, curves) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
            _draw(axes, curves, view, inset, what)
            _entitle(axes, name if title is None or (title and len(shown) > 1) else title, remarks)


def write_ratios(path: Path, ratios: Ratios, remarks: Sequence[str] = (), title: str | None = None) -> None:
    """Draw the ratios of two scopes by layer, with a line for each level from light to dark (figure 1b)."""
    levels = ratio_charts.ratio_levels(ratios)
    named = evenly(levels, NAMED)
    scale = ratio_charts.ratio_axis(ratios, CELLS[1])
    with drawn(path, WIDTH, HEIGHT + LEGEND * len(named) / 2) as figure:
        axes = figure.subplots()
        for number, level in enumerate(levels):
            colour = _rgb(ratio_charts.shade(number, len(levels)))
            name = ratio_charts.ratio_name(ratios, level) if level in named else None
            layers, places = zip(*ratio_charts.ratio_points(ratios, level), strict=True)
            axes.plot(layers, places, "-o", color=colour, markersize=3, linewidth=1.2, label=name)
        axes.axhline(ratio_charts.ratio_place(1.0, ratios), color="grey", linewidth=0.8, linestyle=":")
        axes.set_ylim(scale.low, scale.high)
        axes.set_yticks(scale.ticks, scale.labels)
        axes.set_xticks(range(1, len(ratios.layers) + 1))
        axes.set_xlabel("layer")
        axes.set_ylabel(f"ratio of the fraction {ratios.fraction}")
        _entitle(axes, ratio_title(ratios) if title is None else title, remarks)
        axes.grid(alpha=SHADE)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2, frameon=False, fontsize="small")


def _entitle(axes: "Axes", title: str, remarks: Iterable[str]) -> None:
    lines = [*filter(None, [fill(words.line(title), TITLE)]), *map(_broken, remarks)]
    axes.set_title("\n".join(lines), fontsize="medium")


def _broken(remark: str) -> str:
    """A remark broken into lines only after commas, so that numbers stay next to their nouns."""
    held = "\N{NO-BREAK SPACE}"
    return fill(re.sub("(?<!,) ", held, remark), TITLE).replace(held, " ")


def write_apart(path: Path, shown: Mapping[str, Sequence[Series]], view: legends.View, what: str = ACCURACY) -> None:
    """`write` in a separate process, because importing matplotlib blocks the screen and keeps its memory."""
    command = [*processes.python("cockpit.views.figures"), str(path)]
    told = pickle.dumps((shown, view, what))
    done = subprocess.run(command, input=told, env=processes.environment(), capture_output=True, check=False)
    if done.returncode:
        raise InputError((done.stderr.decode().strip().splitlines() or ["unknown error"])[-1])


def _main() -> None:
    shown, view, what = pickle.load(sys.stdin.buffer)
    try:
        write(Path(sys.argv[1]), shown, view, what=what)
    except (InputError, OSError) as error:
        sys.exit(str(error))


def _draw(axes: "Axes", shown: Sequence[Series], view: legends.View, inset: bool, what: str) -> None:
    limits = (0.0, 1.0) if what == ACCURACY else (-math.inf, math.inf)
    where = charts.layout(shown, _with_room(shown, view, limits), *CELLS)
    _curves(axes, shown, view, limits)
    margin = MARGIN * (where.x.high - where.x.low)
    axes.set_xlim(where.x.low - margin, where.x.high + margin)
    axes.set_ylim(where.y.low, where.y.high)
    axes.set_xticks(where.x.ticks, where.x.labels)
    axes.set_xticks([place(left, view.x) for left in legends.fractions(shown).values() if left], minor=True)
    axes.set_yticks(where.y.ticks, where.y.labels)
    axes.set_xlabel(AXES[view.x])
    axes.set_ylabel(what)
    axes.grid(alpha=SHADE)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), frameon=False, fontsize="small")
    if inset and what == ACCURACY and where.y.high - where.y.low < NARROWED:
        small = axes.inset_axes((*_emptiest(shown, view, where), INSET, INSET))
        _curves(small, shown, view, limits, small=True)
        small.set_xlim(axes.get_xlim())
        small.set_ylim(0, 1)
        small.set_xticks([])
        small.set_yticks((0, 0.5, 1), ("0", "50", "100"), fontsize="x-small")


def _with_room(shown: Sequence[Series], view: legends.View, limits: Range) -> legends.View:
    """The view with a range of accuracies that contains all shades, unless the view has a range."""
    visible = [one for one in shown if one.name not in view.hidden]
    if view.full or view.y_range or not visible:
        return view
    points = [(mean, spread or 0.0) for one in visible for mean, spread in zip(one.means, one.deviations, strict=True)]
    low, high = min(mean - spread for mean, spread in points), max(mean + spread for mean, spread in points)
    room = max(MARGIN * (high - low), LEAST)
    return replace(view, y_range=(max(low - room, limits[0]), min(high + room, limits[1])))


def _curves(axes: "Axes", shown: Sequence[Series], view: legends.View, limits: Range, small: bool = False) -> None:
    for number, one in enumerate(shown):
        if one.name not in view.hidden:
            _curve(axes, number, one, view, limits, small)


def _curve(axes: "Axes", number: int, one: Series, view: legends.View, limits: Range, small: bool) -> None:
    colour, marker = legends.style(number, one)
    rgb, name = _rgb(colour), words.line(f"{one.called} ({one.all_counts()})")
    name = f" {name}" if name.startswith("_") else name  # matplotlib hides names with a leading underscore
    kept = [i for i, fraction in enumerate(one.remaining) if fraction > 0 or view.x == "pruned"]
    spreads = [one.deviations[i] or 0.0 for i in kept]
    means = [one.means[i] for i in kept]
    lows, highs = (
        [min(max(mean + sign * spread, limits[0]), limits[1]) for mean, spread in zip(means, spreads, strict=True)]
        for sign in (-1, 1)
    )
    if one.ticket == DENSE:
        axes.axhline(means[0], color=rgb, linewidth=1, label=name, zorder=UNDER)
        axes.axhspan(lows[0], highs[0], color=rgb, alpha=SHADE, linewidth=0)
        return
    places = [place(one.remaining[i], view.x) for i in kept]
    faint = _rgb(mix(colour, PAPER, charts.DIMNESS)) if one.ticket.startswith("random") else rgb
    (drawn,) = axes.plot(places, means, color=faint, linewidth=1.2, label=name, marker="" if small else MARKERS[marker])
    drawn.set(markersize=5, markerfacecolor=rgb, markeredgecolor=rgb)
    missing = [] if small else [at for at, i in enumerate(kept) if one.counts[i] < one.planned[i]]
    hollow = [places[at] for at in missing], [means[at] for at in missing]
    axes.plot(*hollow, MARKERS[marker], color=rgb, markerfacecolor="white", markersize=5)
    if view.spread != "none":
        axes.fill_between(places, lows, highs, color=rgb, alpha=SHADE, linewidth=0)
        if len(places) == 1:  # a shade would have no width
            axes.vlines(places, lows, highs, color=rgb, linewidth=1.2)


def _rgb(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _emptiest(shown: Sequence[Series], view: legends.View, where: charts.Layout) -> tuple[float, float]:
    """The position where an inset hides the fewest points of curves, preferably at an edge."""
    points: list[tuple[float, float]] = []
    for one in (one for one in shown if one.name not in view.hidden):
        own = [
            (
                (place(left, view.x) - where.x.low) / (where.x.high - where.x.low),
                (mean - where.y.low) / (where.y.high - where.y.low),
            )
            for left, mean in zip(one.remaining, one.means, strict=True)
            if left > 0
        ]
        if one.ticket == DENSE:
            own = [(0.0, own[0][1]), (1.0, own[0][1])]
        for (x, y), (x_to, y_to) in pairwise(own):
            points += [(x + (x_to - x) * part / 50, y + (y_to - y) * part / 50) for part in range(51)]

    def hides(place: tuple[float, float]) -> int:
        left, bottom = place
        return sum(0 <= x - left + AROUND <= SPACE and 0 <= y - bottom + AROUND <= SPACE for x, y in points)

    return min(PLACES, key=hides)


if __name__ == "__main__":
    _main()
