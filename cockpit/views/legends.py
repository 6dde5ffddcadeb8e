"""The legends of charts: colours, markers, names and readings of curves, and the meaning of signs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cockpit.views.axes import Range
from cockpit.views.canvas import Colour
from cockpit.views.curves import DENSE, Series, matched

# The colours of Okabe and Ito (2008) and a distant violet, which differ under all kinds of colour blindness. Seven, for
# six sources and random tickets. Markers differ, too, for terminals without colours.
COLOURS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (150, 15, 240),
)
NEUTRAL = (148, 148, 148)  # of dense networks, the reference
MARKERS = "●×▲■◆▼★✚"  # one more than colours, so that 56 combinations differ
RULE = "─"
MATCH = "▾"  # above the last level that matches dense
LIVE = "○"  # the present accuracy of a run in training
MORE = "⁰¹²³⁴⁵⁶⁷⁸⁹"  # the number of further curves at a point
SIGNS = {  # the meaning of a chart's signs, for the help
    RULE: "the dense network",
    "dim line": "random tickets",
    "background": "one sample standard deviation to each side of a mean",
    MATCH: "stands over the last level down to which a winning ticket matches dense",
    LIVE: "a run in training: its accuracy so far, on test images where its last epoch was tested",
    "1 2 3": "how many replicates are done, where some of the planned ones are missing",
    MORE[2:5]: "number of curves that lie here, without room side by side",
}
BACKGROUNDS = {True: (18, 18, 18), False: (255, 255, 255)}  # assumed for dark and light terminals that report none


@dataclass(frozen=True)
class View:
    """The settings of a chart. Ranges are in units of the axes (`axes.place`)."""

    x: str = "remaining"  # a key of `AXES`
    full: bool = False  # whether the axis of accuracy is from 0 to 1
    spread: str = "bars"  # one of `charts.SPREADS`: the display of one sample standard deviation to each side
    x_range: Range | None = None
    y_range: Range | None = None
    crosshair: int | None = None  # a level
    hidden: frozenset[str] = frozenset()  # names of curves; they keep their colours
    labelled: bool = False  # names at the ends of curves, instead of a legend
    background: Colour = field(default=BACKGROUNDS[True])
    sure: bool = True  # whether the terminal reported this background


@dataclass(frozen=True)
class Entry:
    """A line of the legend: a curve's marker, colour, name, replicates, reading at the crosshair, and remarks."""

    colour: Colour
    marker: str
    key: str  # the curve's name in the database
    name: str  # for display
    count: str
    reading: str
    remarks: tuple[str, ...]

    @property
    def style(self) -> str:
        """The colour as Rich writes it."""
        return f"rgb({self.colour[0]},{self.colour[1]},{self.colour[2]})"


def style(number: int, one: Series) -> tuple[Colour, str]:
    """Colour and marker of the curve of index `number`; dense networks come last (`curves.series`)."""
    if one.ticket == DENSE:
        return NEUTRAL, RULE
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]


def legend(shown: Sequence[Series], view: View) -> list[Entry]:
    """The legend of a chart, including hidden curves. Without a crosshair, only dense has a reading."""
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
    return Entry(*style(number, one), one.name, one.called, count, reading, tuple(remarks))


def signs(shown: Sequence[Series], view: View) -> list[str]:
    """The meaning of each sign that a chart of these curves has."""
    visible = [one for one in shown if one.name not in view.hidden]
    matching = any(matched(one, shown) is not None for one in visible)
    missing = any(count < plan for one in visible for count, plan in zip(one.counts, one.planned, strict=True))
    found = {f"{MATCH} {_farthest(visible, shown)}": matching, "digit: replicates so far": missing}
    found[f"{LIVE} in training"] = any(one.live for one in visible)
    return [sign for sign, is_there in found.items() if is_there]


def _farthest(visible: Sequence[Series], shown: Sequence[Series]) -> str:
    """The curve that matches dense down to the fewest weights, and that fraction."""
    found = [(last, one) for one in visible if (last := matched(one, shown)) is not None]
    if not found:
        return "matches dense"
    last, one = max(found, key=lambda item: item[0])
    return f"{one.called} matches dense to {_per_cent(one, last)}"


def _per_cent(one: Series, level: int) -> str:
    return f"{one.remaining[one.levels.index(level)] * 100:.3g} %"


def fractions(shown: Sequence[Series]) -> dict[int, float]:
    """The fraction of weights remaining at each level, in order, from the first curve with the level."""
    found = {level: one.remaining[i] for one in reversed(shown) for i, level in enumerate(one.levels)}
    return dict(sorted(found.items()))
