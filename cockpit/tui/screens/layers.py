"""Two tickets layer by layer (the paper's figure 1b), and the fraction of each layer remaining at each level."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from cockpit.text import words
from cockpit.tui import actions, filters
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.heat import Heat, legend, ratio_legend
from cockpit.tui.widgets.overlap import Overlaps, title
from cockpit.tui.widgets.picker import Picker
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import layer_tables, names
from engine.analysis import overlaps
from engine.analysis.comparing import (
    FRACTIONS,
    Comparison,
    Fraction,
    HeatMap,
    Layer,
    Ratios,
    compare,
    heat_map,
    levels,
    ratios,
)
from engine.analysis.overlaps import Matrix
from engine.errors import InputError
from engine.store import database, sides
from engine.store.files import Folder

HEADINGS = ("layer", "weights", "A %", "B %", "A/B", "A-B", "overlap", "A/B as a bar")
WIDEST_BAR = 31
LEAST_BAR = 7
OF_TWO = ("pick", "heat", "fraction", "sort", "unchanged", "replicate")  # actions on what A and B are
WIDE = 150  # columns from which the ratios of all levels are next to the table


@dataclass(frozen=True)
class Selection:
    """What a person has chosen to see. None is the usual: two scopes, the sparsest level, the mean, no heat map."""

    experiment: str | None = None
    names: tuple[str, str | None] | None = None
    level: int | None = None
    replicate: int | None = None
    heat: int | None = None  # the side that the heat map shows: 0 is A
    matrix: bool = False  # the overlaps of all tickets instead
    beside: bool = False  # whether the ratios of all levels fit next to the table


@dataclass(frozen=True)
class View:
    """The content of the screen."""

    comparison: Comparison
    called: Sequence[str]  # the names of A and B
    replicate: int | None
    heat: HeatMap | None
    ratios: Mapping[Fraction, Ratios]  # of both fractions, if they are asked for
    hint: str  # why the usual comparison is not that of two scopes


@dataclass(frozen=True)
class Overlapping:
    """The overlaps of all tickets of an experiment at a level, and the levels that have overlaps."""

    experiment: str
    level: int
    levels: tuple[int, ...]
    matrices: Sequence[Matrix]
    notes: Sequence[str]


def read_overlaps(folder: Folder, selection: Selection, connection: sqlite3.Connection) -> Overlapping | str:
    """The overlaps at the selected level, else at the sparsest; or why none exist."""
    try:
        experiment = selection.experiment or sides.newest(connection)
        offered = overlaps.levels(connection, experiment)
        level = selection.level if selection.level in offered else max(offered, default=0)
        found, notes = overlaps.matrices(connection, folder, experiment, level or None)
        return Overlapping(experiment, level, offered, _labelled(found, names.of_curves(connection, experiment)), notes)
    except InputError as error:
        return str(error)


def _labelled(found: Sequence[Matrix], labels: Mapping[str, str]) -> list[Matrix]:
    """The matrices with the labels of curves."""
    return [
        replace(
            one,
            chain=labels.get(one.chain or "", one.chain),
            names=tuple(labels.get(name, name) for name in one.names),
        )
        for one in found
    ]


def read(folder: Folder, selection: Selection, connection: sqlite3.Connection) -> View | str:
    """What is selected, or why it cannot be shown. A level or replicate that is not there (now) is left out."""
    try:
        a, b, hint = _sides(connection, selection)
        level = selection.level if selection.level in levels(a, b) else None
        found = compare(connection, folder, a, b, level)
        replicate = selection.replicate if selection.replicate in found.replicates else None
        if replicate is not None:
            found = compare(connection, folder, a, b, found.level, replicate)
        shown = None if selection.heat is None else (a, b)[selection.heat] or a
        heat = heat_map(connection, shown, replicate) if shown else None
        of = FRACTIONS if selection.beside and b is not None and not (a.is_run and b.is_run) else ()
        called = layer_tables.called(connection, [side for side in (a, b) if side])
        return View(found, called, replicate, heat, {one: ratios(connection, a, b, one) for one in of if b}, hint)
    except InputError as error:
        return str(error)


def _sides(connection: sqlite3.Connection, selection: Selection) -> tuple[sides.Side, sides.Side | None, str]:
    if selection.names:
        a, b = selection.names
        return sides.find(connection, a), sides.find(connection, b) if b else None, ""
    experiment = selection.experiment or sides.newest(connection)
    try:
        return *sides.of_scopes(connection, experiment), ""
    except InputError as error:
        return *sides.first_two(connection, experiment), str(error)


class Layers(CockpitScreen):
    """Fractions, ratio, difference and overlap of each layer, or a heat map of layers and levels."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "pick(0)", "Pick A", id="layers.a", tooltip="Choose the curve or run that is A"),
        Binding("b", "pick(1)", "Pick B", id="layers.b", tooltip="Choose the curve or run that A is compared with"),
        Binding("h", "heat", "Heat map", id="layers.heat", tooltip="Layers and levels of A, then of B, then the table"),
        Binding(
            "m",
            "matrix",
            "Overlaps",
            id="layers.matrix",
            tooltip="Masks of all tickets, each with each: between replicates, and between chains; then the table",
        ),
        Binding("v", "fraction", "Pruned", id="layers.fraction", tooltip="Fractions pruned, or remaining"),
        Binding("s", "sort", "Sort", id="layers.sort", tooltip="By the size of the difference, or in order of layers"),
        Binding(
            "left", "level(-1)", "Denser", id="layers.denser", show=False, priority=True, tooltip="The level before"
        ),
        Binding(
            "right", "level(1)", "Sparser", id="layers.sparser", show=False, priority=True, tooltip="The next level"
        ),
        Binding("c", "unchanged", "Unchanged", id="layers.unchanged", show=False, tooltip="Hide what does not differ"),
        Binding("r", "replicate", "Replicate", id="layers.replicate", show=False, tooltip="One replicate, or the mean"),
        Binding("j", "app.simulate_key('down')", "Down", id="layers.down", show=False, tooltip="To the next layer"),
        Binding("k", "app.simulate_key('up')", "Up", id="layers.up", show=False, tooltip="To the layer before"),
        Binding("escape", "back", "Back", id="layers.back", show=False, tooltip="To the table; to the dashboard"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()
        self.view: View | None = None
        self.overlapping: Overlapping | None = None
        self.fraction: Fraction = "remaining"
        self.by_difference = self.hiding = False

    def body(self) -> ComposeResult:
        with Vertical(id="layers"):
            yield Plain("reading …", id="layers-empty")
            yield Plain(id="layers-sides")
            yield Plain(id="layers-level")
            with Horizontal(id="layers-panes"):
                yield LiveTable(HEADINGS, id="layers-table")
                yield Heat(id="layers-heat")
                yield Overlaps(id="layers-overlaps")
            yield Plain(id="layers-detail")
            yield Plain(id="layers-notes")

    def on_mount(self) -> None:
        self._show_only("layers-empty")

    def on_resize(self) -> None:
        beside = self.app.size.width >= WIDE
        if beside != self.selection.beside:
            self._want(beside=beside)
        self._draw()

    def ask(self) -> None:
        if self.cockpit.experiment != self.selection.experiment:
            self.selection = Selection(self.cockpit.experiment, beside=self.app.size.width >= WIDE)
        super().ask()

    def queries(self) -> Mapping[str, Query]:
        folder = Folder(database.files_folder(self.cockpit.path))
        if self.selection.matrix:
            return {"overlaps": partial(read_overlaps, folder, self.selection)}
        return {"view": partial(read, folder, self.selection)}

    def show_overlaps(self, found: Overlapping | str) -> None:
        """Show the overlaps of all tickets, or why none exist."""
        if not self.selection.matrix:
            return
        if isinstance(found, str):
            self.overlapping = None
            self._say(found)
            return
        self.overlapping = found
        self._show_only("layers-sides", "layers-level", "layers-panes", "layers-detail", "layers-notes")
        self._show_pane("layers-overlaps")
        self._draw()

    def show_view(self, view: View | str) -> None:
        """Show what was read, or why it cannot be shown."""
        if self.selection.matrix:
            return
        if isinstance(view, str):
            self.view = None
            self._say(view)
            return
        self.view = view
        pane = "layers-table" if view.heat is None else "layers-heat"
        self._show_only("layers-sides", "layers-level", "layers-panes", "layers-detail", "layers-notes")
        self._show_pane(pane, *(["layers-heat"] if view.ratios else []))
        self._draw()

    def _say(self, why: str) -> None:
        self.query_one("#layers-empty", Plain).update(why)
        self._show_only("layers-empty")

    def _show_pane(self, pane: str, *more: str) -> None:
        """Show this pane, with the focus unless the user is typing, and others next to it."""
        for widget in self.query_one("#layers-panes").children:
            widget.display = widget.id in (pane, *more)
        if isinstance(self.focused, LiveTable | Heat | Overlaps | None):
            self.query_one(f"#{pane}").focus()

    def _show_only(self, *names: str) -> None:
        for widget in self.query_one("#layers").children:
            widget.display = widget.id in names

    def _draw(self) -> None:
        if self.selection.matrix:
            self._draw_overlaps()
            return
        if self.view is None:
            return
        found = self.view.comparison
        self.query_one("#layers-sides", Plain).update("\n".join(self._headings(found)))
        self.query_one("#layers-level", Plain).update(self._level_line(found))
        notes = [self.view.hint, *(found.notes if self.view.heat is None else ())]
        self.query_one("#layers-notes", Plain).update("\n".join(filter(None, notes)))
        self.query_one("#layers-notes").display = any(notes)
        if self.view.heat is not None:
            self.query_one(Heat).show(self.view.heat, found.level, self.fraction)
            whose = "A" if self.view.heat.side == found.a else "B"
            self.query_one("#layers-detail", Plain).update(legend(f"{whose}: weights {self.fraction}, %"))
            return
        if of_levels := self.view.ratios.get(self.fraction):
            self.query_one(Heat).show_ratios(of_levels, found.level)
        self.query_one(Heat).styles.width = self._beside or "1fr"
        shown = self._chosen(found)
        self.query_one(LiveTable).show(dict(zip([one.name for one in shown], self._rows(found, shown), strict=True)))
        self._detail()

    def _draw_overlaps(self) -> None:
        if (found := self.overlapping) is None:
            return
        shown = [one for one in found.matrices if filters.has([title(one), *one.names], self.filter)]
        said = "overlap of masks, in brackets by chance"
        self.query_one("#layers-sides", Plain).update(f"{words.name(found.experiment)}: all tickets, each with each")
        slider = _slider(found.levels, found.level, self.size.width - len(said))
        self.query_one("#layers-level", Plain).update(f"{slider}  {said}")
        self.query_one(Overlaps).show(shown, self.size.width - 2)
        self.query_one("#layers-detail", Plain).update(ratio_legend("overlap / by chance"))
        self.query_one("#layers-notes", Plain).update("\n".join(found.notes))
        self.query_one("#layers-notes").display = bool(found.notes)

    def _chosen(self, comparison: Comparison) -> list[Layer]:
        """The layers to show, in order, and the total."""
        matching = (layer for layer in comparison.layers if filters.has([layer.name], self.filter))
        shown = [layer for layer in matching if not (self.hiding and layer.unchanged)]
        if self.by_difference:
            shown.sort(key=lambda layer: -abs(layer.difference.mean) if layer.difference else 0.0)
        return [*shown, comparison.total]

    def _rows(self, comparison: Comparison, shown: list[Layer]) -> list[list[Text]]:
        """The cells of the table, with deviations if they fit, and bars in the remaining columns."""
        for spread in (True, False):
            rows = [_cells(layer, self.fraction, spread, comparison.n) for layer in shown]
            columns = zip(HEADINGS, *rows, strict=False)
            taken = sum(max(map(len, column)) for column in columns) + 2 * len(HEADINGS)
            room = self.size.width - self._beside - taken - 4  # 4: frame and scroll bar
            if room >= LEAST_BAR:
                break
        drawn = layer_tables.bars(shown, self.fraction, max(LEAST_BAR, min(WIDEST_BAR, room)))
        return [
            [Text(words.line(row[0])), *(Text(cell, justify="right") for cell in row[1:]), Text(bar)]
            for row, bar in zip(rows, drawn, strict=True)
        ]

    @property
    def _beside(self) -> int:
        """The columns of the heat map next to the table; 0 without one."""
        has_both = self.view is not None and self.view.heat is None and bool(self.view.ratios)
        return min(self.query_one(Heat).needed, self.size.width // 2) if has_both else 0

    def _headings(self, comparison: Comparison) -> list[str]:
        """A line for A and a line for B."""
        compared = zip("AB", self.view.called if self.view else (), (comparison.a, comparison.b), strict=False)
        return [
            words.line(f"{letter}: {said}" + ("" if side is None or side.is_run else f" · level {comparison.level}"))
            for letter, said, side in compared
        ]

    def _level_line(self, comparison: Comparison) -> str:
        total = comparison.total
        each = [("A", getattr(total, f"{self.fraction}_a")), ("B", getattr(total, f"{self.fraction}_b"))]
        whole = ", ".join(f"{letter} {layer_tables.percent(value, spread=False)} %" for letter, value in each if value)
        whose = "" if not comparison.levels else f", mean of {comparison.n}"
        if self.view and self.view.replicate is not None:
            whose = f", replicate {self.view.replicate}"
        said = f"{self.fraction}{whose}: {whole}"
        if not comparison.levels:
            return said
        return f"{_slider(comparison.levels, comparison.level, self.size.width - len(said))}  {said}"

    @on(LiveTable.RowHighlighted)
    def _detail(self) -> None:
        if self.view is None or self.view.heat is not None:
            return
        found, key = self.view.comparison, self.query_one(LiveTable).key
        layer = next((one for one in found.layers if one.name == key), found.total)
        said = Text(_described(layer, found.n))
        if self.view.ratios:
            said = Text("\n").join([ratio_legend(f"right: A/B of the weights {self.fraction}, by level"), said])
        self.query_one("#layers-detail", Plain).update(said)

    @on(LiveTable.RowSelected)
    def _open(self) -> None:
        self.run_worker(self.app.run_action("open_run"))

    def action_pick(self, place: int) -> None:
        """Pick A (0) or B (1) from all curves and runs."""

        def picked(name: str | None) -> None:
            if name is not None:
                now = self.view.comparison if self.view else None
                a, b = (now.a.name, now.b.name if now.b else None) if now else (name, None)
                self._want(names=(name, b) if place == 0 else (a, name))

        self.app.push_screen(Picker(self.cockpit.path, f"{'AB'[place]} is"), picked)

    def action_level(self, by: int) -> None:
        """Go to a sparser or denser level."""
        shown = self.overlapping if self.selection.matrix else self.view and self.view.comparison
        if not shown or not (offered := shown.levels):
            return
        now = self.selection.level if self.selection.level in offered else shown.level
        self._want(level=offered[max(0, min(len(offered) - 1, offered.index(now) + by))])

    def action_replicate(self) -> None:
        """Show the next replicate; after the last the mean."""
        if self.view is not None:
            cycle = [None, *self.view.comparison.replicates]
            self._want(replicate=cycle[(cycle.index(self.view.replicate) + 1) % len(cycle)])

    def action_matrix(self) -> None:
        """Show the overlaps of all tickets, then the table."""
        self._want(matrix=not self.selection.matrix, heat=None)
        self.refresh_bindings()

    def action_heat(self) -> None:
        """Show the heat map of A, then the one of B, then the table."""
        if self.view is not None:
            cycle = [None, 0, 1] if self.view.comparison.b else [None, 0]
            now = self.selection.heat if self.selection.heat in cycle else None
            self._want(heat=cycle[(cycle.index(now) + 1) % len(cycle)])

    def action_fraction(self) -> None:
        """Show fractions pruned instead of remaining, and back."""
        self.fraction = FRACTIONS[1 - FRACTIONS.index(self.fraction)]
        self._draw()

    def action_sort(self) -> None:
        """Sort by the size of the difference, and back."""
        self.by_difference = not self.by_difference
        self._draw()

    def action_unchanged(self) -> None:
        """Hide the layers of which A and B keep the same number of weights, and back."""
        self.hiding = not self.hiding
        self._draw()

    def command(self) -> str:
        """The command that prints this comparison."""
        if self.selection.matrix and self.overlapping:
            matrix = f"cockpit diff {{names}} --matrix --level {self.overlapping.level}"
            return actions.command(matrix, [self.overlapping.experiment], self.cockpit.path)
        if self.view is None:
            return super().command()
        return layer_tables.command(self.view.comparison, self.fraction, self.view.replicate, self.cockpit.path)

    def leave(self) -> None:
        """From a heat map or the overlaps to the table, from there to the dashboard."""
        if self.selection.matrix:
            self.action_matrix()
        elif self.selection.heat is not None:
            self._want(heat=None)
        else:
            super().leave()

    def refilter(self) -> None:
        """Show only the layers that match."""
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action is offered: none on A and B for all overlaps, and no arrow where words are typed."""
        if action in OF_TWO and self.selection.matrix:
            return False
        return super().check_action(action, parameters) and not (action == "level" and isinstance(self.focused, Input))

    def _want(self, **changes: Any) -> None:
        self.selection = replace(self.selection, **changes)
        self.ask()


def _cells(layer: Layer, fraction: Fraction, spread: bool, of: int) -> list[str]:
    """The cells of a layer, without the bar."""
    digits = 3 if spread else 2
    overlap = layer_tables.ratio(layer.overlap, spread, of, digits)
    return [
        layer.name.removesuffix(".weight"),
        f"{layer.weights:,}",
        layer_tables.percent(getattr(layer, f"{fraction}_a"), spread, of),
        layer_tables.percent(getattr(layer, f"{fraction}_b"), spread, of),
        layer_tables.ratio(getattr(layer, f"{fraction}_ratio"), spread, of, digits),
        layer_tables.points(layer_tables.difference(layer, fraction), spread, of),
        f"{overlap} ({layer_tables.ratio(layer.chance, False, of, digits)})",
    ]


def _described(layer: Layer, of: int) -> str:
    """All figures of a layer as text."""
    parts = [f"{layer.name}: {layer.weights:,} weights"]
    for letter, kept, part in (
        ("A", layer.kept_a, layer.remaining_a),
        ("B", layer.kept_b, layer.remaining_b),
    ):
        if kept is not None:
            parts.append(f"{letter} keeps {layer_tables.count(kept, of=of)} ({layer_tables.percent(part, of=of)} %)")
    if layer.kept_b is not None:
        parts += [
            f"A/B remaining {layer_tables.ratio(layer.remaining_ratio, of=of)}",
            f"pruned {layer_tables.ratio(layer.pruned_ratio, of=of)}",
            f"overlap of the masks {layer_tables.ratio(layer.overlap, of=of)},"
            f" by chance {layer_tables.ratio(layer.chance, of=of)}",
        ]
    return " │ ".join(parts)


def _slider(offered: tuple[int, ...], level: int, room: int) -> str:
    """The levels as a line with a knob, at most `room` columns long."""
    ends = f"level {level}  {offered[0]} ", f" {offered[-1]} ←→"
    cells = max(5, min(len(offered), room - sum(map(len, ends)) - 2))
    place = round(offered.index(level) / max(1, len(offered) - 1) * (cells - 1))
    return f"{ends[0]}{'─' * place}●{'─' * (cells - 1 - place)}{ends[1]}"
