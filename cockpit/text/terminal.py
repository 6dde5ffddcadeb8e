"""Standard input, output and error: every text passes here, so that none of it can command the terminal."""

import codecs
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TextIO, cast

from cockpit.text import words

LARGEST = 1000  # columns or lines of a terminal that are believed
REPLACE = "cockpit.replace"  # the error handler of encodings
# What stands for a character that an encoding lacks. States, markers of curves and axes stay apart from each other.
NEAREST = {
    **dict(zip("✓✗▶‖⊗⊘·●×▲■◆▼★✚▾", "+X>=@/.ox^#%v*+v", strict=True)),
    **dict(zip("─│┌┐└┘├┤┬┴┼█▀▌▐░▒▓←↑→↓", "-|+++++++++###|.::<^>v", strict=True)),
    **dict(zip("“”„‘’–—−", '"""\'\'---', strict=True)),
    "±": "+/-",
}
BRAILLE = range(0x2800, 0x2900)  # of which lines in charts are made


class ReaderGoneError(OSError):
    """Who read the output has closed it, as `| head` does. Rich would end the program on a BrokenPipeError."""


class Stream:
    """A text stream that says by `ReaderGoneError` when nobody reads it any more."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text."""
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            raise ReaderGoneError from None

    def flush(self) -> None:
        """Write what is held back."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            raise ReaderGoneError from None


class Guard(Stream):
    """A text stream without control characters. Rich, which colours text, writes to `rich_proxied_file` instead."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.rich_proxied_file = Stream(stream)  # this is where Rich looks for it

    def write(self, text: str) -> int:
        """Write text, with pictures of its control characters."""
        return super().write(words.visible(text))

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)


@contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and error meanwhile, stand in for those that are closed, and bound the terminal's size.

    Ends the program with status 141 where nobody reads its output any more.
    """
    _open_closed()
    _bound_size()
    codecs.register_error(REPLACE, _replaced)
    before = sys.stdout, sys.stderr
    for stream in before:
        cast(TextIOWrapper, stream).reconfigure(errors=REPLACE)
    sys.stdout, sys.stderr = (cast(TextIO, Guard(stream)) for stream in before)
    try:
        yield
    except ReaderGoneError:
        _discard(before)
        sys.exit(141)
    finally:
        sys.stdout, sys.stderr = before


def data() -> TextIO:
    """Standard output for data: UTF-8 and unchanged into a file or pipe; guarded on a terminal."""
    if sys.stdout.isatty():
        return sys.stdout
    stream = cast(TextIOWrapper, getattr(sys.stdout, "rich_proxied_file", sys.stdout))
    stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stream


def _open_closed() -> None:
    """Stand in for standard streams that are closed: the next file that is opened would be taken for one of them."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _bound_size() -> None:
    """Have no size of a terminal in the environment that no terminal has: libraries take it as it is."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):  # the last is Typer's, for help
        said = os.environ.get(name, "")
        if said.isdecimal() and int(said):
            os.environ[name] = str(min(int(said), LARGEST))
        else:
            os.environ.pop(name, None)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """What is written for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_nearest, error.object[error.start : error.end])), error.end


def _nearest(character: str) -> str:
    if ord(character) in BRAILLE:
        return "."
    parts = unicodedata.normalize("NFKD", character)  # é is e and an accent
    plain = "".join(part for part in parts if not unicodedata.combining(part))
    return NEAREST.get(character) or (plain if plain.isascii() else "?")


def _discard(streams: tuple[TextIO, TextIO]) -> None:
    """Have what these still hold back go nowhere: Python would complain when it ends."""
    for stream in streams:
        try:
            stream.flush()
        except BrokenPipeError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
