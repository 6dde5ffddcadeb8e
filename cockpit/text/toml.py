"""Read TOML files with limits: experiment files and the configuration file."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import InputError

LARGEST_BYTES = 2**20
DEEPEST = 10  # tables and lists within each other
LARGEST_NUMBER = 2**63 - 1  # TOML promises no more
STRINGS = r'"""(?:\\.|[^\\])*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'"
OPAQUE = re.compile(rf"{STRINGS}|#[^\n]*", re.DOTALL)
TOKENS = re.compile(rf"{OPAQUE.pattern}|[][{{}}\n]", re.DOTALL)
DOTTED = re.compile(rf"(?:\.[^.=,\n\]]*){{{DEEPEST}}}")

Place = tuple[str | int, ...]  # the keys, and numbers in lists, that lead to a value of a file


def read(path: Path, what: str) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and its values. `what` names the file in messages.

    Raises InputError for anything but a regular TOML file of moderate size and depth, so never waits for a pipe.
    """
    text = _text(path, what)
    if DOTTED.search(OPAQUE.sub("", text)):  # tomllib takes the square of their number
        raise _too_deep(path, what)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{what} {path} is not valid TOML: {error}") from None
    except ValueError:  # as Python says of a number of thousands of digits
        raise _too_large(path, what) from None
    except RecursionError:
        raise _too_deep(path, what) from None
    _check(path, what, found)
    return text, found


def _text(path: Path, what: str) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"{what} {path} is a folder or a pipe: name a file")
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        if len(data) <= LARGEST_BYTES:
            return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read ({error.strerror}): name a file that you can read") from None
    except UnicodeDecodeError:
        raise InputError(f"{what} {path} is not UTF-8 text: save it as UTF-8") from None
    raise InputError(f"{what} {path} is larger than {LARGEST_BYTES // 2**20} MiB: split it")


def mismatch(value: object, kind: Any) -> str | None:
    """What a value of another type than `kind` must be; None for the right type."""
    if kind == list[str]:
        right = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return None if right or isinstance(value, str) else "text, or a list of texts"
    if kind is bool:
        return None if isinstance(value, bool) else "true or false"
    allowed = (int, float) if kind is float else (kind if kind in (int, float) else str,)
    if isinstance(value, allowed) and not isinstance(value, bool):
        return None
    return {int: "a whole number", float: "a number"}.get(kind, "text")


def line_of(text: str, place: Place) -> int:
    """The line, from 1, of the statement that sets the value at a place of a file; tomllib gives no lines."""
    table: Place = ()
    lengths: Counter[Place] = Counter()
    for line, statement in _statements(text):
        found = tomllib.loads(statement)
        if not found:
            continue
        if statement.lstrip().startswith("["):
            table = _table(found, lengths)
            if table[: len(place)] == place:
                return line
        elif table == place[: len(table)] and _holds(found, place[len(table) :]):
            return line
    return 1


def _check(path: Path, what: str, found: dict[str, Any]) -> None:
    """Raise InputError for values that TOML allows but no option takes: too deep, too large, or with a NUL."""
    level: list[Any] = [found]
    for _ in range(DEEPEST):
        for value in level:
            if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
                raise _too_large(path, what)
            if isinstance(value, str) and "\0" in value:
                raise InputError(f"{what} {path} contains the character NUL: remove it")
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value if isinstance(value, list) else [*value, *value.values()])
        ]
    if level:
        raise _too_deep(path, what)


def _too_large(path: Path, what: str) -> InputError:
    return InputError(f"{what} {path} contains an integer of more than 64 bits: give a smaller one")


def _too_deep(path: Path, what: str) -> InputError:
    return InputError(f"{what} {path} is nested too deeply: at most {DEEPEST} levels of tables and lists")


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The statements of valid TOML, each with its first line, from 1."""
    begins = line = 1
    start = depth = 0
    for token in TOKENS.finditer(f"{text}\n"):
        depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
        line += token[0].count("\n")
        if token[0] == "\n" and not depth:
            yield begins, text[start : token.end()]
            begins, start = line, token.end()


def _table(heading: dict[str, Any], lengths: Counter[Place]) -> Place:
    """The place of the table that a heading opens; `lengths` are those of the lists so far."""
    place: Place = ()
    found: Any = heading
    while found:
        ((key, found),) = found.items()
        place = (*place, key)
        if isinstance(found, list):
            lengths[place] += 1
            found = found[0]
        if place in lengths:
            place = (*place, lengths[place] - 1)
    return place


def _holds(found: Any, place: Place) -> bool:
    for step in place:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
