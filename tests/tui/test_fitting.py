"""Fitting tables: the columns left out, and that only the last of the others is cut."""

import pytest
from rich.cells import cell_len

from cockpit.tui.fitting import FRAME, GAP, fitted

HEADINGS = ("state", "pid", "card", "loss", "run")
ROWS = {
    "1": ("training", "4242", "Graphics card 5000", "", "digits-a → digits-b winning, level 3, seed 0"),
    "2": ("idle", "4343", "", "", ""),
}
SPARE = ("card", "pid")


@pytest.mark.parametrize("width", range(40, 140, 5))
def test_columns_go_in_order_until_the_last_has_its_least_room(width: int) -> None:
    headings, rows = fitted(HEADINGS, ROWS, SPARE, 20, width)
    columns = [*zip(headings, *rows.values(), strict=True)]
    assert "loss" not in headings  # a column without values
    assert [name for name in HEADINGS if name in headings] == headings
    gone = [name for name in SPARE if name not in headings]
    assert gone == list(SPARE[: len(gone)])
    taken = FRAME + sum(max(map(cell_len, column)) + GAP for column in columns)
    assert taken <= max(width, FRAME + 8 + GAP + 20 + GAP)
    kept = {name: column[1] for name, column in zip(headings, columns, strict=True)}
    assert all(kept[name] == ROWS["1"][HEADINGS.index(name)] for name in headings[:-1])
    assert ROWS["1"][-1].startswith(kept["run"].removesuffix("…"))
    assert cell_len(kept["run"]) >= 20
    wider, _ = fitted(HEADINGS, ROWS, SPARE, 20, width + 5)
    assert set(headings) <= set(wider)


def test_nothing_to_show_has_no_columns() -> None:
    assert fitted(HEADINGS, {}, SPARE, 20, 80) == ([], {})
