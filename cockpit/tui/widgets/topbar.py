"""The first row: the screens with their keys; at the right the database, the workers and the time left."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from cockpit.requests.remaining import Remaining
from cockpit.text import words
from cockpit.tui.host import host_of
from cockpit.tui.widgets.line import Line, Piece
from engine.store.row_types import Worker

NAME = "cockpit"
LAYOUTS = ((NAME, "  "), (NAME, " "), ("", "  "), ("", " "))  # text before the screens, and between them
DATABASE_WIDTH = 24


class TopBar(Line):
    """The screens, the current one inverse; a click opens one."""

    has_time = False  # whether there is room for the time left

    def on_mount(self) -> None:
        self.told: dict[str, Any] = {}
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def tell(self, name: str, value: Any) -> None:
        """Show the workers, or the time left."""
        self.told[name] = value
        self._draw()

    @property
    def _mode(self) -> str | None:
        """The mode of its screen, which may not be shown yet; None for a form or the page of a run."""
        return next((mode for mode, kind in host_of(self).MODES.items() if type(self.screen) is kind), None)

    def _draw(self) -> None:
        screens = {name: screen.__name__ for name, screen in host_of(self).MODES.items()}
        (name, gap), said = self._fitting(screens)
        pieces = [Piece(name + gap, "name")] if name else []
        for number, (mode, title) in enumerate(screens.items(), 1):
            kind = "current" if mode == self._mode else ""
            pieces += [Piece(gap)] if number > 1 else []
            pieces.append(Piece(f"{number} {title}", kind, f"app.switch_mode('{mode}')"))
        self.show(pieces, [Piece(said)])

    def _fitting(self, screens: Mapping[str, str]) -> tuple[tuple[str, str], str]:
        """The layout and text that fit: all screens, and as much of the rest as possible."""
        remaining: Remaining = self.told.get("remaining", Remaining())
        right = [
            words.short(host_of(self).path.name, DATABASE_WIDTH),
            _count(self.told.get("workers")),
            f"{remaining.total} left" if remaining.total else "",
        ]
        titles = sum(len(title) + 2 for title in screens.values())
        for parts, (name, gap) in product((right, right[1:], right[2:], []), LAYOUTS):
            said = "  ".join(filter(None, parts))
            taken = titles + len(gap) * (len(screens) - 1) + (len(name + gap) if name else 0)
            if taken + (len(said) + 2 if said else 0) <= self.size.width:
                self.has_time = bool(parts)
                return (name, gap), said
        self.has_time = False
        return LAYOUTS[-1], ""


def _count(present: Sequence[Worker] | None) -> str:
    if present is None:
        return ""
    number = sum(row.state != "dead" for row in present)
    return words.count(number, "worker") if number else "no workers"
