"""Standard input, output and error: all text passes here, so that none of it can control the terminal."""

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
# Replacements for characters that an encoding lacks. States, curve markers and axes remain distinct.
NEAREST = {
    **dict(zip("✓✗▶‖⊗⊘·●×▲■◆▼★✚▾", "+X>=@/.ox^#%v*+v", strict=True)),
    **dict(zip("─│┌┐└┘├┤┬┴┼█▀▌▐░▒▓←↑→↓", "-|+++++++++###|.::<^>v", strict=True)),
    **dict(zip("“”„‘’–—−", '"""\'\'---', strict=True)),
    "±": "+/-",
}
BRAILLE = range(0x2800, 0x2900)  # of which lines in charts are made


class ReaderGoneError(OSError):
    """The reader of the output has closed it, as `| head` does. Rich would end the program on a BrokenPipeError."""


class Stream:
    """A text stream that raises `ReaderGoneError` once its reader is gone."""

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
        """Flush the buffer."""
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
        """Write text, with its control characters made visible."""
        return super().write(words.visible(text))

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)


@contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and error, replace closed streams, and limit the terminal's size.

    Ends the program with status 141 if the reader of its output is gone.
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
    """Standard output for data: unchanged UTF-8 to a file or pipe; guarded on a terminal."""
    if sys.stdout.isatty():
        return sys.stdout
    stream = cast(TextIOWrapper, getattr(sys.stdout, "rich_proxied_file", sys.stdout))
    stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stream


def _open_closed() -> None:
    """Replace closed standard streams: the next opened file would take the place of one."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _bound_size() -> None:
    """Remove impossible terminal sizes from the environment: libraries do not check them."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):  # the last is Typer's, for help
        said = os.environ.get(name, "")
        if said.isdecimal() and int(said):
            os.environ[name] = str(min(int(said), LARGEST))
        else:
            os.environ.pop(name, None)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replacements for characters that an encoding lacks."""
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
    """Discard buffered output: Python would complain at exit."""
    for stream in streams:
        try:
            stream.flush()
        except BrokenPipeError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
