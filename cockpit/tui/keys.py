"""The bindings of the dashboard by id, and their keys in the configuration file."""

from collections.abc import Iterator, Mapping
from typing import Any

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, KEY_TO_UNICODE_NAME, Keys

from cockpit import config
from engine.errors import InputError

MODIFIERS = {"ctrl", "shift", "alt", "super", "hyper", "meta"}
RENAMED = {"app.take-away": "app.export", "take.leave": "export.cancel"}  # ids of earlier versions
NAMES = {key.value.rpartition("+")[2] for key in Keys} | {*KEY_TO_UNICODE_NAME, *KEY_NAME_REPLACEMENTS.values()}


def bindings() -> dict[str, Binding]:
    """All bindings with an id, of the imported screens and widgets."""
    found: dict[str, Binding] = {}
    for node in _nodes(DOMNode):
        for binding in node.__dict__.get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id:
                found.setdefault(binding.id, binding)
    return found


def _nodes(kind: type[Any]) -> Iterator[type[Any]]:
    for node in kind.__subclasses__():
        if node.__module__.startswith("cockpit.tui."):
            yield node
        yield from _nodes(node)


def chosen() -> Mapping[str, str]:
    """The keys of bindings in the configuration file. Raises InputError for an unknown binding or key."""
    found = config.keys(bindings(), RENAMED)
    for id, keys in found.items():
        for key in map(str.strip, keys.split(",")):
            *modifiers, last = key.split("+") if len(key) > 1 else [key]
            if not (len(last) == 1 or last in NAMES) or not MODIFIERS.issuperset(modifiers):
                raise InputError(
                    f"configuration file {config.path()}: {keys!r} for {id} of [keys] is no key: give a character,"
                    " or a name as in f2, space, ctrl+p; several are separated by commas"
                )
    return found
