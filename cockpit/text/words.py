"""Wording shared by the command line and the dashboard: states, runs, durations, sizes."""

import platform
import re
import shlex
from math import ceil

from engine.store.row_types import Attempt, Event, Experiment, Failure, Run, Running, Worker

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?"
)  # to a terminal, as ANSI has them
# Characters that a terminal obeys instead of showing, except line ends and tabs: control characters, and those that
# change the direction of writing or have no width.
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
BAR = "━─"  # done, and left
GLYPHS = frozenset("".join((OF_EXPERIMENTS | OF_CHECKS | OF_WORKERS).values()) + BAR)  # each as wide as a letter
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def state(word: str) -> str:
    """A state as glyph and word, so never by colour alone."""
    return f"{(OF_EXPERIMENTS | OF_WORKERS | OF_CHECKS)[word]} {word}"


def device(row: Run | Running | Worker) -> str:
    """A device; a device of another machine with its host."""
    return str(row.device) if row.host in (None, platform.node()) else f"{row.device} of {row.host}"


def hardware(row: Event | Attempt | Worker) -> str:
    """A device of any machine, with the model of its card or CPU where that was recorded."""
    model = f" ({line(row.device_name)})" if row.device_name else ""
    return f"{row.device} of {row.host}{model}"


def name(text: str) -> str:
    """A name as a shell takes it back: quoted where it has blanks, `>` and the like."""
    return shlex.quote(line(text))


def error(row: Failure) -> str:
    """The error of a run in one line."""
    why = ((row.error or "").strip() or "no error was recorded").splitlines()[-1]
    what = f"{row.ticket} level {row.level} on {row.target_title or row.target}, seed {row.seed}"
    return line(f"{row.status}: {what} ({row.digest[:12]}): {why}")


def short(text: str, width: int) -> str:
    """A text cut to `width` terminal columns, where a wide character takes two."""
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
    """Bytes in the largest unit that gives at least 1: 2.6 MiB."""
    place = 0
    while count >= 1024 and place < len(SIZES) - 1:
        count, place = count / 1024, place + 1
    return f"{count:.1f} {SIZES[place]}" if place else f"{count:.0f} {SIZES[place]}"


def count(number: int, what: str) -> str:
    """A number with its noun: 1 run, 3 runs."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def split(devices: int) -> str:
    """Of runs: over how many devices each batch is split."""
    return f"that are split over {devices} devices" if devices > 1 else "that are not split over several devices"


def problems(row: Experiment) -> str:
    """The numbers of an experiment's failed, diverged and blocked runs."""
    counts = {"failed": row.failed, "diverged": row.diverged, "blocked": row.blocked}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def visible(text: str) -> str:
    """A text with visible control characters; line ends and tabs stay."""
    return text if text.isprintable() else COMMANDS.sub(_picture, text)


def line(text: str) -> str:
    """A text in one line, with visible control characters, line ends and tabs included."""
    return text if text.isprintable() else visible(text).translate(PICTURES)


def stripped(text: str) -> str:
    """A text without control characters, as wide as it was laid out."""
    return text if text.isprintable() else COMMANDS.sub("", text)


def harmless(logged: str) -> str:
    """A line of a log, without colours and other terminal commands."""
    return logged if logged.isprintable() else line(ESCAPES.sub("", logged).expandtabs())


def _picture(found: re.Match[str]) -> str:
    return chr(PICTURES.get(ord(found[0]), 0xFFFD))
