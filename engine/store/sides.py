"""The sides of a comparison layer by layer: runs and curves with recorded layers, and their names.

A run's name is the first digits of its digest, a curve's EXPERIMENT:CURVE. The chain of a scope is EXPERIMENT:SCOPE, or
EXPERIMENT if it is the only chain.
"""

import re
import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import InputError, command, unknown
from engine.recipes import Prunable
from engine.store import rules
from engine.store.chains import IS_CHAIN
from engine.store.leases import OF_EXPERIMENT

SCOPES = ("global", "layerwise")
LEAST_DIGITS = 6
DIGITS_SHOWN = 12
CANDIDATES_SHOWN = 5
NO_CHAINS = "{} has no chains, since its tickets were imported: name one of its curves"
RUN_TEXT = """
    digest || ' level ' || level || ' seed ' || seed || ' ' || coalesce(source, '') || ' ' || target || ' ' || ticket
    || ' ' || coalesce(scope, '')
"""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a run, or the started runs of a curve."""

    name: str  # that `find` understands
    about: str
    runs: Mapping[int, Mapping[int, int]]  # level -> replicate -> id of the run
    is_run: bool = False
    experiment: str = ""  # of a curve
    prunable: Prunable = "conv"  # the rule by which layers count

    def level(self, level: int) -> int:
        """The level to compare when the user asks for `level`: a run has only one."""
        return next(iter(self.runs)) if self.is_run else level

    def run(self, level: int, replicate: int) -> int:
        """The id of the run to compare at a level and replicate."""
        if self.is_run:
            return next(run for runs in self.runs.values() for run in runs.values())
        return self.runs[level][replicate]


@dataclass(frozen=True)
class Choice:
    """A side in a list of choices."""

    name: str
    about: str


def find(connection: sqlite3.Connection, text: str) -> Side:
    """The run or curve that `text` names. Raises InputError with the nearest names if it names none or several."""
    names = [row[0] for row in connection.execute("SELECT name FROM experiments ORDER BY id")]
    if text in names:
        return _only_chain(connection, text)
    for colon in reversed([position for position, letter in enumerate(text) if letter == ":"]):
        if text[:colon] in names:
            return _curve(connection, text[:colon], text[colon + 1 :])
    if re.fullmatch(f"[0-9a-f]{{{LEAST_DIGITS},64}}", text.lower()):
        return _run(connection, text.lower())
    by = f"a run is named by {LEAST_DIGITS} or more digits of its digest"
    if not names:
        raise InputError(f"{text!r} names nothing: the database holds no experiment; add one with `cockpit queue add`")
    raise InputError(unknown("experiment", text.partition(":")[0], names), f"; {by}")


def of_scopes(connection: sqlite3.Connection, experiment: str) -> tuple[Side, Side]:
    """The chains of an experiment's two scopes. Raises InputError unless it has exactly one chain of each."""
    if not connection.execute("SELECT 1 FROM experiments WHERE name = ?", (experiment,)).fetchone():
        raise InputError(f"{find(connection, experiment).name} is one side: name another to compare it with")
    second, first = (_curve(connection, experiment, scope) for scope in reversed(SCOPES))  # layerwise: often missing
    return first, second


def are_scopes_alone(connection: sqlite3.Connection, experiment: str) -> bool:
    """Whether an experiment only compares the two scopes: it has both, and no random tickets (figure 1b)."""
    kinds = connection.execute(
        """
        SELECT DISTINCT c.scope, c.ticket FROM experiment_curves c JOIN experiments e ON e.id = c.experiment_id
        WHERE e.name = ?
        """,
        (experiment,),
    ).fetchall()
    random = any(row["ticket"].startswith("random") for row in kinds)
    return not random and {row["scope"] for row in kinds} >= set(SCOPES)


