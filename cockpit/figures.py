"""Charts as files for papers and slides: the only file that imports matplotlib, which is an extra."""

import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cockpit import charts
from cockpit.curves import DENSE, Series
from cockpit.export import whole
from engine import processes
from engine.errors import InputError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMS = ("png", "svg", "pdf")
MARKERS = dict(zip(charts.MARKERS, "oX^s+Dv*", strict=True))
WIDTH, HEIGHT, LEGEND = 6.0, 4.0, 0.22  # inches: of a chart, and of a line of the legend below it
DOTS = 150  # an inch, of a PNG
SHADE = 0.18
MARGIN = 0.02  # so that no marker is cut at the edge
CELLS = (100, 40)  # about as many ticks as a terminal of this size has


def form_of(path: Path) -> str:
    """The form that a file's name asks for. Raises InputError if there is no such form."""
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise unknown("form of figures", form or path.name, FORMS)
    return form


def write(path: Path, shown: Mapping[str, Sequence[Series]], view: charts.View) -> None:
    """Draw groups of curves, by title, side by side: means with markers, one deviation to each side as a shade."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InputError("matplotlib is not installed: pip install 'lottery-cockpit[figures]'") from None
    form = form_of(path)
    longest = max(map(len, shown.values()))
    figure = Figure((WIDTH * len(shown), HEIGHT + LEGEND * longest), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        _draw(axes, curves, view)
        axes.set_title(title, fontsize="medium")
    with whole(path) as partial:
        figure.savefig(partial, format=form, dpi=DOTS, metadata={"Date": None} if form == "svg" else None)


def write_apart(path: Path, shown: Mapping[str, Sequence[Series]], view: charts.View) -> None:
    """`write` in a process of its own: importing matplotlib would hold up the screen, and stay in its memory."""
    command = [*processes.python("cockpit.figures"), str(path)]
    told = pickle.dumps((shown, view))
    done = subprocess.run(command, input=told, env=processes.environment(), capture_output=True, check=False)
    if done.returncode:
        raise InputError((done.stderr.decode().strip().splitlines() or ["unknown error"])[-1])


def _main() -> None:
    shown, view = pickle.load(sys.stdin.buffer)
    try:
        write(Path(sys.argv[1]), shown, view)
    except (InputError, OSError) as error:
        sys.exit(str(error))


def _draw(axes: "Axes", shown: Sequence[Series], view: charts.View) -> None:
    for number, one in enumerate(shown):
        if one.name not in view.hidden:
            _curve(axes, number, one, view)
    where = charts.layout(shown, view, *CELLS)
    margin = MARGIN * (where.x.high - where.x.low)
    axes.set_xlim(where.x.low - margin, where.x.high + margin)
    axes.set_ylim(where.y.low, where.y.high)
    axes.set_xticks(where.x.ticks, where.x.labels)
    axes.set_yticks(where.y.ticks, where.y.labels)
    axes.set_xlabel("weights remaining, %" if view.x == "remaining" else "fraction of weights pruned")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=SHADE)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), frameon=False, fontsize="small")


def _curve(axes: "Axes", number: int, one: Series, view: charts.View) -> None:
    rgb, marker = charts.style(number, one)
    colour = tuple(part / 255 for part in rgb)
    name = f"{one.name} ({one.all_counts()})"
    kept = [i for i, fraction in enumerate(one.remaining) if fraction > 0 or view.x == "pruned"]
    spreads = [one.deviations[i] or 0.0 for i in kept]
    means = [one.means[i] for i in kept]
    lows, highs = ([mean + sign * spread for mean, spread in zip(means, spreads, strict=True)] for sign in (-1, 1))
    if one.ticket == DENSE:
        axes.axhline(means[0], color=colour, linewidth=1, label=name)
        axes.axhspan(lows[0], highs[0], color=colour, alpha=SHADE, linewidth=0)
        return
    places = [charts.place(one.remaining[i], view.x) for i in kept]
    line = "--" if one.ticket.startswith("random") else "-"
    axes.plot(places, means, line, color=colour, marker=MARKERS[marker], markersize=5, linewidth=1.2, label=name)
    if view.spread != "none":
        axes.fill_between(places, lows, highs, color=colour, alpha=SHADE, linewidth=0)


if __name__ == "__main__":
    _main()
