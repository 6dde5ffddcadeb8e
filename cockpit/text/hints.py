"""Commands that messages advise, completed with the database that this command was told to use."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COMMAND = re.compile(r"`cockpit ((?:[a-z-]+ ?)+)([^`]*)`")
_told: Path | None = None
_program: Callable[[], object] | None = None


def know(program: Callable[[], object]) -> None:
    """Take what makes the program's tree of commands, which says which of them take --db."""
    global _program  # noqa: PLW0603 - of the process, like the command line itself
    _program = program


def use(database: Path) -> None:
    """From now on commands name this database, given with --db: without it they would mean another."""
    global _told  # noqa: PLW0603 - of the process, like the command line itself
    _told = database


def complete(text: str) -> str:
    """A message whose commands, in backticks, can be copied as they are."""
    if _told is None:
        return text
    return _COMMAND.sub(_completed, text)


def say(text: str) -> None:
    """Print a message."""
    print(complete(text))


def warn(text: str) -> None:
    """Print a message on stderr."""
    print(complete(text), file=sys.stderr, flush=True)


def _completed(found: re.Match[str]) -> str:
    words, rest = found[1].split(), found[2]
    taken = _taking(words)
    if not taken or "--db" in rest:
        return found[0]
    parts = ["cockpit", *words[:taken], "--db", shlex.quote(str(_told)), *words[taken:], rest.strip()]
    return f"`{' '.join(filter(None, parts))}`"


def _taking(words: list[str]) -> int:
    """How many of the words name a command that takes --db; 0 if they name none."""
    command: Any = _program() if _program else None
    for count, word in enumerate(words, 1):
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        command = inner
        if any("--db" in parameter.opts for parameter in command.params) and not hasattr(command, "commands"):
            return count
    return 0
