"""Two tickets layer by layer: the cells, bars and JSON of a comparison."""

import shlex
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from math import log2
from pathlib import Path
from typing import Any

from cockpit.text import words
from cockpit.views import names, runs
from engine.analysis.comparing import FRACTIONS, Comparison, Fraction, Layer, Ratios
from engine.analysis.statistics import Mean
from engine.store import database, rows
from engine.store.sides import Choice, Side

UNKNOWN = "-"
LEAST_RANGE = log2(1.1)  # of bars, so that tiny differences do not fill them


def percent(value: Mean | None, spread: bool = True, of: int = 1) -> str:
    """A fraction in per cent, with its deviation."""
    return _number(value, 100.0, ".2f", spread, of)


def points(value: Mean | None, spread: bool = True, of: int = 1) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return _number(value, 100.0, "+z.2f", spread, of)


def ratio(value: Mean | None, spread: bool = True, of: int = 1, digits: int = 3) -> str:
    """A ratio, or another number near 1."""
    return _number(value, 1.0, f".{digits}f" if value is None or value.mean < 10 else ".1f", spread, of)


def count(value: Mean | None, spread: bool = True, of: int = 1) -> str:
    """A number of weights."""
    return _number(value, 1.0, ",.0f", spread, of)


def _number(value: Mean | None, times: float, form: str, spread: bool, of: int) -> str:
    """A mean, its deviation if `spread`, and n if it is less than the `of` pairs compared."""
    if value is None:
        return UNKNOWN
    text = f"{value.mean * times:{form}}"
    if spread and value.std is not None:
        text += f" ± {value.std * times:{form.removeprefix('+z')}}"
    return text + (f" (n={value.n})" if value.n < of else "")


def difference(layer: Layer, fraction: Fraction) -> Mean | None:
    """A less B, of the fraction remaining or pruned."""
    value = layer.difference
    if value is None or fraction == "remaining":
        return value
    return Mean(-value.mean, value.std, value.n)


def bars(layers: list[Layer], fraction: Fraction, width: int) -> list[str]:
    """A bar for each layer that compares A with B, from the middle: to the right if A has more of the layer than B.

    Its length is the logarithm of the ratio, so that half and twice are equally long; the longest fills its side.
    Without B, the bar is the fraction itself, from the left.
    """
    if all(layer.remaining_b is None for layer in layers):
        return [_filled(getattr(layer, f"{fraction}_a").mean, width) for layer in layers]
    ratios: list[Mean | None] = [getattr(layer, f"{fraction}_ratio") for layer in layers]
    logs = [None if one is None else log2(one.mean) if one.mean > 0 else float("-inf") for one in ratios]
    reach = max([LEAST_RANGE, *(abs(one) for one in logs if one is not None and one != float("-inf"))])
    side = (width - 1) // 2
    return ["" if one is None else _diverging(max(-1.0, one / reach), side) for one in logs]


def _filled(part: float, width: int) -> str:
    halves = round(part * width * 2)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def _diverging(part: float, side: int) -> str:
    """A bar of `side` cells left (below 0) or right of a middle line, half a cell at a time."""
    halves = round(abs(part) * side * 2)
    if part < 0:
        return ("▐" * (halves % 2) + "█" * (halves // 2)).rjust(side) + "│" + " " * side
    return " " * side + "│" + _filled(part, side).ljust(side)


def about(side: Side | Choice) -> str:
    """The description of a side, if its name does not contain it."""
    return "" if side.name.endswith(f":{side.about}") else side.about


def heading(comparison: Comparison) -> list[str]:
    """A line for A and a line for B that say what is compared."""
    lines = []
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        if side is not None:
            said = [about(side).replace(" -> ", " → "), "" if side.is_run else f"level {comparison.level}"]
            lines.append(f"{letter}: {words.name(side.name)}  ({', '.join(filter(None, said))})")
    return lines


def called(connection: sqlite3.Connection, compared: Sequence[Side]) -> list[str]:
    """The names of sides for display: curve and experiment, or the run."""
    labels = {one: names.of_curves(connection, one) for one in {side.experiment for side in compared}}
    return [
        _run(connection, side) if side.is_run else f"{labels[side.experiment][side.about]} · {side.experiment}"
        for side in compared
    ]


def _run(connection: sqlite3.Connection, side: Side) -> str:
    run = rows.with_needs(connection, side.run(0, 0))[0]
    return f"{', '.join(filter(None, [runs.called(run), run.scope]))} ({side.name})"


def ratio_table(ratios: Ratios) -> tuple[list[str], list[list[str]]]:
    """Headings and a row for each level: the ratio of each layer, with n if replicates are missing."""
    most = max((value.n for values in ratios.levels.values() for value in values if value), default=0)
    headings = ["level", "pruned %", *(name.removesuffix(".weight") for name in ratios.layers)]
    return headings, [
        [str(level), f"{ratios.pruned[level] * 100:.2f}", *(ratio(value, spread=False, of=most) for value in values)]
        for level, values in ratios.levels.items()
    ]


def ratio_title(ratios: Ratios) -> str:
    """The title of a chart of two scopes' ratios."""
    experiment, _, scope = ratios.a.name.rpartition(":")
    return f"{experiment}: fraction {ratios.fraction}, {scope} / {ratios.b.name.rpartition(':')[2]}"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a JSON value; fractions are in [0, 1], and each figure has mean, std and n."""
    sides = {
        letter: {"name": side.name, "about": side.about, "level": side.level(comparison.level)}
        for letter, side in (("a", comparison.a), ("b", comparison.b))
        if side is not None
    }
    layers = [asdict(layer) for layer in comparison.layers]
    total = {key: value for key, value in asdict(comparison.total).items() if key != "name"}
    return {**sides, "n": comparison.n, "layers": layers, "total": total, "notes": list(comparison.notes)}


def command(comparison: Comparison, fraction: Fraction, replicate: int | None, path: Path) -> str:
    """The command that prints a comparison."""
    parts = ["cockpit", "diff", *(side.name for side in (comparison.a, comparison.b) if side is not None)]
    if comparison.levels:
        parts += ["--level", str(comparison.level)]
    if replicate is not None:
        parts += ["--replicate", str(replicate)]
    if fraction != FRACTIONS[0]:
        parts += ["--x", fraction]
    if path.absolute() != database.default_path().absolute():
        parts += ["--db", str(path)]
    return shlex.join(parts)
