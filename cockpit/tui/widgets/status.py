"""The status line: database, runs waiting and running, live workers, time of the last write."""

from collections.abc import Mapping
from typing import Any, ClassVar

from cockpit.requests import remaining
from cockpit.text import words
from cockpit.tui import states
from cockpit.tui.host import host_of
from cockpit.tui.plain import Plain
from cockpit.tui.reader import Query
from cockpit.tui.widgets.topbar import TopBar
from engine.store import database, rows, workers

SILENT_SECONDS = 10.0  # without a write while workers should be at work


class StatusLine(Plain):
    """One line, updated every second."""

    QUERIES: ClassVar[Mapping[str, Query]] = {
        "totals": rows.totals,
        "starting": workers.starting,
        "pools": workers.live_pools,
        "workers": workers.present,
        "remaining": remaining.read,
    }

    def on_mount(self) -> None:
        self.found: dict[str, Any] = {}
        self.unread = False
        self._update()
        self.set_interval(1.0, self._update)

    def trouble(self, unread: bool) -> None:
        """Show whether the database cannot be read; the banner shows why."""
        self.unread = unread
        self._update()

    def show(self, name: str, value: Any) -> None:
        """Show the answer to one of `QUERIES`."""
        self.found[name] = value
        self._update()

    def _update(self) -> None:
        if set(self.found) != set(self.QUERIES):
            self.update("the database cannot be read now" if self.unread else "reading …")
            return
        present = self.found["workers"]
        every = [worker.state for worker in present]
        at_work = ", ".join(f"{words.state(state)} {every.count(state)}" for state in dict.fromkeys(every))
        host = host_of(self)
        nobody = states.nobody(host.starting, host.read_only)
        parts = [*(["read-only"] if host.read_only else []), f"workers: {at_work}" if every else nobody]
        if beats := [worker.heartbeat_at for worker in present]:
            age = database.age(max(beats))
            parts.append(f"stale: last heartbeat {words.duration(age)} ago" if age > SILENT_SECONDS else "live")
        left = self.found["remaining"].total
        parts += [f"{left} left"] if left and not self.screen.query_one(TopBar).has_time else []
        parts += [f"{words.state(status)} {count}" for status, count in self.found["totals"].items() if count]
        self.update(" │ ".join(parts))
