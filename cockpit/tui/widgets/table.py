"""A table that updates only the cells that differ, and keeps the cursor on its row."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets.data_table import RowKey

from cockpit.text import words
from cockpit.tui import filters
from cockpit.tui.insides import Cells, FastTable

ROWS_AT_ONCE = 60  # rows added or changed before keys are handled
PAUSE_SECONDS = 0.01  # for the keyboard


class LiveTable(FastTable):
    """Rows by key, in the order given. `mark` has the keys of marked rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", id="table.down", show=False, tooltip="The next row"),
        Binding("k", "cursor_up", "Up", id="table.up", show=False, tooltip="The row before"),
    ]

    def __init__(self, headings: Sequence[str], id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self.headings = headings
        self._all: Mapping[str, Cells] = {}
        self._typed = ""  # the words of the filter
        self._coming: dict[str, Cells] = {}
        self._wanted: list[str] = []  # the keys of all rows to show, in order
        self._cursor_key: str | None = None
        self._aim: str | None = None  # the row for the cursor once it is shown

    def on_mount(self) -> None:
        self._pause = self.set_interval(PAUSE_SECONDS, self._come, pause=True)
        for heading in self.headings:
            self.add_column(Text(heading), key=heading)

    def columned(self, labels: Mapping[str, str | Text]) -> None:
        """Set the columns, by their keys."""
        if list(labels) != list(self.headings):
            self.clear(columns=True)
            self.headings, self.shown = list(labels), {}
            for heading, label in labels.items():
                self.add_column(label if isinstance(label, Text) else Text(words.line(label)), key=heading)

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor."""
        if not self.shown or not self.is_valid_row_index(self.cursor_row):
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def point_at(self, key: str) -> None:
        """Put the cursor on this row, now or when it is shown."""
        if key in self.shown:
            self.move_cursor(row=self.get_row_index(RowKey(key)), animate=False)
        else:
            self._aim = key

    def show(self, rows: Mapping[str, Cells]) -> None:
        """Show these rows. Changes are made in parts, so that keys do not wait for a long table."""
        self._all = rows
        rows = {key: cells for key, cells in rows.items() if not self._typed or filters.has(cells, self._typed)}
        self._cursor_key = self._aim or self.key or self._cursor_key
        if not self.shown.keys() <= rows.keys():
            self.clear()
            self.shown = {}
            for column in self.ordered_columns:  # as wide as what comes asks for, not as what went did
                column.content_width = column.label.cell_len
        rows = {key: tuple(map(_plain, cells)) for key, cells in rows.items()}
        self._coming = {key: cells for key, cells in rows.items() if self.shown.get(key) != cells}
        self._wanted = list(rows)
        self._come()

    def narrow(self, typed: str) -> None:
        """Show only the rows that match these words."""
        if typed != self._typed:
            self._typed = typed
            self.show(self._all)

    def _change(self, key: str, before: Cells, after: Cells) -> None:
        for heading, old, new in zip(self.headings, before, after, strict=True):
            if old != new:
                self.update_cell(key, heading, new)

    def _come(self) -> None:
        for key in list(islice(self._coming, ROWS_AT_ONCE)):
            before, cells = self.shown.get(key), self._coming.pop(key)
            self.widen(cells)
            self.shown[key] = cells
            if before is not None:
                self._change(key, before, cells)
                continue
            self.add_row(*cells, key=key)
            if key == self._cursor_key:
                self.move_cursor(row=self.get_row_index(RowKey(key)), animate=False)
        if self._coming:
            self._pause.resume()
        else:
            self._pause.pause()
            self._aim = None
            self._order()

    def _order(self) -> None:
        """Sort the rows into their order, and keep the cursor on its row."""
        if list(self.shown) == self._wanted:
            return
        cursor = self.key
        places = {key: place for place, key in enumerate(self._wanted)}
        ranks = iter([places[str(key.value)] for key in self.rows])
        self.sort(key=lambda _: next(ranks))  # `sort` calls this once per row, in the order of `rows`
        self.shown = {key: self.shown[key] for key in self._wanted}
        if cursor is not None:
            self.move_cursor(row=places[cursor], animate=False)


def _plain(cell: str | Text) -> str | Text:
    """A cell on one line. DataTable reads a `str` with a bracket as markup, and draws one without fast."""
    return cell if isinstance(cell, Text) or (cell.isprintable() and "[" not in cell) else Text(words.line(cell))
