"""Commands that messages suggest, completed with the database of this command."""

import os
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
    """Set the function that counts the words that name a command with --db; 0 if they name none."""
    global _taking  # noqa: PLW0603 - of the process, like the command line itself
    _taking = taking


def use(database: Path) -> None:
    """Add --db with this database to commands from now on: without it they would mean another."""
    global _told  # noqa: PLW0603 - of the process, like the command line itself
    _told = database


def flag(option: str) -> str:
    """An option as on the command line."""
    return "--" + option.replace("_", "-")


def quoted(path: str) -> str:
    """A path as bash and zsh read it, in one line and without commands to a terminal, whatever the path holds."""
    if path.isprintable():
        return shlex.quote(path)
    plain = (one if one.isprintable() and one not in "\\'" else _in_octal(one) for one in path)
    return f"$'{''.join(plain)}'"


def complete(message: str | Exception) -> str:
    """A message whose options and commands (in backticks) can be copied to a shell."""
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


def _in_octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def _completed(found: re.Match[str]) -> str:
    words, rest = found[1].split(), found[2]
    taken = _taking(words)
    if not taken or "--db" in rest:
        return found[0]
    parts = ["cockpit", *words[:taken], "--db", quoted(str(_told)), *words[taken:], rest.strip()]
    return f"`{' '.join(filter(None, parts))}`"
