"""Errors about the user's input, and checks of input that all options share."""

import difflib
import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

LONGEST_SHOWN = 100  # characters of a value in a message

Name = TypeVar("Name", bound=str)


class OptionName(str):
    """The name of an option in a message, in Python's form (`prune_rate`). Each front end writes it in its own form."""


class InputError(ValueError):
    """The user's input cannot be used. The message names the value, what is allowed, and the fix.

    `message` consists of text, names of options as `OptionName`, and inner InputErrors, whose data it keeps. `option`
    is the option to change, by default the first that the message names. The message is always a single line:
    characters in values or file names that cannot be printed are escaped.
    """

    def __init__(
        self, *message: object, option: str | None = None, value: object = None, allowed: object = None
    ) -> None:
        self.parts = tuple(_printable(part) for part in _flat(message))
        inner = next((part for part in message if isinstance(part, InputError)), None)
        named = next((str(part) for part in self.parts if isinstance(part, OptionName)), None)
        self.option: str | None = option or (inner.option if inner else None) or named
        self.value: object = inner.value if inner else value
        self.allowed: object = inner.allowed if inner else allowed
        super().__init__(self.worded(str))

    def worded(self, word: Callable[[str], str]) -> str:
        """The message, with the names of options as `word` writes them."""
        return "".join(word(str(part)) if isinstance(part, OptionName) else part for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """The error as JSON, for another process."""
        return {"option": self.option, "parts": [[isinstance(part, OptionName), str(part)] for part in self.parts]}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "InputError":
        """The error that `to_json` wrote."""
        parts = (OptionName(part) if is_name else part for is_name, part in content["parts"])
        return InputError(*parts, option=content["option"])


@contextmanager
def concerning(option: str) -> Iterator[None]:
    """Set the option of an InputError that is raised inside and names none."""
    try:
        yield
    except InputError as error:
        error.option = error.option or option
        raise


def command(words: str, **options: object) -> str:
    """A command of cockpit in a message, as the user types it; an option that is True has no value."""
    names = ((f" --{name.replace('_', '-')}", value) for name, value in options.items())
    given = (name if value is True else f"{name} {shlex.quote(str(value))}" for name, value in names)
    return f"`cockpit {words}{''.join(given)}`"


def _flat(message: Iterable[object]) -> Iterator[str]:
    for part in message:
        if isinstance(part, InputError):
            yield from part.parts
        elif isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield part if isinstance(part, OptionName) else str(part)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Range(msgspec.Struct, frozen=True):
    """The finite numbers that an option takes: `least` to `most` with these ends, `above` to `below` without them."""

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
            if self.most is not None:
                return f"{_number(self.least)} to {self._end}"
            return f"{_number(self.least)} or more" + (f" and {self._end}" if self._end else "")
        return f"above {_number(self.above or 0)}" + (f" and {self._end}" if self._end else "")

    @property
    def _end(self) -> str:
        if self.most is not None:
            return _number(self.most) if self.least is not None else f"at most {_number(self.most)}"
        return "" if self.below is None else f"below {_number(self.below)}"

    def check(self, option: str, value: float, *why: str) -> None:
        """Raise InputError if an option's value is not in the range; `why` the range is so ends the message."""
        if value not in self:
            message = (option, f" {_number(value)} is out of range ({self})", ": " if why else "", why)
            raise InputError(message, value=value, allowed=self)


def chosen(kind: str, value: str, allowed: Iterable[Name]) -> Name:
    """The allowed name that equals `value`, ignoring case. Raises InputError for an unknown one."""
    names = list(allowed)
    for same in (str, str.casefold):  # exact first, as two names may differ only in case
        for name in names:
            if same(name) == same(value):
                return name
    raise unknown(kind, value, names)


def unknown(kind: object, value: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not allowed, with the nearest allowed name as a suggestion."""
    names = list(allowed)
    folded = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(value.casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    said = f" {quoted(value)}: choose from {', '.join(names)}{hint}"
    return InputError("unknown ", kind, said, value=value, allowed=names)


def quoted(value: object) -> str:
    """A value as messages show it: on one line, text in quotes, cut after `LONGEST_SHOWN` characters."""
    return _cut(repr(value))


def _number(value: float) -> str:
    return _cut(f"{value:g}" if isinstance(value, float) else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
