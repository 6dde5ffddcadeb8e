"""Paths that users type: expanding `~`, and whether a file may replace another."""

from pathlib import Path

from engine.errors import InputError, quoted


def given(text: str, what: str = "path") -> Path:
    """The path of a text, with `~` expanded. Raises InputError about `what` if no file can have that path."""
    if "\0" in text:
        raise InputError(f"{what} {quoted(text)} has a NUL character in it: no file can be named so")
    try:
        path = Path(text).expanduser()
        str(path.absolute()).encode()
    except RuntimeError:
        user = text.partition("/")[0]
        raise InputError(
            f"{what} {quoted(text)}: the home folder of {user} is unknown; write ./{text} for a file of that name"
        ) from None
    except UnicodeEncodeError:
        raise InputError(
            f"{what} {quoted(text)} is not valid Unicode in UTF-8: rename the file, or the folder it lies in"
        ) from None
    except FileNotFoundError:
        raise InputError("the current folder no longer exists (it was deleted): change to another with cd") from None
    return path


def is_replaceable(path: Path) -> bool:
    """Whether a new file may replace `path`; not for devices, pipes and /dev or /proc, which are written to instead."""
    if str(path.absolute()).startswith(("/dev/", "/proc/")):
        return False
    return path.is_file() or not path.exists()
