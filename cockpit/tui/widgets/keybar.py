"""The footer: the keys that have an effect now, as many as fit."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from textual.binding import ActiveBinding, Binding
from textual.screen import Screen

from cockpit.tui import actions
from cockpit.tui.widgets.line import Line, Piece
from engine.store.row_types import Experiment

LAST = ("app.help", "app.quit")  # at the right
UNSAID = ("screen.", "table.", "chart.denser", "chart.sparser")  # keys in the first row, and cursor keys
FIRST = ("act.pause", "act.retry")  # if they would change something
LATER = ("act.remove", "act.tags", "act.notes", "act.archive", "act.raise", "act.lower")
GAP = 2


class Key(NamedTuple):
    """A key: its name in Textual, its sign in the footer, and the label of its action."""

    key: str
    display: str
    label: str

    @property
    def width(self) -> int:
        """Its columns, with the gap after it."""
        return len(self.display) + 1 + len(self.label) + GAP

    @property
    def pieces(self) -> list[Piece]:
        """The pieces to show; a click has the key's effect."""
        press = f"app.simulate_key('{self.key}')"
        return [Piece(f"{self.display} ", "key", press), Piece(self.label, action=press), Piece(" " * GAP)]


class KeyBar(Line):
    """One line of keys, labelled by their effect on the chosen experiments."""

    def on_mount(self) -> None:
        self.standing: Sequence[Experiment] = ()
        self.is_any = self.has_pools = False
        self.screen.bindings_updated_signal.subscribe(self, self.show_keys)

    def on_resize(self) -> None:
        self.show_keys(self.screen)

    def stand(self, standing: Sequence[Experiment], is_any: bool, has_pools: bool) -> None:
        """Show the keys that have an effect on these experiments.

        `is_any`: some are chosen. `has_pools`: this machine has workers to stop.
        """
        if (standing, is_any, has_pools) != (self.standing, self.is_any, self.has_pools):
            self.standing, self.is_any, self.has_pools = standing, is_any, has_pools
            self.show_keys(self.screen)

    def show_keys(self, screen: Screen[Any]) -> None:
        """Show the keys that work now."""
        if screen is not self.screen or not screen.is_current:
            return
        active = [one for one in screen.active_bindings.values() if not (one.binding.id or "").startswith(UNSAID)]
        keys, last = (list(self._keys(active, is_last)) for is_last in (False, True))
        room = self.size.width - sum(key.width for key in last)
        shown: list[Piece] = []
        for key in keys:
            if key.width <= room:
                room -= key.width
                shown += key.pieces
        self.show(shown, [piece for key in last for piece in key.pieces])

    def _keys(self, active: Sequence[ActiveBinding], is_last: bool) -> Iterator[Key]:
        """The keys that have an effect: the screen's, then those of the widget with the focus, then all others."""
        said: set[str] = set()
        for one in sorted(active, key=self._rank):
            if one.binding.id and (one.binding.id in LAST) == is_last:
                label = self._label(one.binding)
                if label and label not in said:
                    said.add(label)
                    yield Key(one.binding.key, self.app.get_key_display(one.binding), label)

    def _label(self, binding: Binding) -> str:
        action = actions.of(binding.id)
        if action is None:
            return binding.description
        if action.id == "stop" and not self.has_pools:
            return ""
        return action.label_for(self.standing) if self.is_any or "{names}" not in action.command else ""

    def _rank(self, one: ActiveBinding) -> tuple[bool, bool, bool, bool]:
        is_first = one.binding.id in FIRST and bool(self.standing)
        is_action = actions.of(one.binding.id) is not None
        is_later = one.binding.id in LATER
        return not (one.binding.show or is_first), is_later, not is_action, not isinstance(one.node, Screen)
