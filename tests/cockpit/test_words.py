"""Durations, sizes and tables as text."""

import re

import pytest
from rich.cells import cell_len

from cockpit.text import words
from cockpit.views import tables


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.2, "1 s"),
        (45.0, "45 s"),
        (59.5, "1 min"),
        (125.0, "2 min 5 s"),
        (11_520.0, "3 h 12 min"),
        (3599.5, "1 h"),
        (7199.0, "2 h"),
        (86_399.0, "1 d"),
        (267_084.0, "3 d 3 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (15_465, "15.1 KiB"), (2.58e6, "2.5 MiB"), (3e15, "2728.5 TiB")],
)
def test_a_size_has_one_unit(count: float, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize("text", ["digits", "日本語日本語", "a日本", "e\u0301te\u0301", "±±±±±±", ""])
@pytest.mark.parametrize("width", [2, 3, 4, 5, 12])
def test_a_shortened_text_has_room_in_its_columns(text: str, width: int) -> None:
    found = words.short(text, width)
    assert cell_len(found) == min(cell_len(text), width)
    assert (found == text) == (cell_len(text) <= width)


def test_a_table_is_aligned_and_takes_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["[red]one", "1 ± 2", "3"], ["日本", "", "12"]]
    tables.show(["name", "digits-a -> digits-b winning", "n"], rows, left=1)
    assert capsys.readouterr().out.splitlines() == [
        "               digits-a ->",
        "name      digits-b winning   n",
        "[red]one             1 ± 2   3",
        "日本                        12",
    ]


def test_on_a_terminal_without_room_the_texts_of_a_row_stand_above_its_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    headings = ["curve", "of", "mean of all", "n"]
    rows = [["a to b", "tiny", "1.0 ± 2.0", "3"], ["a rather long name", "tiny", "10.0", "12"]]
    tables.show(headings, rows, left=2)
    assert len(capsys.readouterr().out.splitlines()) == 3
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich assume a terminal
    monkeypatch.setenv("COLUMNS", "22")
    tables.show(headings, rows, left=2)
    assert re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines() == [
        "curve  of",
        "  mean of all   n",
        "a to b  tiny",
        "    1.0 ± 2.0   3",
        "a rather long name",
        "tiny",
        "         10.0  12",
    ]
    tables.say("words that have no room in a line")
    assert capsys.readouterr().out.splitlines() == ["words that have no ", "room in a line"]
