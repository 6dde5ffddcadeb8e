"""Curves and their charts."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.views import axes, charts, curves, differences, epochs, legends
from cockpit.views.canvas import Colour, Row, mix
from cockpit.views.legends import View
from engine.store.live import Live
from tests.cockpit.curves import DENSE_MEAN, curve, dense
from tests.cockpit.pictures import FIXTURE


def plain(rows: list[Row]) -> list[str]:
    return ["".join(piece.text for piece in row) for row in rows]


def drawn(rows: list[Row]) -> str:
    return "\n".join(plain(rows))


def tinted(rows: list[Row]) -> list[int]:
    """The rows with a tinted background."""
    return [number for number, row in enumerate(rows) if any(piece.background for piece in row)]


@pytest.mark.parametrize("size", [(24, 6), (80, 20), (200, 55)])
@pytest.mark.parametrize("x", axes.AXES)
@pytest.mark.parametrize("spread", charts.SPREADS)
def test_a_chart_fills_the_size_that_it_is_given(size: tuple[int, int], x: str, spread: charts.Spread) -> None:
    view = View(x=x, spread=spread, crosshair=2)
    lines = plain(charts.draw([curve(), curve("random", "random-global"), dense()], view, *size))
    assert [len(line) for line in lines] == [size[0]] * size[1]


@pytest.mark.parametrize("size", [(40, 12), (80, 20), (200, 55)])
def test_lines_reach_from_the_first_level_to_the_last_whatever_the_terminal_is(size: tuple[int, int]) -> None:
    where = charts.layout([curve()], View(spread="none"), *size)
    rows = plain(charts.draw([curve()], View(spread="none"), *size))[:-2]
    reached = {column for row in rows for column, letter in enumerate(row[where.left :]) if letter != " "}
    assert reached == set(range(where.x.cells))


def test_a_chart_whose_curves_are_all_hidden_is_empty_and_still_has_its_size() -> None:
    lines = plain(charts.draw([curve()], View(hidden=frozenset({"winning"})), 60, 15))
    assert len(lines) == 15
    assert "●" not in "".join(lines)


def test_hiding_a_curve_leaves_the_others_their_colours_and_markers() -> None:
    shown = [curve("one"), curve("two"), curve("three")]
    rows = charts.draw(shown, View(hidden=frozenset({"one"})), 60, 15)
    assert "●" not in drawn(rows)
    assert legends.COLOURS[1] in {piece.colour for row in rows for piece in row if "×" in piece.text}


def test_dense_networks_are_grey_and_no_other_curve_is_however_many_there_are() -> None:
    others = [legends.style(number, curve(str(number))) for number in range(56)]
    assert len(set(others)) == 56
    dense_colour, _ = legends.style(56, dense())
    assert dense_colour == legends.NEUTRAL
    assert dense_colour not in {colour for colour, _ in others}


def test_bands_tint_one_deviation_and_nothing_beyond() -> None:
    flat = curve(means=(0.5,) * 4, deviations=(0.25,) * 4)
    view = View(spread="bands", full=True)
    shaded = tinted(charts.draw([flat], view, 80, 43))
    where = charts.layout([flat], view, 80, 43).y
    assert [shaded[0], shaded[-1]] == [where.cells - 1 - where.cell(value) for value in (0.75, 0.25)]
    assert not tinted(charts.draw([flat], View(spread="none"), 80, 43))


def test_a_band_has_no_holes_whatever_overlaps_it() -> None:
    shown = [curve(str(number), means=(0.5 + number / 50,) * 4, deviations=(0.1,) * 4) for number in range(5)]
    rows = charts.draw(shown, View(spread="bands", full=True), 80, 43)
    covered = tinted(rows)
    assert covered == list(range(covered[0], covered[-1] + 1))
    for row in rows[covered[1] : covered[-1]]:
        assert all(piece.background for piece in row[1:])


def test_a_single_replicate_has_no_band() -> None:
    one = curve(deviations=(None,) * 4, counts=(1,) * 4, planned=(1,) * 4)
    assert not tinted(charts.draw([one], View(spread="bands"), 80, 20))


def lines_of(rows: list[Row]) -> dict[Colour | None, int]:
    """The number of cells of braille lines, by colour."""
    found: dict[Colour | None, int] = {}
    for piece in (piece for row in rows for piece in row):
        dots = sum(0x2800 < ord(letter) < 0x2900 for letter in piece.text)
        found[piece.colour] = found.get(piece.colour, 0) + dots
    return {colour: count for colour, count in found.items() if count}


def test_random_tickets_are_as_solid_as_winning_ones_and_dimmer() -> None:
    flat = curve(means=(0.5,) * 4, deviations=(0.0,) * 4)
    solid, dim = (lines_of(charts.draw([one], View(), 80, 20)) for one in (flat, replace(flat, ticket="random-global")))
    assert list(solid.values()) == list(dim.values())
    assert list(dim) == [mix(legends.COLOURS[0], View().background, charts.DIMNESS)]


def test_the_dense_rule_lies_under_curves_and_never_over_them() -> None:
    level = curve(means=(DENSE_MEAN,) * 4)
    row = next(line for line in plain(charts.draw([level, dense()], View(spread="none"), 80, 20)) if "●" in line)
    assert legends.RULE not in row


@pytest.mark.parametrize("several", [2, 3, 5, 8, 9])
@pytest.mark.parametrize("levels", [4, 60])
def test_no_curve_is_hidden_at_a_level_without_a_sign(several: int, levels: int) -> None:
    one = curve(
        levels=tuple(range(levels)),
        remaining=tuple(0.9**level for level in range(levels)),
        means=(0.5,) * levels,
        deviations=(1,) * levels,
        counts=(1,) * levels,
        planned=(1,) * levels,
    )
    shown = [replace(one, name=str(number)) for number in range(several)]
    text = "".join(plain(charts.draw(shown, View(full=True, spread="none"), 80, 20))[:-2])
    markers = {marker: text.count(marker) for marker in legends.MARKERS[:several]}
    assert sum(map(text.count, legends.MORE)) or all(markers.values())
    if levels == 4 and several <= 7:
        assert markers == dict.fromkeys(markers, levels)


def test_a_point_with_missing_replicates_shows_how_many_it_has() -> None:
    partial = curve(counts=(3, 3, 2, 3))
    assert "2" not in "".join(line[4:] for line in plain(charts.draw([curve()], View(), 80, 20))[:-2])
    assert "2" in "".join(line[4:] for line in plain(charts.draw([partial], View(), 80, 20))[:-2])
    assert any("replicates" in sign for sign in legends.signs([partial], View()))
    assert not legends.signs([curve()], View())
    (entry,) = legends.legend([partial], View())
    assert entry.count == "n=2-3 of 3"
    (entry,) = legends.legend([partial], View(crosshair=2))
    assert (entry.reading, entry.count) == ("89.0 ± 3.0", "n=2 of 3")


def test_the_crosshair_reads_every_curve_at_its_level_and_stands_over_it() -> None:
    shown = [curve(), curve("random", "random-global", levels=(0, 1), remaining=(1.0, 0.5), means=(0.8, 0.6),
                            deviations=(0.1, None), counts=(2, 1), planned=(2, 1)), dense()]  # fmt: skip
    view = View(crosshair=1)
    readings = [(entry.reading, entry.count) for entry in legends.legend(shown, view)]
    assert readings == [("91.0 ± 2.0", "n=3"), ("60.0", "n=1"), ("90.0 ± 2.0", "n=3")]
    where = charts.layout(shown, view, 80, 20)
    column = where.left + where.x.cell(axes.place(0.5, "remaining"))
    lines = plain(charts.draw(shown, view, 80, 20))[: where.y.cells]
    assert sum(line[column] == "│" for line in lines) > where.y.cells / 2
    assert [entry.reading for entry in legends.legend(shown, View(crosshair=3))][1] == "—"


def test_a_level_that_means_another_sparsity_on_another_curve_says_so() -> None:
    halved = curve("other", remaining=(1.0, 0.8, 0.64, 0.5))
    remarks = legends.legend([curve(), halved], View(crosshair=2))[1].remarks
    assert "level 2 is 64 % here" in remarks


@pytest.mark.parametrize(
    ("means", "last"),
    [
        ((0.92, 0.91, 0.89, 0.7), 2),  # never below 0.9 - 0.02 before level 3
        ((0.95, 0.95, 0.95, 0.95), 3),
        ((0.95, 0.7, 0.95, 0.95), 0),  # it falls below later
        ((0.7, 0.95, 0.95, 0.95), None),
    ],
)
def test_a_winning_ticket_matches_dense_as_long_as_it_stays_within_its_deviation(
    means: tuple[float, ...], last: int | None
) -> None:
    one = curve(means=means)
    assert curves.matched(one, [one, dense()]) == last


def test_what_matches_dense_is_marked_and_named_but_only_against_the_same_training() -> None:
    shown = [curve(), curve("random", "random-global"), dense()]
    winning, random, _ = legends.legend(shown, View())
    assert winning.remarks == ("matches dense down to 25 %",)
    assert random.remarks == ()
    assert legends.MATCH in drawn(charts.draw(shown, View(), 80, 20))
    assert any(legends.MATCH in sign for sign in legends.signs(shown, View()))
    for other in ({"target": "c"}, {"optimizer": "adam"}, {"experiment": "f"}, {"deviations": (None,)}):
        assert curves.matched(curve(), [curve(), dense(**other)]) is None


def test_levels_without_weights_are_not_on_the_log_axis_and_the_legend_says_so() -> None:
    emptied = curve(remaining=(1.0, 0.5, 0.25, 0.0))
    assert legends.legend([emptied], View())[0].remarks == ("no weights left at level 3: not on this axis",)
    assert drawn(charts.draw([emptied], View(spread="bands", crosshair=3), 80, 20)).count("●") == 3
    assert legends.legend([emptied], View(x="pruned"))[0].remarks == ()
    assert drawn(charts.draw([emptied], View(x="pruned"), 80, 20)).count("●") == 4


@pytest.mark.parametrize("x", axes.AXES)
@pytest.mark.parametrize("width", [24, 60, 200])
@pytest.mark.parametrize("levels", [1, 2, 5, 31])
def test_ticks_are_at_real_levels_only_the_first_and_the_last_among_them(x: str, width: int, levels: int) -> None:
    remaining = [0.8**level for level in range(levels)]
    axis = axes.sparsity(remaining, x, None, width)
    places = [axes.place(left, x) for left in remaining]
    assert set(axis.ticks) <= set(places)
    assert {places[0], places[-1]} <= set(axis.ticks)
    starts = axes.starts(axis)
    ends = [start + len(label) for start, label in zip(starts, axis.labels, strict=True)]
    assert all(start > end for start, end in zip(starts[1:], ends, strict=False))


def test_the_ends_of_curves_are_named_where_there_is_room() -> None:
    shown = [curve("own"), curve("from SVHN", means=(0.8,) * 4), dense()]
    assert charts.labelled(shown, View(), 80, 20)
    assert not charts.labelled(shown, View(), 40, 20)
    assert not charts.labelled([*shown, curve("n" * 60)], View(), 80, 20)
    assert not charts.labelled([curve(str(number)) for number in range(20)], View(), 80, 20)
    view = View(labelled=True, crosshair=1)
    lines = plain(charts.draw(shown, view, 80, 20))
    assert [len(line) for line in lines] == [80] * 20
    assert any("● 91.0 ±" in line for line in lines)
    lines = plain(charts.draw(shown, replace(view, crosshair=None), 80, 20))
    for marker, name in (("●", "own"), ("×", "from SVHN"), ("─", "dense")):
        assert sum(line.rstrip().endswith(f" {marker} {name}") for line in lines) == 1


@pytest.mark.parametrize("width", range(40, 161, 4))
def test_no_name_at_the_end_of_a_curve_is_cut_by_a_reading(width: int) -> None:
    shown = [curve("own, layerwise"), curve("from SVHN", means=(0.8,) * 4), dense()]
    view = View(crosshair=1)
    if charts.labelled(shown, view, width, 20):
        said = drawn(charts.draw(shown, replace(view, labelled=True), width, 20))
        assert all(one.called in said for one in shown)
    assert charts.labelled(shown, view, width, 20) == (
        width >= charts.LEAST_PLOT + charts.AXIS + 3 + 14 + charts.READING
    )


@given(st.lists(st.floats(-5, 30), max_size=12), st.integers(12, 30))
def test_names_at_the_ends_keep_their_order_and_never_share_a_row(heights: list[float], rows: int) -> None:
    chosen = charts._apart(heights, rows)
    assert len(set(chosen)) == len(heights)
    assert all(0 <= row < rows for row in chosen)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    assert [chosen[i] for i in order] == sorted(chosen)


RUN = Live(level=3, remaining=0.125, accuracy=0.6, epochs=4, losses=(2.0, 0.5), accuracies=(0.3, 0.6))


def test_a_run_in_training_is_a_hollow_marker_at_its_level_with_and_without_results() -> None:
    partial = curve(levels=(0, 1), remaining=(1.0, 0.5), means=(0.9, 0.8), deviations=(None, None), counts=(1, 1),
                    planned=(1, 1), plan=(1.0, 0.5, 0.25, 0.125), live=(RUN,))  # fmt: skip
    empty: dict[str, Any] = {"levels": (), "remaining": (), "means": (), "deviations": (), "counts": (), "planned": ()}
    for shown in ([partial], [replace(partial, **empty)], [partial, dense(**empty, live=(replace(RUN, level=0),))]):
        view = View(spread="bands", labelled=True)
        lines = plain(charts.draw(shown, view, 80, 20))
        where = charts.layout(shown, view, 80, 20)
        column = where.left + where.x.cell(axes.place(0.125, "remaining"))
        row = where.y.cells - 1 - where.y.cell(0.6)
        assert lines[row][column] == legends.LIVE
        assert [len(line) for line in lines] == [80] * 20
        assert any("in training" in sign for sign in legends.signs(shown, view))
        assert legends.legend(shown, View(crosshair=0))


def test_the_axis_spans_the_planned_levels_from_the_first_result_on() -> None:
    first = curve(levels=(0,), remaining=(1.0,), means=(0.9,), deviations=(None,), counts=(1,), planned=(1,))
    assert charts.layout([first], View(), 80, 20).x.high == pytest.approx(0.1)
    planned = charts.layout([replace(first, plan=(1.0, 0.5, 0.25))], View(), 80, 20).x
    assert planned.high == pytest.approx(axes.place(0.25, "remaining"))
    assert planned.labels == ("100", "50", "25")


@pytest.mark.parametrize("width", [30, 48, 80, 200])
@pytest.mark.parametrize("done", [1, 2, 4])
def test_epochs_are_drawn_over_those_that_are_planned(width: int, done: int) -> None:
    run = replace(RUN, losses=RUN.losses[:1] * done, accuracies=RUN.accuracies[:1] * done)
    rows = plain(epochs.draw(run, width, (0, 0, 0)))
    assert len(rows) == epochs.HEIGHT
    assert f"epoch {done} of 4" in rows[0] if width >= 80 else f"epoch {done}/4" in rows[0]
    assert rows[0].endswith(f"{RUN.accuracies[0]:.1%}")
    assert len(rows[0]) <= width
    assert all(len(line) == width for line in rows[1:])
    assert drawn(epochs.draw(run, width, (0, 0, 0))).count(legends.LIVE) == 2


def test_curves_are_compared_at_levels_that_all_have_if_enough_of_them_do() -> None:
    few: dict[str, Any] = {"levels": (0, 2, 3), "remaining": (1.0, 0.3, 0.2)}
    few |= dict.fromkeys(("means", "deviations"), (0.5,) * 3) | dict.fromkeys(("counts", "planned"), (2,) * 3)
    shown = [curve(), curve("from SVHN", **few), dense()]
    assert differences.levels(shown, None, 3) == [0, 2, 3]
    assert differences.levels(shown, 1, 3) == [1, 0, 2]
    assert differences.levels(shown, None, 4) == list(curve().levels)


def test_zooming_in_keeps_the_point_and_zooming_out_ends_with_the_whole() -> None:
    shown = [curve(), dense()]
    near = charts.zoomed(shown, View(), 0.5, 0.4, 0.9)
    assert near.x_range is not None
    assert near.y_range is not None
    whole = charts.layout(shown, View(), 80, 24)
    assert near.x_range[1] - near.x_range[0] == pytest.approx((whole.x.high - whole.x.low) / 2)
    assert near.x_range[0] <= 0.4 <= near.x_range[1]
    assert near.y_range[0] <= 0.9 <= near.y_range[1]
    assert len(plain(charts.draw(shown, near, 80, 24))) == 24
    view = near
    for _ in range(30):
        view = charts.zoomed(shown, view, 0.7, 0.4, 0.9)
    assert len(plain(charts.draw(shown, view, 80, 24))) == 24
    for _ in range(60):
        view = charts.zoomed(shown, view, 1.5, 0.4, 0.9)
    assert (view.x_range, view.y_range) == (None, None)


def test_curves_are_grouped_by_target_and_those_tickets_are_only_found_on_come_last() -> None:
    own = curve("chain", target="a")
    shown = [own, curve(), curve("random", "random-global", source=None), dense()]
    by_target = curves.groups(shown, "target")
    assert [(name, len(found)) for name, found in by_target.items()] == [("b", 3), ("a", 1)]
    assert [len(found) for found in curves.groups(shown, "experiment").values()] == [4]
    by_ticket = curves.groups(shown, "ticket")
    assert [one.name for one in by_ticket["random-global tickets"]] == ["random", "dense"]


def test_curves_of_several_experiments_carry_their_names() -> None:
    assert [one.name for one in curves.with_experiments([curve()])] == ["winning"]
    both = curves.with_experiments([curve(), curve(experiment="f")])
    assert [one.name for one in both] == ["e: winning", "f: winning"]


@pytest.mark.parametrize(("environment", "is_tinted"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_plot_prints_bands_where_there_are_colours_that_blend(environment: dict[str, str], is_tinted: bool) -> None:
    colours = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": "80"}
    command = [sys.executable, "-m", "cockpit", "plot", "halves", "--db", str(FIXTURE)]
    done = subprocess.run(command, env={**os.environ, **colours, **environment}, capture_output=True, check=True)
    assert ("\x1b[48;2;" in done.stdout.decode() or ";48;2;" in done.stdout.decode()) == is_tinted
