"""Differences of curves from the first one shown, paired by seed, with intervals, as cells and as curves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from cockpit.views.curves import DENSE, Series, evenly
from engine.analysis.statistics import Difference, paired

Seeds = tuple[tuple[tuple[int, float], ...], ...]  # by index of the level: (seed, accuracy) pairs


def between(one: Series, first: Series) -> Mapping[int, Difference]:
    """The accuracy of one curve less another's over shared seeds, by level."""
    return _between(one.levels, one.seeds, first.levels, first.seeds)


@lru_cache(maxsize=1000)
def _between(levels: tuple[int, ...], own: Seeds, of_first: tuple[int, ...], others: Seeds) -> dict[int, Difference]:
    theirs = dict(zip(of_first, others, strict=True)) if others else {}
    found = {
        level: paired(dict(seeds), dict(theirs[level]))
        for level, seeds in zip(levels, own, strict=bool(own))
        if level in theirs
    }
    return {level: difference for level, difference in found.items() if difference is not None}


def levels(shown: Sequence[Series], crosshair: int | None, most: int) -> list[int]:
    """The levels to compare at: the crosshair's, then evenly spaced ones of the first curve, if possible of all."""
    tickets = [one for one in shown if one.ticket != DENSE and one.levels]
    if not tickets:
        return []
    first = tickets[0]
    shared = [level for level in first.levels if all(level in one.levels for one in tickets)]
    chosen = evenly(shared if len(shared) >= most else first.levels, most)
    return chosen if crosshair is None or crosshair not in first.levels else [
        crosshair, *[level for level in chosen if level != crosshair][: most - 1]
    ]  # fmt: skip


Form = Literal["full", "brief", "briefest"]


def cell(one: Series, first: Series, level: int, form: Form) -> str:
    """Mean and deviation at a level in per cent, and the difference from the first curve in points, with its interval.

    A brief cell leaves the deviation out if it has a difference; the briefest has ± half of the interval.
    """
    if level not in one.levels:
        return ""
    place = one.levels.index(level)
    difference = None if one.name == first.name else between(one, first).get(level)
    if difference is None:
        return one.value(place)
    if form == "full":
        return f"{one.value(place)}  {said(difference)}"
    half = _half(difference)
    briefest = f"{difference.mean * 100:+.1f}" + ("" if half is None else f" ± {half * 100:.1f}")
    return f"{one.means[place] * 100:.1f} {briefest if form == 'briefest' else said(difference)}"


def said(difference: Difference) -> str:
    """A difference in points: +1.3 [0.2, 2.4]; without the interval if pairs are too few."""
    text = f"{difference.mean * 100:+.1f}"
    return (
        text
        if difference.low is None or difference.high is None
        else f"{text} [{difference.low * 100:.1f}, {difference.high * 100:.1f}]"
    )


def drawn(shown: Sequence[Series]) -> tuple[Series, ...]:
    """The curves less the first, which becomes a rule at 0; their deviations are half the intervals."""
    first = next((one for one in shown if one.ticket != DENSE and one.levels), None)
    if first is None:
        return tuple(shown)
    found = []
    for one in shown:
        if one is first:
            zero = replace(
                one, ticket=DENSE, levels=(0,), remaining=(1.0,), means=(0.0,), deviations=(None,),
                counts=one.counts[:1], planned=one.planned[:1], live=(), label=f"{one.called} = 0",
            )  # fmt: skip
            found.append(zero)
        elif one.ticket != DENSE and (differences := between(one, first)):
            found.append(_less(one, differences))
    return tuple(found)


def _less(one: Series, differences: Mapping[int, Difference]) -> Series:
    kept = [place for place, level in enumerate(one.levels) if level in differences]
    every = [differences[one.levels[place]] for place in kept]
    return replace(
        one,
        levels=tuple(one.levels[place] for place in kept),
        remaining=tuple(one.remaining[place] for place in kept),
        means=tuple(difference.mean for difference in every),
        deviations=tuple(_half(difference) for difference in every),
        counts=tuple(difference.n for difference in every),
        planned=tuple(difference.n for difference in every),
        seeds=(),
        live=(),
    )


def _half(difference: Difference) -> float | None:
    return None if difference.low is None or difference.high is None else (difference.high - difference.low) / 2
