"""Fitting tables to the screen: the columns to leave out, and the width of the last one."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from cockpit.text import words

GAP = 2  # columns around a cell
FRAME = 4  # columns of a table's frame and scroll bar


def fitted(
    headings: Sequence[str], rows: Mapping[str, Sequence[str]], spare: Sequence[str], least: int, width: int
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Headings and rows for a table of `width` columns: no column without a value, nor of `spare` ones without room.

    Those are left out in their order until the last column has `least` columns; it is shortened to what is left.
    """
    kept = [place for place in range(len(headings)) if any(row[place] for row in rows.values())]
    widths = {place: max(map(cell_len, (headings[place], *(row[place] for row in rows.values())))) for place in kept}
    last = len(headings) - 1

    def room() -> int:
        return width - FRAME - GAP - sum(widths[place] + GAP for place in kept if place != last)

    for name in spare:
        wanted = min(least, widths.get(last, 0))
        if room() < wanted:
            kept = [place for place in kept if headings[place] != name]
    shown = {
        key: tuple(words.short(row[place], max(least, room())) if place == last else row[place] for place in kept)
        for key, row in rows.items()
    }
    return [headings[place] for place in kept], shown
