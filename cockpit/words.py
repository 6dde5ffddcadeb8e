"""What states are called and how they look, the same on the command line and on the screen."""

import re
from datetime import datetime
from textwrap import indent
from typing import Any

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?"
)  # to a terminal, as ANSI has them
CONTROLS = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}  # their pictures

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


def error(row: Any) -> str:
    """What went wrong with a run, in a line."""
    what = f"{row['ticket']} level {row['level']} on {row['target']}, seed {row['seed']}"
    return f"{row['status']}: {what} ({row['digest'][:12]}): {row['error'].strip().splitlines()[-1]}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3 h 12 min, 4 d 3 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if minutes else f"{hours} h"


def size(count: float) -> str:
    """Bytes as people say them: 512 B, 3.4 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def event(row: Any) -> str:
    """What happened to a run (`history.events`) in a line, and its error below."""
    at = datetime.fromisoformat(row["at"]).astimezone()
    accuracy = f" {row['test_accuracy']:.2%}" if row["test_accuracy"] is not None else ""
    where = f"{row['device']}, pid {row['pid']}"
    text = f"{at:%Y-%m-%d %H:%M:%S}  {row['event'] + accuracy:<13}  {run(row)}"
    text += f"  (attempt {row['attempt']}, {where}, run {row['digest'][:12]})"
    return text + ("\n" + indent(row["error"].rstrip(), "    ") if row["error"] else "")


def harmless(line: str) -> str:
    """A line of a file without anything that a terminal would obey: no colours, and pictures of control characters."""
    if line.isprintable():
        return line
    shown = ESCAPES.sub("", line).expandtabs().translate(CONTROLS)
    return shown if shown.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in shown)
