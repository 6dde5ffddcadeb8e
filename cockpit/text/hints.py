"""Commands that messages advise, completed with the database that this command was told to use."""

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import InputError

_COMMAND = re.compile(r"`cockpit ((?:[a-z-]+ ?)+)([^`]*)`")
_told: Path | None = None
_taking: Callable[[Sequence[str]], int] = len


def know(taking: Callable[[Sequence[str]], int]) -> None:
    """Take what says how many of some words name a command that takes --db; 0 if they name none."""
    global _taking  # noqa: PLW0603 - of the process, like the command line itself
    _taking = taking


def use(database: Path) -> None:
    """From now on commands name this database, given with --db: without it they would mean another."""
    global _told  # noqa: PLW0603 - of the process, like the command line itself
    _told = database


def flag(option: str) -> str:
    """An option as the command line has it."""
    return "--" + option.replace("_", "-")


def complete(message: str | Exception) -> str:
    """A message with options as they are typed, whose commands, in backticks, can be copied as they are."""
    text = message.worded(flag) if isinstance(message, InputError) else str(message)
    if _told is None:
        return text
    return _COMMAND.sub(_completed, text)


def say(text: str) -> None:
    """Print a message."""
    print(complete(text))


def warn(text: str | Exception) -> None:
    """Print a message on stderr."""
    print(complete(text), file=sys.stderr, flush=True)


def _completed(found: re.Match[str]) -> str:
    words, rest = found[1].split(), found[2]
    taken = _taking(words)
    if not taken or "--db" in rest:
        return found[0]
    parts = ["cockpit", *words[:taken], "--db", shlex.quote(str(_told)), *words[taken:], rest.strip()]
    return f"`{' '.join(filter(None, parts))}`"
