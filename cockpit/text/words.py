"""How things are said to a person, the same on the command line and on the screen: states, runs, durations, sizes."""

import re
import shlex
from datetime import datetime
from math import ceil
from textwrap import indent

from engine.store.row_types import Event, Experiment, Failure, Run, Worker

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?"
)  # to a terminal, as ANSI has them
# What a terminal obeys instead of showing it, but for line ends and tabs: control characters, and those that turn the
# direction of writing or take no room. None is as wide as a column.
COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}  # of control characters

OF_EXPERIMENTS = {
    "waiting": "·",
    "running": "▶",
    "paused": "‖",
    "cancelled": "⊗",
    "done": "✓",
    "failed": "✗",
    "diverged": "!",
    "blocked": "⊘",
}
OF_CHECKS = {"ok": "✓", "warning": "!", "problem": "✗"}
OF_WORKERS = {"training": "▶", "idle": "·", "held up": "‖", "silent": "?", "dead": "✗"}
GLYPHS = frozenset("".join((OF_EXPERIMENTS | OF_CHECKS | OF_WORKERS).values()))  # each as wide as a letter
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def state(word: str) -> str:
    """A state as glyph and word, never by colour alone."""
    return f"{(OF_EXPERIMENTS | OF_WORKERS | OF_CHECKS)[word]} {word}"


def run(row: Run | Event | Worker) -> str:
    """A run in a line: its ticket, where that comes from, what it is trained on."""
    source = f"{row.source} → " if row.source else ""
    return line(f"{source}{row.target} {row.ticket}, level {row.level}, seed {row.seed}")


def name(text: str) -> str:
    """A name as a shell takes it back: quoted where it has blanks, `>` and the like."""
    return shlex.quote(line(text))


def error(row: Failure) -> str:
    """What went wrong with a run, in a line."""
    why = ((row.error or "").strip() or "no error was recorded").splitlines()[-1]
    what = f"{row.ticket} level {row.level} on {row.target}, seed {row.seed}"
    return line(f"{row.status}: {what} ({row.digest[:12]}): {why}")


def short(text: str, width: int) -> str:
    """A text of at most so many columns of a terminal, where a wide character takes two."""
    if text.isascii():
        return text if len(text) <= width else f"{text[: width - 1]}…"
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def duration(seconds: float) -> str:
    """Seconds in its two largest units, rounded up: 3 h 12 min, 45 s."""
    left = ceil(seconds)
    for length, step in ((3600, 60), (86_400, 3600)):
        if left >= length:
            left = ceil(left / step) * step
    parts = []
    for unit, length in UNITS:
        whole, left = divmod(left, length)
        parts += [f"{whole} {unit}"] if whole else []
    return " ".join(parts) or "0 s"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of at least 1: 2.6 MiB."""
    place = 0
    while count >= 1024 and place < len(SIZES) - 1:
        count, place = count / 1024, place + 1
    return f"{count:.1f} {SIZES[place]}" if place else f"{count:.0f} {SIZES[place]}"


def count(number: int, what: str) -> str:
    """So many of something: 1 run, 3 runs."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def problems(row: Experiment) -> str:
    """How many runs of an experiment did not end well, and how."""
    counts = {"failed": row.failed, "diverged": row.diverged, "blocked": row.blocked}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def event(row: Event) -> str:
    """What happened to a run (`history.events`) in a line, and its error below."""
    at = datetime.fromisoformat(row.at).astimezone()
    accuracy = f" {row.test_accuracy:.2%}" if row.test_accuracy is not None else ""
    where = f"{row.device}, pid {row.pid}"
    text = f"{at:%Y-%m-%d %H:%M:%S}  {row.event + accuracy:<13}  {run(row)}"
    text += f"  (attempt {row.attempt}, {where}, run {row.digest[:12]})"
    return text + ("\n" + indent(row.error.rstrip(), "    ") if row.error else "")


def visible(text: str) -> str:
    """A text with pictures of what a terminal would obey instead of showing it; lines and tabs stay."""
    return text if text.isprintable() else COMMANDS.sub(_picture, text)


def line(text: str) -> str:
    """A text in one line, with pictures of what a terminal would obey, line ends and tabs too."""
    return text if text.isprintable() else visible(text).translate(PICTURES)


def stripped(text: str) -> str:
    """A text without what a terminal would obey: as wide as it was laid out."""
    return text if text.isprintable() else COMMANDS.sub("", text)


def harmless(logged: str) -> str:
    """A line of a log in one line, without its colours and other commands to a terminal."""
    return logged if logged.isprintable() else line(ESCAPES.sub("", logged).expandtabs())


def _picture(found: re.Match[str]) -> str:
    return chr(PICTURES.get(ord(found[0]), 0xFFFD))
