"""A table that is told what it should show, and changes only the cells that differ. The cursor stays on its row."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widgets import DataTable
from textual.widgets.data_table import ColumnKey, RowKey

ROWS_AT_ONCE = 20  # added between two looks at the keyboard; the table measures each of their cells
REST_SECONDS = 0.01

Cells = Sequence[str | Text]


class LiveTable(DataTable[str | Text]):
    """Rows by key, in the order given. `mark` has the keys that a person has selected."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", id="table.down", show=False, tooltip="The next row"),
        Binding("k", "cursor_up", "Up", id="table.up", show=False, tooltip="The row before"),
    ]

    def __init__(self, headings: Sequence[str], id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self.headings = headings
        self.shown: dict[str, Cells] = {}
        self._coming: dict[str, Cells] = {}
        self._cursor_key: str | None = None
        self._filling: Timer | None = None
        self._aim: str | None = None  # where the cursor should go once it is there

    def on_mount(self) -> None:
        for heading in self.headings:
            self.add_column(heading, key=heading)

    def columned(self, labels: Mapping[str, str | Text]) -> None:
        """Have these columns, by their keys."""
        if list(labels) != list(self.headings):
            self.clear(columns=True)
            self.headings, self.shown = list(labels), {}
            for heading, label in labels.items():
                self.add_column(label, key=heading)

    @property
    def key(self) -> str | None:
        """The key of the row that the cursor is on."""
        if not self.shown or not self.is_valid_row_index(self.cursor_row):
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def point_at(self, key: str) -> None:
        """Put the cursor on this row, now or when it comes."""
        if key in self.shown:
            self.move_cursor(row=self.get_row_index(RowKey(key)), animate=False)
        else:
            self._aim = key

    def show(self, rows: Mapping[str, Cells]) -> None:
        """Show these rows. What is new at the end is added piece by piece, so that no key waits for a long table."""
        self._cursor_key = self._aim or self.key or self._cursor_key
        kept = [key for key in self.shown if key in rows]
        if kept != list(islice(rows, len(kept))) or len(kept) < len(self.shown):  # another order, or rows are gone
            self.clear()
            self.shown = {}
        for key, cells in self.shown.items():
            if cells != rows[key]:
                self._change(key, cells, rows[key])
        if self._filling:
            self._filling.stop()
        self._coming = {key: cells for key, cells in rows.items() if key not in self.shown}
        self._add()

    def _change(self, key: str, before: Cells, after: Cells) -> None:
        for heading, old, new in zip(self.headings, before, after, strict=True):
            if old != new:
                cell = _plain(new)
                # A column that may become narrower is measured all over, for each cell of it that has changed.
                wider = cell.cell_len > self.columns[ColumnKey(heading)].content_width
                self.update_cell(key, heading, cell, update_width=wider)
        self.shown[key] = after

    def _add(self) -> None:
        for key in list(islice(self._coming, ROWS_AT_ONCE)):
            self.shown[key] = cells = self._coming.pop(key)
            self.add_row(*map(_plain, cells), key=key)
            if key == self._cursor_key:
                self.move_cursor(row=self.get_row_index(RowKey(key)), animate=False)
        if self._coming:
            self._filling = self.set_timer(REST_SECONDS, self._add)
        else:
            self._aim = None


def _plain(cell: str | Text) -> Text:
    """A cell in which brackets are no markup: names may have them."""
    return Text(cell, no_wrap=True, end="") if isinstance(cell, str) else cell
