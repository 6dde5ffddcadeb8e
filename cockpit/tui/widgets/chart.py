"""The chart of accuracy by sparsity, with crosshair and zoom, drawn outside the event loop."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.geometry import Size
from textual.message import Message

from cockpit.text import words
from cockpit.tui import filters
from cockpit.tui.plain import Plain, plain
from cockpit.tui.widgets.drawn import Drawn, Picture, background_of, picture, strips
from cockpit.views import axes, charts, curves, differences, epochs, legends, names
from cockpit.views.legends import Entry, View
from engine.store.live import Live

PAINT_SECONDS = 0.25  # least time between two paints
SMALLEST = (24, 4)
DIFFERENCE = "difference to the first curve, points"
ZOOM = 0.7
HIGH = 26  # rows from which a chart has a part for the run in training


class Plot(Drawn):
    """The picture of the curves."""

    class Resized(Message):
        """The size has changed, so that another picture is needed."""

    def on_resize(self) -> None:
        self.post_message(self.Resized())


class Chart(Vertical, can_focus=True):
    """Curves, one group at a time. Other widgets show the legend, from the message `Legend`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "crosshair(-1)", "Denser level", id="chart.denser", show=False, tooltip="Read a denser level"),
        Binding(
            "right", "crosshair(1)", "Sparser level", id="chart.sparser", show=False, tooltip="Read a sparser level"
        ),
    ]

    class Legend(Message):
        """The legend has changed."""

        def __init__(self, shown: Sequence[curves.Series], entries: Sequence[Entry]) -> None:
            super().__init__()
            self.shown, self.entries = shown, entries

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, Chart.Legend)

    def __init__(self, id: str | None = None, legend: bool = True) -> None:
        super().__init__(id=id)
        self.found: Sequence[curves.Series] = ()
        self.grouping: curves.Grouping = "target"
        self.view = View(spread="bands")
        self._own_legend, self._named, self._what = legend, "", axes.ACCURACY
        self._groups: dict[str, tuple[curves.Series, ...]] = {}
        self._chosen = ""  # the group that the user chose; empty: the first
        self.differing = False  # whether differences from the first curve are drawn
        self._whole: dict[str, tuple[curves.Series, ...]] = {}
        self._typed = ""  # the words of the filter
        self._said: Text | None = None
        self._painted: tuple[object, ...] = ()
        self._painted_at = 0.0
        self._waiting = False  # for a picture, or for the time to draw one

    def compose(self) -> ComposeResult:
        yield Plain(id="no-curves")
        yield Plot()
        yield Drawn(id="epochs")
        with VerticalScroll(can_focus=False, id="legend"):
            yield Plain(id="entries")

    def on_resize(self) -> None:
        self._change(self.view)

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._change(self.view))
        if self.app.no_color:  # bands differ only by colour
            self.view = replace(self.view, spread="bars")
        self.nothing("reading …")

    @property
    def shown(self) -> tuple[curves.Series, ...]:
        """The curves of the current group, or their differences."""
        return self._groups.get(self._group, ())

    @property
    def whole(self) -> tuple[curves.Series, ...]:
        """The curves of the current group with their accuracies, even if differences are drawn."""
        return self._whole.get(self._group, ())

    @property
    def _group(self) -> str:
        return self._chosen if self._chosen in self._groups else next(iter(self._groups), "")

    def show(self, series: Sequence[curves.Series], name: str, empty: str, what: str = axes.ACCURACY) -> None:
        """Draw curves of `what` under the title `name`; without curves, show the text `empty`."""
        if (name, what) != (self._named, self._what):
            self.view = replace(self.view, x_range=None, y_range=None, crosshair=None, hidden=_hidden(series))
            self._named, self._what, self._chosen = name, what, ""
        self.found = series
        if series:
            self._regroup()
        else:
            self.nothing(empty)

    def nothing(self, why: str) -> None:
        """Show no curves, and the reason."""
        self.found, self._groups, self._whole = (), {}, {}
        self.query_one("#no-curves", Plain).update(why)
        self._change(self.view)

    def narrow(self, typed: str) -> None:
        """Show only curves whose names match these words, and the dense networks."""
        if typed != self._typed:
            self._typed = typed
            self._regroup()

    def hide(self, names: frozenset[str]) -> None:
        """Hide the curves of these names."""
        self._change(replace(self.view, hidden=names))

    def action_axis(self) -> None:
        """Use the next kind of x axis, without zoom, as ranges differ between axes."""
        names = list(axes.AXES)
        other = names[(names.index(self.view.x) + 1) % len(names)]
        self._change(replace(self.view, x=other, x_range=None, y_range=None))

    def action_full(self) -> None:
        """Show accuracy from 0 to 1, or only the range of the curves."""
        self._change(replace(self.view, full=not self.view.full, y_range=None))

    def action_spread(self) -> None:
        """Show deviations as bands, as bars, or not at all."""
        place = charts.SPREADS.index(self.view.spread) + 1
        self._change(replace(self.view, spread=charts.SPREADS[place % len(charts.SPREADS)]))

    def action_regroup(self) -> None:
        """Group the curves another way."""
        place = curves.GROUPINGS.index(self.grouping) + 1
        self.grouping, self._chosen = curves.GROUPINGS[place % len(curves.GROUPINGS)], ""
        self.view = replace(self.view, x_range=None, y_range=None)
        self._regroup()

    def action_group(self, step: int) -> None:
        """Show the next or previous group of curves."""
        if names := list(self._groups):
            self._chosen = names[(names.index(self._group) + step) % len(names)]
            self._change(replace(self.view, x_range=None, y_range=None))

    def action_difference(self) -> None:
        """Draw the differences of curves from the first, or their accuracies."""
        self.differing = not self.differing
        self.view = replace(self.view, full=False, y_range=None)
        self._regroup()

    def action_crosshair(self, step: int) -> None:
        """Move the crosshair to the next or previous level; a zoomed view follows."""
        levels = list(self._levels())
        if not levels:
            return
        now = self.view.crosshair
        place = levels.index(now) + step if now in levels else 0 if step > 0 else len(levels) - 1
        level = levels[min(max(place, 0), len(levels) - 1)]
        self._change(self._followed(replace(self.view, crosshair=level)))

    def action_zoom(self, direction: int) -> None:
        """Zoom in or out around the first curve at the crosshair, or around the middle of the curves."""
        if self.shown:
            x_axis, y_axis = self._layout().x, self._layout().y
            seen = [one for one in self.shown if one.name not in self.view.hidden]
            means = [mean for one in seen for mean in one.means if y_axis.low <= mean <= y_axis.high]
            x = (x_axis.low + x_axis.high) / 2
            y = statistics.median(means) if means else (y_axis.low + y_axis.high) / 2
            level = self.view.crosshair
            read = [one for one in seen if level in one.levels]
            if read and level is not None and level in self._levels():
                x = axes.place(self._levels()[level], self.view.x)
                y = read[0].means[read[0].levels.index(level)]
            self._zoom(direction, x, y)

    def action_reset(self) -> None:
        """Show the whole chart, without zoom and crosshair."""
        self._change(replace(self.view, x_range=None, y_range=None, crosshair=None))

    @on(events.MouseMove)
    def _read(self, event: events.MouseMove) -> None:
        if (at := event.get_content_offset(self.query_one(Plot))) and self.shown:
            x_axis, left = self._layout().x, self._layout().left
            cells = {level: x_axis.cell(axes.place(f, self.view.x)) for level, f in self._levels().items()}
            level = min(cells, key=lambda level: abs(cells[level] - at.x + left), default=None)
            if level != self.view.crosshair:
                self._change(replace(self.view, crosshair=level))

    @on(events.MouseScrollUp)
    @on(events.MouseScrollDown)
    def _wheel(self, event: events.MouseScrollUp | events.MouseScrollDown) -> None:
        if (at := event.get_content_offset(self.query_one(Plot))) and self.shown:
            event.stop()
            where = self._layout()
            y = where.y.middle(where.y.cells - 1 - at.y)
            self._zoom(1 if isinstance(event, events.MouseScrollUp) else -1, where.x.middle(at.x - where.left), y)

    def _levels(self) -> dict[int, float]:
        found = legends.fractions([one for one in self.shown if one.ticket != curves.DENSE])
        return {level: fraction for level, fraction in found.items() if fraction > 0 or self.view.x == "pruned"}

    def _layout(self) -> charts.Layout:
        return charts.layout(self.shown, self.view, *self.query_one(Plot).size)

    def _zoom(self, direction: int, x: float, y: float) -> None:
        self._chosen = self._group  # so that a new group before it does not replace it
        self._change(charts.zoomed(self.shown, self.view, ZOOM**direction, x, y))

    def _followed(self, view: View) -> View:
        """The view, moved so that its crosshair is visible."""
        if view.x_range is None or view.crosshair is None:
            return view
        low, high = view.x_range
        at = axes.place(self._levels()[view.crosshair], view.x)
        move = min(at - low, 0.0) + max(at - high, 0.0)
        return replace(view, x_range=(low + move, high + move))

    def _regroup(self) -> None:
        found = curves.groups(self.found, self.grouping)
        named = {group: names.named(shown) for group, shown in found.items()}
        narrowed = {group: shown for group, all_ in named.items() if (shown := self._narrowed(all_))}
        self._whole = narrowed
        self._groups = (
            {group: differences.drawn(shown) for group, shown in narrowed.items()} if self.differing else narrowed
        )
        self._change(self.view)

    def _narrowed(self, shown: Sequence[curves.Series]) -> tuple[curves.Series, ...]:
        return tuple(
            one for one in shown if one.ticket == curves.DENSE or filters.has((one.called, one.name), self._typed)
        )

    def _change(self, view: View) -> None:
        """Change the view: texts change at once, the picture is drawn in the background."""
        sure = not self.app.native_ansi_color
        self.view = replace(view, background=background_of(self.app), sure=sure, labelled=self._labelled(view))
        entries = legends.legend(self.shown, self.view)
        self.query_one("#no-curves").display, self.query_one(Plot).display = not self.shown, bool(self.shown)
        self._say(entries)
        self.post_message(self.Legend(self.shown, entries))
        self.paint()

    def _labelled(self, view: View) -> bool:
        """Whether names are at the ends of curves, so that the legend leaves them out."""
        size = self.content_size
        height = size.height - epochs.HEIGHT * self._has_epochs
        return bool(self._own_legend and self.shown) and charts.labelled(self.shown, view, size.width, height)

    def _say(self, entries: Sequence[Entry]) -> None:
        self.border_title, self.border_subtitle = plain(self.title), plain(self._chips())
        self.query_one("#legend").display = self._own_legend and not self.view.labelled
        self.query_one("#epochs").display = self._has_epochs
        if self._own_legend:
            hidden = self.view.hidden
            said = Text("\n").join(entry_text(entry) for entry in entries if entry.key not in hidden)
            if said != self._said:
                self._said = said
                self.query_one("#entries", Plain).update(said)

    @property
    def _has_epochs(self) -> bool:
        """Whether loss and accuracy of the run in training are below, for which only a high chart has room."""
        return self._own_legend and bool(_in_training(self.shown)) and self.content_size.height >= HIGH

    @property
    def title(self) -> str:
        """The title of the chart."""
        return f"{names.title(self.whole)} · {self.what}" if self.shown else self._named

    @property
    def what(self) -> str:
        """The quantity on the vertical axis."""
        return DIFFERENCE if self.differing else self._what

    def _chips(self) -> str:
        if not self.shown:
            return ""
        chips = [*legends.signs(self.shown, self.view), axes.AXES[self.view.x]]
        spread = "95 % interval" if self.differing else "± 1 SD"
        chips += [] if self.view.spread == "none" else [spread]
        if self.view.crosshair in self._levels():
            fraction = self._levels()[self.view.crosshair or 0]
            chips.insert(0, f"level {self.view.crosshair}: {fraction * 100:.3g} % remaining")
        if len(self._groups) > 1:
            chips.insert(0, f"[ {list(self._groups).index(self._group) + 1} of {len(self._groups)} ]")
        held = (self.view.x_range, self.view.y_range) != (None, None)
        return " │ ".join([*chips, *(["held (0: live)"] if held else [])])

    @on(Plot.Resized)
    def paint(self) -> None:
        """Draw the picture of the current view, unless nothing is visible or another one is being drawn."""
        size = self.query_one(Plot).size
        wanted = (self.shown, self.view, size)
        seen = self.shown and self.screen.is_current and size.width >= SMALLEST[0] and size.height >= SMALLEST[1]
        if self._waiting or not seen or wanted == self._painted:
            return
        self._waiting = True
        early = PAINT_SECONDS - (time.monotonic() - self._painted_at)
        if early > 0:
            self.set_timer(early, self._start)
        else:
            self._start()

    def _start(self) -> None:
        self._build(self.shown, self.view, self.query_one(Plot).size)

    @work(thread=True, exclusive=True)
    def _build(self, shown: tuple[curves.Series, ...], view: View, size: Size) -> None:
        found = picture(shown, view, size) if shown and size.width >= SMALLEST[0] and size.height >= SMALLEST[1] else ()
        below: Picture = ()
        if found and (run := _in_training(shown)):
            below = strips(epochs.draw(run, size.width, view.background))
        self.app.call_from_thread(self._built, found, below, (shown, view, size))

    def _built(self, found: Picture, below: Picture, painted: tuple[object, ...]) -> None:
        self._waiting, self._painted, self._painted_at = False, painted, time.monotonic()
        for drawn, one in ((self.query_one(Plot), found), (self.query_one("#epochs", Drawn), below)):
            drawn.picture = one
            drawn.refresh()
        self.paint()


def _in_training(shown: Sequence[curves.Series]) -> Live | None:
    return next((run for one in shown for run in one.live), None)


def _hidden(series: Sequence[curves.Series]) -> frozenset[str]:
    return frozenset(one.name for one in series if one.is_hidden)


def entry_text(entry: Entry) -> Text:
    """A line of a legend."""
    parts = [entry.reading, entry.count, *entry.remarks]
    line = Text.assemble((entry.marker, entry.style), " ", words.line(entry.name))
    return line.append("  ").append(" · ".join(part for part in parts if part), "dim")
