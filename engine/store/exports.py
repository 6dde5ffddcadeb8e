"""The tickets that can be exported from a database, and their provenance. No torch."""

import sqlite3
from dataclasses import dataclass

from msgspec import structs

from engine.errors import InputError, OptionName
from engine.pruning.criteria import needs_weights_alone
from engine.recipes import Chain, Dense, Imported, Line, Prunable, Random, RandomGlobal, Rule, Run, Winning
from engine.store import rules, sides
from engine.store.files import Folder
from engine.store.records import file_of
from engine.store.row_types import ChainTicket
from engine.tickets.ticketfiles import DataFacts, Producer


@dataclass(frozen=True)
class TicketToExport:
    """A ticket to export: the run that trains it on its source, that run's data, and the runs that made the ticket."""

    run: Run
    data: DataFacts
    made_by: tuple[Producer, ...]


def of_run(connection: sqlite3.Connection, digest: str, sparser: str | None = None) -> TicketToExport:
    """The ticket that the run of this digest trains. Raises InputError if it is an imported one.

    Chains of different rules share their run of level 0; the digest of a `sparser` run says which chain is meant.
    """
    run = _home_of(connection, digest)
    if sparser is not None and isinstance(run.ticket, Winning | Random | RandomGlobal) and run.ticket.level == 0:
        home = _home_of(connection, sparser)
        assert isinstance(home.ticket, Winning | Random | RandomGlobal)
        run = structs.replace(home, ticket=structs.replace(home.ticket, level=0))
    name, *shape, classes = connection.execute(
        "SELECT name, channels, height, width, classes FROM datasets WHERE identity = ?", (run.training.dataset,)
    ).fetchone()
    data = DataFacts(name, run.training.dataset, tuple(shape), classes)
    made_by = tuple(
        Producer(**producer)
        for needed in run.needs()
        for producer in connection.execute(
            "SELECT digest, level, device_name, torch_version, cockpit_version, finished_at, test_accuracy FROM runs"
            " WHERE digest = ?",
            (needed.digest,),
        )
    )
    return TicketToExport(run, data, made_by)


def _home_of(connection: sqlite3.Connection, digest: str) -> Run:
    row = connection.execute("SELECT id, recipe FROM runs WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        raise InputError(f"unknown run {digest}: see `cockpit tickets list`")
    return at_home(Run.from_json(row["recipe"]), rules.narrowest(connection, row["id"]))


def at_home(run: Run, prunable: Prunable) -> Run:
    """The run that trains the same ticket on its source: all runs of a ticket share its file.

    A dense run trains the ticket of level 0, its state at the rewind epoch; its weights count by the rule `prunable`.
    A random ticket is drawn for one run, which is returned. Raises InputError for an imported ticket.
    """
    match run.ticket:
        case Dense(rewind):
            return Run(Winning(Chain(run.training, Rule(rewind=rewind, prunable=prunable)), 0), run.training)
        case Winning(chain, level) | Line(chain, level):
            return Run(chain.ticket(level), chain.training)
        case Imported(digest):
            raise InputError(f"the ticket of this run was imported ({digest[:12]}): pass on the file that it came in")
    return run


def run_of(connection: sqlite3.Connection, text: str, level: int | None, replicate: int) -> str:
    """The digest of a run, named by its chain, curve or digest (`sides.find`), at a level (default: the sparsest).

    Raises InputError if no such run has been started.
    """
    return runs_of(connection, text, level, replicate)[0]


def runs_of(connection: sqlite3.Connection, text: str, level: int | None, replicate: int) -> tuple[str, str]:
    """The digest as from `run_of`, and the digest of the sparsest run of that replicate."""
    side, option = sides.find(connection, text), OptionName("level")
    if not side.is_run:
        level = max(side.runs) if level is None else level
        if level not in side.runs:
            have = ", ".join(map(str, sorted(side.runs)))
            raise InputError(f"{side.name} has no ticket of level {level} (", option, f"): it has {have}")
        if replicate not in side.runs[level]:
            have = ", ".join(map(str, side.runs[level]))
            missing = f"{side.name} has no replicate {replicate} at level {level} ("
            raise InputError(missing, OptionName("replicate"), f"): it has {have}")
    elif level is not None and level not in side.runs:
        raise InputError(f"run {side.name} is of level {next(iter(side.runs))}, not {level}: leave out ", option)
    run = side.run(side.level(level or 0), replicate)
    sparsest = max((have, runs[replicate]) for have, runs in side.runs.items() if replicate in runs)[1]
    digest, sparser = (
        str(connection.execute("SELECT digest FROM runs WHERE id = ?", (one,)).fetchone()[0])
        for one in (run, run if side.is_run else sparsest)
    )
    return digest, sparser


def available(connection: sqlite3.Connection, folder: Folder, experiment: str | None = None) -> list[ChainTicket]:
    """The winning tickets of all chains, or of one experiment's, in order of chain, replicate and level."""
    found = []
    names = [row[0] for row in connection.execute("SELECT name FROM experiments ORDER BY id")]
    for name in names if experiment is None else [experiment]:
        for side in sides.chains(connection, name):
            points = [(replicate, level, run) for level, runs in side.runs.items() for replicate, run in runs.items()]
            for replicate, level, run in sorted(points):
                row = connection.execute(
                    "SELECT digest, recipe, weights_remaining, weights_total FROM runs WHERE id = ?", (run,)
                ).fetchone()
                ticket = at_home(Run.from_json(row["recipe"]), side.prunable)
                kept, total = row["weights_remaining"], row["weights_total"]
                if level == 0:
                    kept = total = _unpruned(connection, run, side)
                here = _is_here(connection, folder, ticket)
                found.append(ChainTicket(side.name, level, replicate, row["digest"], kept, total, here))
    return found


def _unpruned(connection: sqlite3.Connection, run: int, side: sides.Side) -> int:
    query = "SELECT sum(weights_total) FROM layers_by_rule WHERE run_id = ? AND rule = ?"
    return int(connection.execute(query, (run, side.prunable)).fetchone()[0])


def _is_here(connection: sqlite3.Connection, folder: Folder, run: Run) -> bool:
    """Whether the files that make up a winning ticket exist (`tickets.starts`)."""
    assert isinstance(run.ticket, Winning)
    chain, level = run.ticket.chain, run.ticket.level
    # A missing mask of level 1 can be pruned again from final weights, if its criterion needs nothing else.
    again = level == 1 and needs_weights_alone(chain.rule)
    needed = [[chain.weights_of(level)]]
    needed += [[chain.mask_of(level), *([(chain.run(0), "final")] if again else [])]] if level else []
    return all(any(_has(connection, folder, *one) for one in alternatives) for alternatives in needed)


def _has(connection: sqlite3.Connection, folder: Folder, producer: Run, kind: str) -> bool:
    digest = file_of(connection, producer.digest, kind)
    return digest is not None and folder.has(digest)
