"""Curves and their charts."""

import re
from dataclasses import replace
from typing import Any

import pytest

from cockpit.views import charts, curves
from cockpit.views.charts import View
from cockpit.views.curves import Series

DENSE_MEAN = 0.9


def curve(name: str = "winning", ticket: str = "winning", **changes: Any) -> Series:
    """A curve of four levels, trained on b."""
    found = Series(
        name=name,
        experiment="e",
        source="a",
        target="b",
        model="m",
        optimizer="sgd",
        ticket=ticket,
        levels=(0, 1, 2, 3),
        remaining=(1.0, 0.5, 0.25, 0.125),
        means=(0.92, 0.91, 0.89, 0.7),
        deviations=(0.01, 0.02, 0.03, 0.04),
        counts=(3, 3, 3, 3),
        planned=(3, 3, 3, 3),
    )
    return replace(found, **changes)


def dense(**changes: Any) -> Series:
    """The dense network of those curves."""
    return curve(
        **{
            "name": "dense",
            "ticket": "dense",
            "source": None,
            "levels": (0,),
            "remaining": (1.0,),
            "means": (DENSE_MEAN,),
            "deviations": (0.02,),
            "counts": (3,),
            "planned": (3,),
            **changes,
        }
    )


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


@pytest.mark.parametrize("size", [(24, 6), (80, 20), (200, 55)])
@pytest.mark.parametrize("x", charts.AXES)
@pytest.mark.parametrize("spread", charts.SPREADS)
def test_a_chart_fills_the_size_that_it_is_given(size: tuple[int, int], x: str, spread: charts.Spread) -> None:
    view = View(x=x, spread=spread, crosshair=2)
    lines = plain(charts.draw([curve(), curve("random", "random-global"), dense()], view, *size))
    assert [len(line) for line in lines] == [size[0]] * size[1]


def test_a_chart_whose_curves_are_all_hidden_is_empty_and_still_has_its_size() -> None:
    lines = plain(charts.draw([curve()], View(hidden=frozenset({"winning"})), 60, 15))
    assert len(lines) == 15
    assert "●" not in "".join(lines)


def test_hiding_a_curve_leaves_the_others_their_colours_and_markers() -> None:
    shown = [curve("one"), curve("two"), curve("three")]
    text = charts.draw(shown, View(hidden=frozenset({"one"})), 60, 15)
    assert "●" not in text
    assert "×" in text
    assert f"38;2;{';'.join(map(str, charts.COLOURS[1]))}m" in text


def test_dense_networks_are_grey_and_no_other_curve_is_however_many_there_are() -> None:
    others = [charts.style(number, curve(str(number))) for number in range(56)]
    assert len(set(others)) == 56
    dense_colour, _ = charts.style(56, dense())
    assert dense_colour == charts.NEUTRAL
    assert dense_colour not in {colour for colour, _ in others}


def test_bands_shade_one_deviation_and_nothing_beyond() -> None:
    flat = curve(means=(0.5,) * 4, deviations=(0.25,) * 4)
    view = View(spread="bands", full=True)
    shaded = [number for number, line in enumerate(plain(charts.draw([flat], view, 80, 43))) if charts.SHADE in line]
    where = charts.layout([flat], view, 80, 43).y
    assert [shaded[0], shaded[-1]] == [where.cells - 1 - where.cell(value, 4) for value in (0.75, 0.25)]
    assert not any(charts.SHADE in line for line in plain(charts.draw([flat], View(spread="none"), 80, 43)))


def test_a_single_replicate_has_no_band() -> None:
    one = curve(deviations=(None,) * 4, counts=(1,) * 4, planned=(1,) * 4)
    assert charts.SHADE not in charts.draw([one], View(spread="bands"), 80, 20)


def test_random_tickets_are_dashed_and_winning_ones_are_not() -> None:
    flat = curve(means=(0.5,) * 4, deviations=(0.0,) * 4)
    random = replace(flat, ticket="random-global")
    solid, dashed = (
        sum(0x2800 < ord(letter) < 0x2900 for letter in charts.draw([one], View(), 80, 20)) for one in (flat, random)
    )
    assert 0 < dashed < 0.8 * solid


def test_a_point_with_missing_replicates_shows_how_many_it_has() -> None:
    partial = curve(counts=(3, 3, 2, 3))
    assert "2" not in "".join(plain(charts.draw([curve()], View(), 80, 20))[:-3])[8:].replace("25", "")
    drawn = [line[4:] for line in plain(charts.draw([partial], View(), 80, 20))[:-3]]
    assert "2" in "".join(drawn)
    (entry,) = charts.legend([partial], View())
    assert entry.count == "n=2-3 of 3"
    (entry,) = charts.legend([partial], View(crosshair=2))
    assert (entry.reading, entry.count) == ("89.0 ± 3.0", "n=2 of 3")


def test_the_crosshair_reads_every_curve_at_its_level_and_stands_over_it() -> None:
    shown = [curve(), curve("random", "random-global", levels=(0, 1), remaining=(1.0, 0.5), means=(0.8, 0.6),
                            deviations=(0.1, None), counts=(2, 1), planned=(2, 1)), dense()]  # fmt: skip
    view = View(crosshair=1)
    readings = [(entry.reading, entry.count) for entry in charts.legend(shown, view)]
    assert readings == [("91.0 ± 2.0", "n=3"), ("60.0", "n=1"), ("90.0 ± 2.0", "n=3")]
    where = charts.layout(shown, view, 80, 20)
    column = where.left + where.x.cell(charts.place(0.5, "remaining"), 2)
    lines = plain(charts.draw(shown, view, 80, 20))[: where.y.cells]
    assert sum(line[column] == "│" for line in lines) > where.y.cells / 2
    assert [entry.reading for entry in charts.legend(shown, View(crosshair=3))][1] == "—"


def test_a_level_that_means_another_sparsity_on_another_curve_says_so() -> None:
    halved = curve("other", remaining=(1.0, 0.8, 0.64, 0.5))
    remarks = charts.legend([curve(), halved], View(crosshair=2))[1].remarks
    assert "level 2 is 64 % here" in remarks


@pytest.mark.parametrize(
    ("means", "last"),
    [
        ((0.92, 0.91, 0.89, 0.7), 2),  # never below 0.9 - 0.02 before level 3
        ((0.95, 0.95, 0.95, 0.95), 3),
        ((0.95, 0.7, 0.95, 0.95), 0),  # it does not stay there
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
    winning, random, _ = charts.legend(shown, View())
    assert winning.remarks == ("matches dense down to 25 %",)
    assert random.remarks == ()
    assert charts.MATCH in charts.draw(shown, View(), 80, 20)
    for other in ({"target": "c"}, {"optimizer": "adam"}, {"experiment": "f"}, {"deviations": (None,)}):
        assert curves.matched(curve(), [curve(), dense(**other)]) is None


def test_levels_without_weights_are_not_on_the_log_axis_and_the_legend_says_so() -> None:
    emptied = curve(remaining=(1.0, 0.5, 0.25, 0.0))
    assert charts.legend([emptied], View())[0].remarks == ("no weights left at level 3: not on this axis",)
    assert charts.draw([emptied], View(spread="bands", crosshair=3), 80, 20).count("●") == 3
    assert charts.legend([emptied], View(x="pruned"))[0].remarks == ()
    assert charts.draw([emptied], View(x="pruned"), 80, 20).count("●") == 4


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
