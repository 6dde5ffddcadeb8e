"""The queue: experiments in the order of training, and the runs of the one under the cursor."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from cockpit.requests import remaining
from cockpit.requests.remaining import Remaining
from cockpit.text import words
from cockpit.tui import actions, filters
from cockpit.tui.insides import Cells
from cockpit.tui.plain import Plain, plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import runs
from engine.store import database, rows
from engine.store.row_types import Experiment, Run, Worker

MARK = "■"
NAME_WIDTH = 24  # columns of names, so that the status stays visible
FIRST = (" ", "experiment", "status", "progress", "done")
LAST = ("priority", "waiting", "running", "tags", "age")
HEADINGS = (*FIRST, "left, or why", *LAST)
WIDE_HEADINGS = (*FIRST, "time left", "waits for, or why", *LAST)
RUN_HEADINGS = ("status", "run", "result, or why", "attempt")
WIDE = 110  # columns from which bars are long, and time left and reasons have columns of their own
SHORT_BAR = 6  # columns of a bar on a narrower screen
EMPTY = (
    "The queue is empty.\n\nn adds a transfer here. In a shell:\n\n"
    "  cockpit queue add --source digits-a --target digits-b"
)
UNMATCHED = "No experiment matches the filter. Esc clears it."
ALL_ARCHIVED = "All experiments are in the archive: a shows them."
AGE_SECONDS = 30.0

# Order by status: experiments with runs to train first, then those that could have some.
RANKS = {"running": 0, "waiting": 0, "paused": 1}
SORTS: Mapping[str, Callable[[Experiment], tuple[Any, ...]]] = {
    "priority, then age": lambda row: (RANKS.get(row.status, 2), -row.priority, row.id),
    "name": lambda row: (row.name.lower(),),
    "status": lambda row: (row.status, -row.priority, row.id),
    "what is left": lambda row: (row.done - row.runs, row.id),
    "newest": lambda row: (-row.id,),
}


class Queue(CockpitScreen):
    """All experiments and their actions."""

    AUTO_FOCUS = "#experiments"
    FILTER_HINT = filters.HINT
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", id="queue.filter", tooltip=filters.HINT),
        actions.binding("add", show=True),
        actions.binding("pause", show=True),
        actions.binding("cancel", show=True),
        Binding("space", "mark", "Mark", id="queue.mark", show=False, tooltip="Actions work on all that are marked"),
        Binding("s", "sort", "Sort", id="queue.sort", show=False, tooltip=", ".join(SORTS)),
        Binding("a", "archived", "Show archived", id="queue.archived", show=False, tooltip="Or hide them"),
        Binding("escape", "back", "Back", id="queue.back", show=False, tooltip="Clears filter, then marks; Dashboard"),
    ]

    def body(self) -> ComposeResult:
        with Vertical(id="queue"):
            yield Plain("reading …", id="nothing")
            yield LiveTable(HEADINGS, id="experiments")
            yield LiveTable(RUN_HEADINGS, id="runs")

    def on_mount(self) -> None:
        self.found: list[Experiment] | None = None
        self.remaining = Remaining()
        self.runs: Mapping[str, Cells] = {}
        self.runs_of: str | None = None  # the experiment of the runs shown
        self.dead: Mapping[str, int] = {}  # the pids of dead workers, by the id of their run
        self.sorted_by = next(iter(SORTS))
        self.with_archived = False
        self.query_one("#runs").display = False
        self.set_interval(AGE_SECONDS, self._list)

    def on_screen_resume(self) -> None:
        if self.cockpit.experiment:
            self.query_one("#experiments", LiveTable).point_at(self.cockpit.experiment)

    def queries(self) -> Mapping[str, Query]:
        wanted: dict[str, Query] = {"experiments": rows.experiments}
        row = self._row(self.cockpit.experiment)
        return {**wanted, "runs": runs_of(row.id)} if row else wanted

    def chosen(self) -> Sequence[str]:
        """The marked experiments in the list, else the one under the cursor."""
        table = self.query_one("#experiments", LiveTable)
        marked = [name for name in table.shown if name in self.cockpit.marked]
        return marked or ([table.key] if table.key else [])

    def standing(self) -> Sequence[Experiment]:
        chosen = self.chosen()
        return tuple(row for row in self.found or () if row.name in chosen)

    def show_remaining(self, remaining_time: Remaining) -> None:
        """Show the time left of each experiment."""
        self.remaining = remaining_time
        self._list()

    def show_experiments(self, experiments: list[Experiment]) -> None:
        """List the experiments."""
        known = self._row(self.cockpit.experiment)
        self.found = experiments
        self._list()
        if not known and self._row(self.cockpit.experiment):
            self.ask()  # for the runs of one of them

    def show_runs(self, found: tuple[int, Mapping[str, Cells]]) -> None:
        """List the runs of the experiment under the cursor."""
        experiment, cells = found
        row = self._row(self.cockpit.experiment)
        if row and row.id == experiment:
            self.runs, self.runs_of = cells, self.cockpit.experiment
            self._list_runs()

    def show_workers(self, present: list[Worker]) -> None:
        """Show the runs whose worker has died."""
        self.dead = {str(row.run_id): row.pid for row in present if row.state == "dead"}
        self._list_runs()

    def _row(self, name: str | None) -> Experiment | None:
        return next((row for row in self.found or () if row.name == name), None)

    def _list(self) -> None:
        if self.found is None:
            return
        wanted = self.filter
        visible = [row for row in self.found if self.with_archived or not row.archived]
        listed = sorted((row for row in visible if filters.matches(row, wanted)), key=SORTS[self.sorted_by])
        marked = self.cockpit.marked
        table = self.query_one("#experiments", LiveTable)
        is_wide = self.app.size.width >= WIDE
        headings = WIDE_HEADINGS if is_wide else HEADINGS
        table.columned(dict(zip(headings, headings, strict=True)))
        table.show({row.name: _cells(row, row.name in marked, self.remaining, is_wide) for row in listed})
        table.border_title = plain(f"queue, by {self.sorted_by}")
        number = sum(row.name in marked for row in listed)
        parts = [f"{number} marked"] if number else []
        parts += [f"{len(listed)} of {len(visible)}, filter: {wanted}"] if wanted else []
        parts += [f"{len(self.found) - len(visible)} in the archive"] if len(self.found) > len(visible) else []
        table.border_subtitle = plain(" │ ".join(parts))
        table.display = self.query_one("#runs").display = bool(listed)
        nothing = self.query_one("#nothing", Plain)
        nothing.display = not listed
        nothing.update(UNMATCHED if visible else ALL_ARCHIVED if self.found else EMPTY)

    def on_resize(self) -> None:
        self._list()

    def _list_runs(self) -> None:
        cells = dict(self.runs) if self.runs_of == self.cockpit.experiment else {}
        for key, pid in self.dead.items():
            if key in cells:
                _, run, _, attempt = cells[key]
                cells[key] = (words.state("dead"), run, f"its worker, pid {pid}, is gone", attempt)
        table = self.query_one("#runs", LiveTable)
        table.show(cells)
        table.border_title = plain(f"runs of {self.cockpit.experiment}")

    @on(LiveTable.RowHighlighted, "#experiments")
    def _choose(self) -> None:
        key = self.query_one("#experiments", LiveTable).key  # the event may name a row that the cursor has left
        if key and key != self.cockpit.experiment:
            self.cockpit.experiment = key
            self._list_runs()
            self.keys_changed()
            self.ask()

    @on(LiveTable.RowSelected, "#experiments")
    def _open(self, event: LiveTable.RowSelected) -> None:
        if event.row_key.value:
            self.cockpit.open_experiment(event.row_key.value)

    @on(LiveTable.RowSelected, "#runs")
    def _open_run(self, event: LiveTable.RowSelected) -> None:
        self.cockpit.open_run(int(str(event.row_key.value)))

    def refilter(self) -> None:
        """List only the experiments that match."""
        self._list()

    def action_mark(self) -> None:
        """Mark or unmark the experiment under the cursor, and move to the next."""
        table = self.query_one("#experiments", LiveTable)
        if table.key:
            self.cockpit.marked ^= {table.key}
            self._list()
            self.keys_changed()
            table.action_cursor_down()

    def action_sort(self) -> None:
        """Sort by the next column."""
        names = list(SORTS)
        self.sorted_by = names[(names.index(self.sorted_by) + 1) % len(names)]
        self._list()

    def action_archived(self) -> None:
        """Show archived experiments as well, or hide them."""
        self.with_archived = not self.with_archived
        self._list()

    def leave(self) -> None:
        """Clear the marks, else go to the dashboard."""
        if self.cockpit.marked:
            self.cockpit.marked.clear()
            self._list()
        else:
            super().leave()


def _cells(row: Experiment, marked: bool, left: Remaining, is_wide: bool) -> Cells:
    time = left.of.get(row.name, "")
    why = words.problems(row) + (f": {row.why}" if row.why else "") or row.waits_for
    return (
        MARK if marked else " ",
        words.short(row.name, NAME_WIDTH),
        words.state(row.status) + (", archived" if row.archived else ""),
        remaining.bar(row.done, row.runs, remaining.BAR if is_wide else SHORT_BAR),
        f"{row.done}/{row.runs}",
        *((time, why) if is_wide else (", ".join(filter(None, (time, why))),)),
        str(row.priority),
        str(row.waiting or ""),
        str(row.running or ""),
        " ".join(row.tags),
        words.duration(database.age(row.created_at)),
    )


def runs_of(experiment: int) -> Query:
    """A query for the cells of an experiment's runs, by run id, made outside the event loop as they may be many."""

    def query(connection: sqlite3.Connection) -> tuple[int, Mapping[str, Cells]]:
        found = rows.runs(connection, experiment)
        names = runs.named(found)
        return experiment, {str(run.id): _run_cells(run, names[run.digest]) for run in found}

    return query


def _run_cells(run: Run, name: str) -> Cells:
    if run.status == "running":
        said = f"on {words.device(run)}"
    elif run.status in ("failed", "diverged"):
        said = rows.last_line(run.error)
    else:
        said = run.waits_for if run.test_accuracy is None else f"{run.test_accuracy:.2%}"
    return words.state(run.status), name, said, str(run.attempt or "")
