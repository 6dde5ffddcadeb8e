"""Events of runs as rows, newest first, with repeated events folded into one row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from rich.text import Text

from cockpit.text import words
from cockpit.views import runs
from engine.store import rows
from engine.store.row_types import Event

GLYPHS = {"started": "▶", "continued": "▶", "done": "✓", "failed": "✗", "diverged": "!", "stopped": "‖"}
OTHER = "✗"  # lost, out-of-memory
COLOURS = {"done": "#009E73", "failed": "#D55E00", "diverged": "#D55E00", "lost": "#E69F00", "out-of-memory": "#E69F00"}
HEADINGS = ("when", "what", "run", "result, or why", "on")


@dataclass(frozen=True)
class Row:
    """An event, its run, and how many times it was repeated without another between."""

    run: int
    cells: tuple[str | Text, ...]


def folded(found: Sequence[Event]) -> dict[str, Row]:
    """Events as rows by stable keys, newest first; consecutive runs with the same ending are one row with a count."""
    names = runs.named(found)
    return dict(_rows(found, names))


def _rows(found: Sequence[Event], names: dict[str, str]) -> Iterator[tuple[str, Row]]:
    # The start of a claim is left out once the claim has ended.
    ended = {(event.run_id, event.claim) for event in found if event.event not in ("started", "continued")}
    told = [
        event
        for event in reversed(found)
        if event.event not in ("started", "continued") or (event.run_id, event.claim) not in ended
    ]
    for _, group in groupby(told, key=_sameness):
        same = list(group)
        last = same[0]
        times = f"  (x{len(same)})" if len(same) > 1 else ""
        at = datetime.fromisoformat(last.at).astimezone()
        said = Text(f"{GLYPHS.get(last.event, OTHER)} {last.event}", COLOURS.get(last.event, ""))
        attempt = f", attempt {last.attempt}" if last.attempt > 1 else ""
        cells = (
            f"{at:%m-%d %H:%M:%S}",
            said,
            names[last.digest] + attempt + (f" and {len(same) - 1} more" if len(same) > 1 else ""),
            _result(last) + times,
            words.hardware(last) if last.device else "",
        )
        # The key is the oldest event's, so that it stays the same when more of them come.
        yield f"{same[-1].run_id} {same[-1].claim} {same[-1].event}", Row(last.run_id, cells)


def _sameness(event: Event) -> tuple[object, ...]:
    """The key by which events are folded: equal errors. Other events are not folded."""
    why = rows.last_line(event.error)
    return (event.event, why) if why else (event.run_id, event.claim, event.event)


def _result(event: Event) -> str:
    if event.test_accuracy is not None:
        return f"{event.test_accuracy:.2%}"
    return words.line(rows.last_line(event.error))
