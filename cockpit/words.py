"""What states are called and how they look, the same on the command line and on the screen."""

from math import ceil
from typing import Any

OF_EXPERIMENTS = {
    "waiting": "·",
    "running": "▶",
    "paused": "‖",
    "cancelled": "⦸",
    "done": "✓",
    "failed": "✗",
    "diverged": "!",
    "blocked": "⊘",
}
OF_WORKERS = {"training": "▶", "idle": "·", "held up": "‖", "silent": "?", "dead": "✗"}
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
SIZES = ("bytes", "kB", "MB", "GB", "TB")


def state(word: str) -> str:
    """A state as glyph and word, never by colour alone."""
    return f"{(OF_EXPERIMENTS | OF_WORKERS)[word]} {word}"


def run(row: Any) -> str:
    """A run in a line: its ticket, where that comes from, what it is trained on."""
    source = f"{row['source']} -> " if row["source"] else ""
    return f"{source}{row['target']} {row['ticket']}, level {row['level']}, seed {row['seed']}"


def problems(row: Any) -> str:
    """How many runs of an experiment have failed, diverged or are blocked, in words."""
    return ", ".join(f"{row[status]} {status}" for status in ("failed", "diverged", "blocked") if row[status])


def duration(seconds: float) -> str:
    """Seconds in its two largest units, rounded up: 3 h 12 min, 45 s."""
    left = ceil(seconds)
    for place, (unit, length) in enumerate(UNITS[:-1]):
        if left >= length:
            smaller, part = UNITS[place + 1]
            whole, rest = divmod(ceil(left / part) * part, length)
            return f"{whole} {unit}" + (f" {rest // part} {smaller}" if rest else "")
    return f"{left} s"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of at least 1: 2.6 MB."""
    place = 0
    while count >= 1000 and place < len(SIZES) - 1:
        count, place = count / 1000, place + 1
    return f"{count:.1f} {SIZES[place]}" if place else f"{count:.0f} {SIZES[place]}"
