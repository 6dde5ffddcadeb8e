"""What a person reads: durations, sizes, tables."""

import pytest

from cockpit import tables, words


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


def test_a_table_is_aligned_and_takes_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["[red]one", "1 ± 2", "3"], ["日本", "", "12"]]
    tables.show(["name", "digits-a -> digits-b winning", "n"], rows, left=1)
    assert capsys.readouterr().out.splitlines() == [
        "               digits-a ->",
        "name      digits-b winning   n",
        "[red]one             1 ± 2   3",
        "日本                        12",
    ]
