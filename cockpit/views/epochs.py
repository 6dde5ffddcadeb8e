"""Loss and accuracy of a run in training by epoch, as a small chart."""

from collections.abc import Sequence
from itertools import pairwise
from math import floor

from cockpit.views.axes import Axis, framed, starts
from cockpit.views.canvas import Canvas, Colour, Piece, Row
from cockpit.views.legends import LIVE
from engine.store.live import Live

LOSS, ACCURACY = (213, 94, 0), (0, 114, 178)
HEIGHT = 7  # rows, including the heading


def draw(one: Live, width: int, background: Colour, state: str = " in training") -> list[Row]:
    """A heading and the two curves over all planned epochs; the axis of the loss is from 0 to its maximum."""
    most = max(one.losses) or 1.0
    heading = _heading(one, width, state)
    cells = HEIGHT - 3
    y = Axis(0.0, 1.0, (0.0, 1.0), ("0", f"{most:.2g} │ 100"), cells)
    left = 1 + max(map(len, y.labels))
    x = _epochs(one.epochs, max(2, width - left))
    canvas = Canvas(x.cells, cells, background)
    values = (([loss / most for loss in one.losses], LOSS), (one.accuracies, ACCURACY))
    lines = [
        ([(x.position(epoch), cells - y.position(value)) for epoch, value in enumerate(reached, 1)], colour)
        for reached, colour in values
    ]
    canvas.lines(lines)
    for spots, colour in lines:
        column, row = map(floor, spots[-1])
        canvas.put(column, row, LIVE, colour)
    return [heading, *framed(canvas.rows(), x, y)]


def _heading(one: Live, width: int, state: str) -> Row:
    """Level, epoch, loss and accuracy in as many words as fit."""
    done = len(one.losses)
    for epoch, loss, accuracy in (
        (f"level {one.level}{state}, epoch {done} of {one.epochs}: ", "loss ", "training accuracy "),
        (f"level {one.level}, epoch {done}/{one.epochs}: ", "loss ", "training "),
        (f"epoch {done}/{one.epochs}: ", "", ""),
    ):
        values = Piece(f"{loss}{one.losses[-1]:.3f}", LOSS), Piece(f"{accuracy}{one.accuracies[-1]:.1%}", ACCURACY)
        row = [Piece(epoch), values[0], Piece("  "), values[1]]
        if sum(len(piece.text) for piece in row) <= width:
            break
    return row


def _epochs(number: int, cells: int) -> Axis:
    """An axis with ticks at the first, middle and last epochs, if these differ and fit."""
    ticks: Sequence[int] = sorted({1, (number + 1) // 2, number})
    axis = Axis(1.0 - (number == 1), float(number), tuple(ticks), tuple(map(str, ticks)), cells)
    columns = starts(axis)
    has_room = all(after - before > len(str(number)) for before, after in pairwise(columns))
    return axis if has_room else Axis(axis.low, axis.high, (float(number),), (str(number),), cells)
