"""Errors that a person can act on."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something a person gave cannot be used. The message names the value, what is allowed, and the fix."""


def unknown(kind: str, value: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not among those allowed, with the nearest of them as a suggestion."""
    names = list(allowed)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {value!r}: choose from {', '.join(names)}{hint}")
