"""Error barriers as curves that a chart draws: for each curve of lines one of test and one of training images."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from cockpit.views import curves, names
from cockpit.views.curves import BARRIER, WINNING, Series
from engine.analysis import barriers
from engine.analysis.barriers import Barrier, Spread

AXIS = "error barrier, points"


def read(connection: sqlite3.Connection, experiment: str) -> list[Series]:
    """The error barriers of an experiment (`engine.analysis.barriers`); empty without a line that is evaluated."""
    found = barriers.read(connection, experiment)
    lines = {one.name: one for one in curves.read(connection, experiment)} if found else {}
    each = {lines[curve]: list(group) for curve, group in groupby(found, key=lambda one: one.curve)}
    labels = names.named([replace(line, ticket=WINNING, target="") for line in each])
    return [
        _series(line, own, label.called if len(each) > 1 or line.title else "", part)
        for (line, own), label in zip(each.items(), labels, strict=True)
        for part in ("test", "training")
    ]


def _series(line: Series, own: Sequence[Barrier], called: str, part: str) -> Series:
    spreads: list[Spread] = [one.test if part == "test" else one.train for one in own]
    planned = dict(zip(line.levels, line.planned, strict=True))
    return replace(
        line,
        name=f"{line.name}, {part} images",
        ticket=BARRIER,
        title=f"{called}, {part.removesuffix('ing')}" if called else f"{part} images",
        levels=tuple(one.level for one in own),
        remaining=tuple(1 - one.fraction_pruned for one in own),
        means=tuple(one.mean for one in spreads),
        deviations=tuple(one.std for one in spreads),
        counts=tuple(one.n for one in own),
        planned=tuple(planned[one.level] for one in own),
        live=(),
    )
