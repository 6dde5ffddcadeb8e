"""Pages of a file: paging shows every line once, and searching finds existing text."""

import random
from io import BytesIO

import pytest

from cockpit.views import pager

TEXT = "".join(f"line {number} {'x' * (number * 37 % 300)}\n" for number in range(5000)).encode()


def always() -> bool:
    return True


def test_pages_put_together_are_the_file() -> None:
    file, lines, top = BytesIO(TEXT), list[str](), 0
    while top < len(TEXT):
        found = pager.page(file, top, 50)
        lines += found.lines
        top = found.end
    assert "\n".join(lines) + "\n" == TEXT.decode()


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_back_undoes_forward(ending: bytes) -> None:
    data = TEXT.rstrip() + ending
    file, chance, starts = BytesIO(data), random.Random(0), [0]
    while starts[-1] < len(data):
        starts.append(pager.forward(file, starts[-1], 1))
    for _ in range(300):
        there, count = chance.randrange(1, len(starts)), chance.randrange(1, 60)
        assert pager.back(file, starts[there], count) == starts[max(0, there - count)]


def test_the_end_fills_a_page() -> None:
    found = pager.page(BytesIO(TEXT), len(TEXT), 10)
    assert [line.split()[1] for line in found.lines] == [str(number) for number in range(4990, 5000)]


def test_a_file_without_line_ends_is_cut_into_lines() -> None:
    file = BytesIO(b"y" * 10_000_000)
    assert [len(line) for line in pager.page(file, 0, 3).lines] == [pager.LONGEST] * 3
    assert pager.page(file, 10_000_000, 3).end == 10_000_000
    assert pager.back(file, 9_999_999, 5) < 9_999_999


def test_an_empty_file_is_an_empty_page() -> None:
    assert pager.page(BytesIO(b""), 0, 10) == pager.Page((), (), 0, 0)


def test_what_a_search_finds_is_what_bytes_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager, "CHUNK", 777)  # so that lines cross chunk borders
    file = BytesIO(TEXT)
    for start in range(0, len(TEXT), 9973):
        for word in ("line 4", "LINE", "x\nl", "absent"):
            low = TEXT.lower() if word.islower() else TEXT
            ahead, behind = low.find(word.encode(), start), low.rfind(word.encode(), 0, start + len(word) - 1)
            assert pager.find(file, word, start, True, always) == (ahead if ahead >= 0 else None)
            assert pager.find(file, word, start, False, always) == (behind if behind >= 0 else None)


def test_a_search_that_is_not_wanted_any_more_ends() -> None:
    assert pager.find(BytesIO(TEXT), "line 4999", 0, True, lambda: False) is None
