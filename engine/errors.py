"""Errors that a person can act on, and the checks of what a person gives that every option shares."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

LONGEST_SHOWN = 100  # characters of a value in a message

Name = TypeVar("Name", bound=str)


class InputError(ValueError):
    """Something a person gave cannot be used. The message names the value, what is allowed, and the fix.

    It is one line whatever a value or a file's name holds.
    """

    def __init__(self, message: object) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message)))


@dataclass(frozen=True)
class Range:
    """The finite numbers that an option takes: from `least` to `most`, or without its ends `above` to `below`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value if isinstance(value, float) else 0)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.least is not None:
            return f"{_number(self.least)} or more" if self.most is None else f"{_number(self.least)} to {self._end}"
        return f"above {_number(self.above or 0)}" + (f" and {self._end}" if self._end else "")

    @property
    def _end(self) -> str:
        if self.most is not None:
            return _number(self.most) if self.least is not None else f"at most {_number(self.most)}"
        return "" if self.below is None else f"below {_number(self.below)}"

    def check(self, option: str, value: float, why: str = "") -> None:
        """Raises InputError for a value of an option that is not in the range; `why` it is that range comes last."""
        if value not in self:
            raise InputError(f"{option} {_number(value)} is out of range ({self})" + (f": {why}" if why else ""))


def chosen(kind: str, value: str, allowed: Iterable[Name]) -> Name:
    """The name among those allowed that `value` is in upper or lower case. Raises InputError for an unknown one."""
    names = list(allowed)
    for same in (str, str.casefold):  # two names may differ in case alone
        for name in names:
            if same(name) == same(value):
                return name
    raise unknown(kind, value, names)


def unknown(kind: str, value: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not among those allowed, with the nearest of them as a suggestion."""
    names = list(allowed)
    folded = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(value.casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return InputError(f"unknown {kind} {quoted(value)}: choose from {', '.join(names)}{hint}")


def quoted(value: object) -> str:
    """A value as a message shows it: in quotes if it is text, on one line, cut where it is long."""
    return _cut(repr(value))


def _number(value: float) -> str:
    return _cut(f"{value:g}" if isinstance(value, float) else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
