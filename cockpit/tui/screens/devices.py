"""Devices: the load of hosts and cards over the last hour, workers with their runs, and pools."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from cockpit.text import words
from cockpit.tui import states
from cockpit.tui.fitting import fitted
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.panes import BARS, GIB
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import runs
from engine.machine import devices, processes
from engine.machine.devices import CardProcess
from engine.store import database, workers
from engine.store.row_types import LoadHistory, Pool, Worker

HOTTEST = 100.0  # °C, the top of the history of temperatures
FIGURES = 60  # columns of the loads without histories and runs
SHORTEST, LONGEST = 8, 60  # columns of a history
LEAST_RUN = 24  # least columns of a run
SHORT_RUN = 16  # the same where there are other processes besides
WIDE = 150  # columns from which all four measures have a history
HIGH = 30  # rows from which pools are shown
OLD_SECONDS = 4 * workers.LOAD_SECONDS  # age from which a load is shown as old
CARDS = ("device", "busy", "memory", "°C", "W", "other processes", "run")
WORKERS = ("state", "device", "card or CPU", "pid", "epoch", "img/s", "loss", "accuracy", "left", "trains")
# Columns that a narrow terminal leaves out, in this order. The line about the worker under the cursor has them.
SPARE_CARDS, SPARE_WORKERS = ("W", "°C"), ("card or CPU", "pid", "loss", "img/s", "accuracy")

Loads = tuple[list[LoadHistory], list[LoadHistory]]  # with histories of busy, and of the other measures


class Devices(CockpitScreen):
    """Loads, workers and pools."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "l", "open_log", "Log", id="devices.log", tooltip="Open the log of the worker or pool under the cursor"
        ),
    ]

    def body(self) -> ComposeResult:
        with Horizontal(), Vertical():
            yield LiveTable(CARDS, id="cards")
            yield LiveTable(WORKERS, id="at-work")
            yield Plain("reading …", id="worker")
            yield LiveTable(("pool", "since", "log"), id="pools")

    def on_mount(self) -> None:
        self.present: dict[str, Worker] = {}
        self.names: dict[str, str] = {}  # of the runs, by digest
        self.logs: dict[str, str | None] = {}  # of the pools
        self.loads: Loads = ([], [])
        self.users: Mapping[str, Sequence[CardProcess]] = {}  # of the cards of this host
        self.query_one("#cards").border_title = "load, and its last hour"
        self.query_one("#at-work").border_title = "workers"
        self.query_one("#pools").border_title = "pools"
        self.query_one("#at-work").focus()

    def chosen(self) -> Sequence[str]:
        """No experiment, as actions must not apply to experiments that are not shown."""
        return ()

    def queries(self) -> Mapping[str, Query]:
        busy, other = self._columns()
        return {
            "cards": lambda connection: (
                workers.load_history(connection, busy),
                workers.load_history(connection, other) if other else [],
            ),
            "users": lambda _: devices.processes_on(devices.usable()),
        }

    def _columns(self) -> tuple[int, int]:
        """The columns of the history of busy, and of each of the other three measures."""
        room = self.app.size.width - FIGURES - LEAST_RUN
        # Not by the class -broad, which the screen gets after the first query: a column once wide stays wide.
        other = room // 6 if self.app.size.width >= WIDE else 0
        return min(LONGEST, max(SHORTEST, (room - 3 * other) // 2)), other

    def on_resize(self) -> None:
        self.call_after_refresh(self.ask)  # histories of the new width

    def show_cards(self, loads: Loads) -> None:
        """Show the load of each host and card."""
        self.loads = loads
        self._list()

    def show_users(self, users: Mapping[str, Sequence[CardProcess]]) -> None:
        """Show the processes on the cards of this host, and their users."""
        self.users = users
        self._list()

    def _list(self) -> None:
        """Show a row per device: load, run, and other users; columns without a value are left out."""
        busy, others = self.loads
        besides = iter(others)
        several = len({row.host for row in busy}) > 1
        rows = {
            f"{row.host} {row.device}": (*_load(row, next(besides, None), several), *self._use(row)) for row in busy
        }
        table = self.query_one("#cards", LiveTable)
        table.display = bool(busy)
        least = SHORT_RUN if any(row[-2] for row in rows.values()) else LEAST_RUN
        headings, shown = fitted(CARDS, rows, SPARE_CARDS, least, self.app.size.width)
        table.columned(dict(zip(headings, headings, strict=True)))
        table.show(shown)

    def _use(self, load: LoadHistory) -> tuple[str, str]:
        """The run of a device, and other processes on it."""
        own = [row for row in self.present.values() if row.host == load.host and load.device in row.device.split("+")]
        said = [self.names.get(row.digest or "", words.state(row.state)) for row in own]
        run = said[0] if len(said) == 1 else words.count(len(said), "worker") if said else ""
        pids = {row.pid for row in self.present.values()}
        here = self.users.get(load.device, ()) if load.host == processes.place().host else ()
        strangers = [f"{one.user} {one.name} {_gib(one.memory)}" for one in here if one.pid not in pids]
        return ", ".join(strangers), run

    def show_workers(self, present: list[Worker]) -> None:
        """Show the workers, and details of the one under the cursor."""
        self.present = {str(row.id): row for row in present}
        self.names = runs.named(present)
        cells = {key: _worker(row, self.names) for key, row in self.present.items()}
        headings, shown = fitted(WORKERS, cells, SPARE_WORKERS, LEAST_RUN, self.app.size.width)
        headings = headings or list(WORKERS)
        table = self.query_one("#at-work", LiveTable)
        table.columned(dict(zip(headings, headings, strict=True)))
        table.show(shown)
        self.query_one("#at-work").display = bool(present)
        self._list()
        self._describe()

    def show_pools(self, pools: list[Pool]) -> None:
        """Show the pools of this host and their log files."""
        self.logs = {str(row.pid): row.log for row in pools}
        table = self.query_one("#pools", LiveTable)
        table.display = bool(pools) and self.app.size.height >= HIGH
        table.show(
            {
                str(row.pid): (f"pid {row.pid}", words.duration(database.age(row.started_at)), row.log or "")
                for row in pools
            }
        )

    @on(LiveTable.RowHighlighted, "#at-work")
    def _describe(self) -> None:
        row = self.present.get(self.query_one("#at-work", LiveTable).key or "")
        if row is None and self.present:
            row = next(iter(self.present.values()))  # the cursor moves there soon
        self.query_one("#worker", Plain).update(describe(row, self.names) if row else states.no_workers(self.cockpit))

    @on(LiveTable.RowSelected, "#at-work, #pools")
    def _open(self) -> None:
        row = self.present.get(self.query_one("#at-work", LiveTable).key or "")
        if self.query_one("#at-work").has_focus and row is not None and row.run_id is not None:
            self.cockpit.open_run(row.run_id)
        else:
            self.action_open_log()

    def action_open_log(self) -> None:
        """Open the log of the worker or the pool under the cursor."""
        pools = self.query_one("#pools", LiveTable)
        worker = self.present.get(self.query_one("#at-work", LiveTable).key or "")
        log = self.logs.get(pools.key or "") if pools.has_focus else worker.log if worker else None
        if log is None:
            self.notify("no log: no worker or pool selected", severity="warning")
            return
        self.cockpit.log_file = Path(log)
        self.app.switch_mode("logs")


def describe(row: Worker, names: Mapping[str, str]) -> str:
    """The details of a worker, in two to four lines."""
    where = f"{words.state(row.state)}: pid {row.pid} on {words.hardware(row)}"
    started, beat = (words.duration(database.age(moment)) for moment in (row.started_at, row.heartbeat_at))
    since = row.started_at[:16].replace("T", " ")
    lines = [f"{where}, started {since} UTC ({started} ago), last heartbeat {beat} ago"]
    if row.digest:
        batch = f", batch {row.batch} of {row.batches}" if row.batches else ""
        lines.append(f"{names[row.digest]} (run {row.digest[:12]}, attempt {row.attempt}{batch})")
    sizes = (row.memory, "on the host"), (row.device_memory, "on the device")
    memory = [f"{words.size(size)} {place}" for size, place in sizes if size is not None]
    if row.loss is not None and row.accuracy is not None:
        speed = f", {row.images_per_second:,.0f} images/s" if row.images_per_second else ""
        lines.append(f"loss {row.loss:.3f}, training accuracy {row.accuracy:.1%}{speed}")
    if row.message or memory:
        lines.append(row.message or "memory: " + ", ".join(memory))
    return "\n".join(lines)


def _worker(row: Worker, names: Mapping[str, str]) -> tuple[str, ...]:
    left = runs.seconds_left(row)
    return (
        words.state(row.state),
        words.device(row),
        row.device_name or "",
        str(row.pid),
        f"{row.epoch + 1}/{row.epochs}" if row.run_id is not None and row.epoch is not None else "",
        f"{row.images_per_second:,.0f}" if row.images_per_second else "",
        f"{row.loss:.3f}" if row.loss is not None else "",
        f"{row.accuracy:.1%}" if row.accuracy is not None else "",
        words.duration(left) if left is not None else "",
        names.get(row.digest or "", ""),
    )


def _load(row: LoadHistory, other: LoadHistory | None, several: bool) -> tuple[str, ...]:
    """The cells of a device; `other` has the histories of measures other than busy, if they fit."""
    history = other.history if other else dict.fromkeys(workers.MEASURES, ())
    watts = [value for value in history["watts"] if value is not None]
    age = database.age(row.at)
    name = f"{row.device} of {row.host}" if several else row.device
    memory = f"{row.memory_used / GIB:.0f}/{row.memory_total / GIB:.0f} GiB"
    return (
        name if age < OLD_SECONDS else f"{name}, {words.duration(age)} ago",
        f"{row.busy:4.0%} {sparkline(row.history['busy'], 1.0)}",
        f"{memory} {sparkline(history['memory_used'], row.memory_total)}".rstrip(),
        f"{row.celsius:.0f} {sparkline(history['celsius'], HOTTEST)}".rstrip() if row.celsius is not None else "",
        f"{row.watts:.0f} {sparkline(history['watts'], max(watts, default=1.0))}".rstrip()
        if row.watts is not None
        else "",
    )


def _gib(size: int | None) -> str:
    return f"{size / GIB:.0f} GiB" if size is not None else ""


def sparkline(values: Sequence[float | None], top: float) -> str:
    """Values from 0 to `top` as bars; None is a blank."""
    return "".join(
        " " if value is None else BARS[max(0, min(len(BARS) - 1, int(value / (top or 1.0) * len(BARS))))]
        for value in values
    )
