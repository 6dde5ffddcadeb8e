"""The canvas of charts: lines stay inside, backgrounds blend."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.views.canvas import Canvas, Colour, Spot

BLACK, RED, BLUE = (0, 0, 0), (200, 0, 0), (0, 0, 200)
FAR = st.floats(-1e6, 1e6)


def background(*tints: tuple[float, float, Colour]) -> Colour | None:
    """The background of the second cell of a column, with tints from one height to another."""
    canvas = Canvas(1, 3, BLACK)
    for top, bottom, colour in tints:
        canvas.tint(0, top, bottom, colour, 0.5)
    return list(canvas.rows())[1][0].background


def test_a_cell_is_tinted_as_far_as_it_is_covered() -> None:
    assert background((1, 2, RED)) == (100, 0, 0)
    assert background((0, 3, RED)) == (100, 0, 0)
    assert background((1.5, 2.5, RED)) == (50, 0, 0)
    assert background((2, 3, RED)) is None


def test_where_tints_overlap_their_colours_blend_in_any_order() -> None:
    tints = [(1, 2, RED), (1, 1.5, BLUE), (0, 3, (0, 90, 0))]
    assert len({background(*order) for order in permutations(tints)}) == 1
    red, green, blue = background((1, 2, RED), (1, 2, BLUE)) or BLACK
    assert red == blue > 0 == green
    assert sum((red, green, blue)) > 100  # two curves are brighter than one


@given(FAR, FAR, FAR, FAR)
def test_a_line_stays_on_the_canvas_and_every_row_has_its_width(x: float, y: float, x_to: float, y_to: float) -> None:
    canvas = Canvas(10, 4, BLACK)
    canvas.lines([([(x, y), (x_to, y_to)], RED)])
    rows = list(canvas.rows())
    assert [sum(len(piece.text) for piece in row) for row in rows] == [10] * 4


@pytest.mark.parametrize(("line", "letters"), [([(0, 0.1), (2, 0.1)], "⠉⠉"), ([(0.1, 0), (0.1, 1)], "⡇ ")])
def test_lines_are_braille_dots_over_what_was_there_the_last_on_top(line: list[Spot], letters: str) -> None:
    canvas = Canvas(2, 1, BLACK)
    canvas.put(0, 0, "─")
    canvas.lines([(line, RED)])
    assert "".join(piece.text for piece in next(canvas.rows())) == letters
    canvas.lines([(line, RED), ([(0, 0.99), (2, 0.99)], BLUE)])
    assert {piece.colour for piece in next(canvas.rows())} == {BLUE}


def test_a_line_leaves_the_canvas_and_comes_back_where_it_does() -> None:
    canvas = Canvas(9, 3, BLACK)
    canvas.lines([([(0.5, 1.5), (4.5, -2.5), (8.5, 1.5)], RED)])
    top, middle, bottom = ("".join(piece.text for piece in row) for row in canvas.rows())
    assert top[1:3].strip()
    assert top[6:8].strip()
    assert (top[3:6] + middle[2:7] + bottom).strip() == ""