def first_two(connection: sqlite3.Connection, experiment: str) -> tuple[Side, Side | None]:
    """The first two started curves of an experiment with different tickets, chains before others; or one and None.

    A ticket has the same layers on every target, so curves that differ only in the target count as one. Raises
    InputError if no such curve has been started.
    """
    named = _named(connection, experiment)
    chosen = sorted(named, key=lambda name: not named[name]["is_chain"])
    sides: dict[tuple[str, ...], Side] = {}
    for name in chosen:
        curve = named[name]
        ticket = tuple(curve[key] for key in ("ticket", "source", "source_optimizer", "scope"))
        if curve["ticket"] != "dense" and ticket not in sides and (side := _side(connection, name, curve)).runs:
            sides[ticket] = side
    if not sides:
        raise InputError(f"nothing of {experiment} has been trained yet: `cockpit work` starts workers")
    first, second, *_ = [*sides.values(), None]
    return first, second


def chains(connection: sqlite3.Connection, experiment: str) -> list[Side]:
    """The started chains of an experiment."""
    named = _named(connection, experiment)
    sides = [_side(connection, name, curve) for name, curve in named.items() if curve["is_chain"]]
    return [side for side in sides if side.runs]


def newest(connection: sqlite3.Connection) -> str:
    """The name of the newest experiment. Raises InputError for a database without experiments."""
    row = connection.execute("SELECT name FROM experiments ORDER BY id DESC LIMIT 1").fetchone()
    if row is None:
        raise InputError("no experiments yet: `cockpit run digits` makes one")
    return str(row[0])


def choices(connection: sqlite3.Connection, words: Sequence[str], most: int) -> list[Choice]:
    """The curves and then the runs whose text contains all of these words: newest first, at most `most`."""
    offered: list[Choice] = []
    curves = connection.execute(
        f"""
        SELECT c.id, e.name AS experiment, c.name AS curve
        FROM experiment_curves c JOIN experiments e ON e.id = c.experiment_id
        WHERE c.ticket <> 'dense' {_holding("e.name || ' ' || c.name", words)}
          AND EXISTS (SELECT 1 FROM curve_points p JOIN runs r ON r.id = p.run_id
                      WHERE p.curve_id = c.id AND r.weights_total IS NOT NULL)
        ORDER BY e.id DESC, c.id LIMIT ?
        """,
        (*map(_pattern, words), most),
    ).fetchall()
    names: dict[str, dict[int, str]] = {}  # experiment -> id of a curve -> its name as a side
    for row in curves:
        if row["experiment"] not in names:
            named = _named(connection, row["experiment"])
            names[row["experiment"]] = {curve["id"]: name for name, curve in named.items()}
        offered.append(Choice(names[row["experiment"]][row["id"]], row["curve"]))
    runs = connection.execute(
        f"""
        SELECT * FROM runs WHERE weights_total IS NOT NULL
          {_holding(RUN_TEXT, words)}
        ORDER BY id DESC LIMIT ?
        """,
        (*map(_pattern, words), max(0, most - len(offered))),
    )
    return offered + [Choice(row["digest"][:DIGITS_SHOWN], _about(row)) for row in runs]


def _holding(text: str, words: Sequence[str]) -> str:
    return "".join(f" AND {text} LIKE ? ESCAPE '\\'" for _ in words)


def _pattern(word: str) -> str:
    return "%" + re.sub(r"([\\%_])", r"\\\1", word) + "%"


def _run(connection: sqlite3.Connection, digits: str) -> Side:
    found = connection.execute(
        "SELECT * FROM runs WHERE digest >= ? AND digest < ? ORDER BY digest LIMIT ?",
        (digits, digits + "g", CANDIDATES_SHOWN + 1),
    ).fetchall()
    if not found:
        raise InputError(
            f"no experiment and no run's digest begins with {digits!r}: see {command('queue show NAME', runs=True)}"
        )
    if len(found) > 1:
        shown = "; ".join(f"{row['digest'][:DIGITS_SHOWN]} ({_about(row)})" for row in found[:CANDIDATES_SHOWN])
        more = "; and more" if len(found) > CANDIDATES_SHOWN else ""
        raise InputError(f"the digests of several runs begin with {digits!r}: {shown}{more}; give more digits")
    (row,) = found
    if row["weights_total"] is None:
        raise InputError(f"run {digits} has not been started: what its layers keep is recorded when it is")
    rule, by_level = rules.narrowest(connection, row["id"]), {row["level"]: {0: row["id"]}}
    return Side(row["digest"][:DIGITS_SHOWN], _about(row), by_level, is_run=True, prunable=rule)


