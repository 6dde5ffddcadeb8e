"""Overlaps of the masks of an experiment's tickets, for each pair of replicates and of chains."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.analysis.comparing import of_total
from engine.analysis.statistics import Mean, mean_of
from engine.errors import InputError
from engine.recipes import Prunable
from engine.store import sides
from engine.store.files import Folder


class Cell(NamedTuple):
    """The overlap of the masks of two tickets, or the mean over several pairs, and the overlap by chance.

    Both are Jaccard indices over all layers (`engine.analysis.comparing.Layer`); None if a mask is unknown.
    """

    overlap: Mean | None
    chance: Mean | None


@dataclass(frozen=True)
class Matrix:
    """All pairs of tickets of one level: the replicates of a `chain`, or (None) chains by shared replicates."""

    level: int
    chain: str | None
    names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]


class _Member(NamedTuple):
    """A row and a column of a matrix; the runs of two members are paired by their keys."""

    name: str
    prunable: Prunable
    runs: Mapping[int, int]


def levels(connection: sqlite3.Connection, experiment: str) -> tuple[int, ...]:
    """The levels above 0 at which chains of an experiment have been started."""
    return _levels(sides.chains(connection, experiment))


def _levels(chains: Sequence[sides.Side]) -> tuple[int, ...]:
    return tuple(sorted({number for chain in chains for number in chain.runs if number > 0}))


def matrices(
    connection: sqlite3.Connection, folder: Folder, experiment: str, level: int | None = None
) -> tuple[list[Matrix], list[str]]:
    """The matrices of an experiment's chains at a level, or at each above 0, and notes on missing overlaps.

    Raises InputError if no level has two tickets to compare.
    """
    chains, notes = sides.chains(connection, experiment), dict[str, None]()
    offered, every = _levels(chains), list[Matrix]()

    def add(at: int, chain: str | None, members: Sequence[_Member]) -> None:
        if len(members) > 1:
            cells = {
                (a, b): _cell(connection, folder, members[a], members[b], notes)
                for b in range(len(members))
                for a in range(b + 1)
            }
            rows = [tuple(cells[min(a, b), max(a, b)] for b in range(len(members))) for a in range(len(members))]
            every.append(Matrix(at, chain, tuple(one.name for one in members), tuple(rows)))

    for at in [one for one in offered if level in (None, one)]:
        there = [chain for chain in chains if at in chain.runs]
        for chain in there:
            of = chain.runs[at].items()
            add(at, chain.about, [_Member(f"replicate {number}", chain.prunable, {0: run}) for number, run in of])
        add(at, None, [_Member(chain.about, chain.prunable, chain.runs[at]) for chain in there])
    if not every:
        which = "" if level is None else f" at level {level}"
        have = f"levels {', '.join(map(str, offered))}" if offered else "no pruned level yet"
        raise InputError(f"{experiment} has no two tickets to compare{which}: its chains have {have}")
    return every, list(notes)


def _cell(connection: sqlite3.Connection, folder: Folder, a: _Member, b: _Member, notes: dict[str, None]) -> Cell:
    shared = [(run, b.runs[key]) for key, run in a.runs.items() if key in b.runs]
    each = [of_total(connection, folder, pair, (a.prunable, b.prunable), notes) for pair in shared]
    return Cell(mean_of(one.overlap for one in each), mean_of(one.chance for one in each))
