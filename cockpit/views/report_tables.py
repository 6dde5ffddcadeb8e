"""Statistics of the curves of an experiment as text and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cockpit.text import words
from cockpit.views.curves import evenly
from engine.analysis import statistics
from engine.analysis.reports import WHAT, Level, Report
from engine.analysis.statistics import Difference, Mean

FEW = 5  # most levels of a curve that a report shows
OVERVIEW = ("curve", "runs done", "replicates", "dense %", "matches dense down to")
INTERVAL = f"{statistics.CONFIDENCE * 100:g} %"


def percent(value: Mean | None) -> str:
    """An accuracy in per cent with its deviation and n."""
    if value is None:
        return "-"
    spread = "" if value.std is None else f" ± {value.std * 100:.1f}"
    return f"{value.mean * 100:.1f}{spread} (n={value.n})"


def points(value: Difference | None) -> str:
    """A difference of accuracies in percentage points with its interval and n."""
    if value is None:
        return "-"
    mean = f"{value.mean * 100:+.1f}"
    if value.low is None or value.high is None:
        why = "too few replicates" if value.n < statistics.LEAST else "no spread"
        return f"{mean}, {why} (n={value.n})"
    return f"{mean} [{value.low * 100:+.1f}, {value.high * 100:+.1f}] (n={value.n})"


def agreement(value: Difference) -> str:
    """The number of seeds whose difference has the sign of the mean, as text."""
    return f"{value.agreeing} of {value.n}"


def overview(reports: Sequence[Report]) -> list[list[str]]:
    """A row for each curve under `OVERVIEW`."""
    return [
        [
            words.name(one.curve.name),
            f"{one.curve.done}/{one.curve.planned}",
            _replicates(one),
            percent(one.dense),
            matches(one),
        ]
        for one in reports
    ]


def _replicates(one: Report) -> str:
    """The number of replicates of its levels, with the planned number if that is larger."""
    counts = [level.accuracy.n for level in one.levels] or [0]
    planned = max(map(len, one.curve.runs.values()))
    span = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    return span if min(counts) == planned else f"{span} of {planned}"


def matches(one: Report) -> str:
    """The sparsest level that matches dense, or why no level does."""
    if one.curve.ticket == "dense":
        return ""
    if one.matching is not None:
        return f"level {one.matching}, {(1 - one.curve.pruned[one.matching]) * 100:.3g} % left"
    if not one.levels:
        return "nothing is done yet"
    if one.dense is None:
        return "unknown: no dense network is done"
    return "unknown: one dense replicate" if one.dense.std is None else "no level"


def differences(one: Report) -> tuple[list[str], list[list[str]]] | None:
    """Headings and rows: accuracy and differences of a curve at a few levels; None without counterparts."""
    compared = [(name, key) for name, key in ((one.random, "minus_random"), (one.own, "minus_own")) if name]
    if not compared or not one.levels:
        return None
    names = (heading for name, _ in compared for heading in (f"less {name}", "seeds"))
    headings = ["level", "pruned %", "accuracy %", *names]
    return headings, [
        [
            str(level.level),
            f"{level.fraction_pruned * 100:.2f}",
            percent(level.accuracy),
            *(cell for _, key in compared for cell in _against(getattr(level, key))),
        ]
        for level in few(one.levels)
    ]


def _against(value: Difference | None) -> tuple[str, str]:
    return points(value), agreement(value) if value else "-"


def few(levels: Sequence[Level]) -> list[Level]:
    """At most `FEW` of the pruned and compared levels, evenly spaced, including the first and the sparsest."""
    compared = [level for level in levels if level.level and (level.minus_random or level.minus_own)]
    return evenly(compared or levels, FEW)


def missing(reports: Sequence[Report]) -> Iterator[str]:
    """A line for each curve with runs that are not done."""
    for one in reports:
        curve = one.curve
        short = [level for level, seeds in curve.runs.items() if len(curve.accuracies[level]) < len(seeds)]
        if short:
            lacking = curve.planned - curve.done
            yield f"{words.name(curve.name)}: {lacking} of {curve.planned} runs left (levels {ranges(short)})"


def fallen(reports: Sequence[Report]) -> Iterator[str]:
    """A line for each curve with collapsed replicates, which means include, or diverged ones, which they exclude."""
    for one in reports:
        at_chance, lost = one.curve.collapsed, one.curve.diverged
        for what, found in (("collapsed (accuracy at chance)", at_chance), ("diverged (not in any mean)", lost)):
            if levels := [level for level, seeds in found.items() if seeds]:
                runs = sum(map(len, found.values()))
                name = words.name(one.curve.name)
                yield f"{name}: {runs} of {one.curve.planned} runs {what}, at level {ranges(levels)}"


def ranges(levels: Sequence[int]) -> str:
    """Levels as text: 0-6, 9."""
    spans: list[list[int]] = []
    for level in levels:
        if spans and level == spans[-1][-1] + 1:
            spans[-1].append(level)
        else:
            spans.append([level])
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)


def as_json(experiment: str, reports: Sequence[Report]) -> dict[str, Any]:
    """Reports as a JSON value: accuracies and fractions in [0, 1], null for unknown values."""
    return {
        "experiment": experiment,
        "confidence": statistics.CONFIDENCE,
        "curves": [
            {
                "curve": one.curve.name,
                **{key: getattr(one.curve, key) for key in WHAT},
                "runs": one.curve.planned,
                "done": one.curve.done,
                "dense": one.dense and asdict(one.dense),
                "matching_level": one.matching,
                "random": one.random,
                "own": one.own,
                "levels": [asdict(level) for level in one.levels],
            }
            for one in reports
        ],
    }