def _about(row: sqlite3.Row) -> str:
    source = f"{row['source']} → " if row["source"] else ""
    scope = f" {row['scope']}" if row["scope"] else ""
    return f"level {row['level']}, seed {row['seed']}: {source}{row['target']} {row['ticket']}{scope}"


def _only_chain(connection: sqlite3.Connection, experiment: str) -> Side:
    named = _named(connection, experiment)
    chains = [name for name, curve in named.items() if curve["is_chain"]]
    if not chains:
        raise InputError(NO_CHAINS.format(experiment))
    if len(chains) > 1:
        raise InputError(f"{experiment} has several chains: name one of {', '.join(map(repr, chains))}")
    return _started(connection, chains[0], named[chains[0]])


def _curve(connection: sqlite3.Connection, experiment: str, what: str) -> Side:
    named = _named(connection, experiment)
    for name, curve in named.items():
        if name == f"{experiment}:{what}" or curve["name"] == what:
            return _started(connection, name, curve)
    if what.casefold() not in SCOPES:
        raise unknown(f"scope or curve of {experiment}", what, [name.removeprefix(f"{experiment}:") for name in named])
    scopes = {name: curve["scope"] for name, curve in named.items() if curve["is_chain"]}
    if not scopes:
        raise InputError(NO_CHAINS.format(experiment))
    if chains := [name for name, scope in scopes.items() if scope == what]:
        raise InputError(f"{experiment} has several {what} chains: name one of {', '.join(map(repr, chains))}")
    adds = command(f"queue extend {shlex.quote(experiment)}", scope=what)
    raise InputError(f"{experiment} has no {what} scope: {adds} adds it")


def _named(connection: sqlite3.Connection, experiment: str) -> dict[str, sqlite3.Row]:
    """The curves of an experiment by their shortest names: EXPERIMENT:SCOPE for the only chain of a scope."""
    curves = connection.execute(
        f"""
        SELECT c.*, e.name AS experiment, {OF_EXPERIMENT} AS prunable, {IS_CHAIN} AS is_chain
        FROM experiment_curves c JOIN experiments e ON e.id = c.experiment_id
        WHERE e.name = ? ORDER BY c.id
        """,
        (experiment,),
    ).fetchall()
    scopes = [curve["scope"] for curve in curves if curve["is_chain"]]
    return {
        f"{experiment}:{curve['scope' if curve['is_chain'] and scopes.count(curve['scope']) == 1 else 'name']}": curve
        for curve in curves
    }


def _started(connection: sqlite3.Connection, name: str, curve: sqlite3.Row) -> Side:
    side = _side(connection, name, curve)
    if not side.runs:
        raise InputError(f"nothing of {name} has been trained yet: `cockpit work` starts workers")
    return side


def _side(connection: sqlite3.Connection, name: str, curve: sqlite3.Row) -> Side:
    runs: dict[int, dict[int, int]] = {}
    for level, replicate, run in connection.execute(
        """
        SELECT p.level, p.replicate, r.id FROM curve_points p JOIN runs r ON r.id = p.run_id
        WHERE p.curve_id = ? AND r.weights_total IS NOT NULL ORDER BY p.level, p.replicate
        """,
        (curve["id"],),
    ):
        runs.setdefault(level, {})[replicate] = run
    return Side(name, curve["name"], runs, experiment=curve["experiment"], prunable=curve["prunable"])
