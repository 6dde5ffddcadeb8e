"""The footer: the keys that work where the focus is."""

from typing import Any

from textual.screen import Screen
from textual.widgets import Footer


class KeyBar(Footer):
    """Textual's footer, built anew only when its keys have changed, not two or three times at each opening."""

    _keys: object = None

    def bindings_changed(self, screen: Screen[Any]) -> None:
        """Show the keys that work now."""
        keys = [tuple(found)[1:] for found in screen.active_bindings.values() if found.binding.show]
        if self.app.app_focus and screen is self.screen and keys != self._keys:
            self._keys = keys
            super().bindings_changed(screen)
