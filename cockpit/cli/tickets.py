"""`cockpit tickets`: export tickets as files, and import ticket files."""

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from cockpit.requests import completing, trusting
from cockpit.requests.shared import Database, Json, output_option, to_read, to_write
from cockpit.requests.trusting import TrustModels
from cockpit.text import words
from cockpit.views import tables
from cockpit.views.export import whole
from engine.errors import InputError
from engine.machine import processes
from engine.machine.paths import given, is_replaceable
from engine.models import trust
from engine.store import database, exports, imports, queue
from engine.store.files import Folder
from engine.store.row_types import ChainTicket
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import Description, Verified

app = typer.Typer()

EXPORTER = "engine.results.ticket_export"  # imports torch, so it runs in a process of its own

Files = Annotated[list[Path], typer.Argument(parser=given, help="Ticket files.", metavar="FILE...")]


@app.command("list", epilog="Example: cockpit tickets list digits --json")
def list_(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="List only this experiment.",
            show_default="all experiments",
            autocompletion=completing.experiments,
        ),
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """List winning tickets that can be exported, one line per chain, and imported files.

    With --json every ticket is listed, with the digest of the run that trains it.
    """
    path = to_read(db)
    folder = Folder(database.files_folder(path))
    with closing(database.reader(path)) as connection:
        if experiment is not None:
            queue.experiment_id(connection, experiment)
        found = exports.available(connection, folder, experiment)
    files = folder.imported() if experiment is None else []
    if as_json:
        print(json.dumps({"tickets": [one.as_json() for one in found], "imported": list(map(str, files))}))
        return
    lines = [_chain(name, list(of_chain)) for name, of_chain in groupby(found, key=lambda ticket: ticket.name)]
    tables.show(("chain", "levels", "replicates", "sparsest keeps", "here"), lines, left=1)
    for file in files:
        print(f"{ticketfiles.SPEC}{file}")


def _chain(name: str, tickets: Sequence[ChainTicket]) -> list[str]:
    """The cells of a chain: levels, replicates, weights remaining in the sparsest, tickets that can be exported now."""
    sparsest = max(tickets, key=lambda ticket: ticket.level)
    levels, replicates = ({getattr(ticket, key) for ticket in tickets} for key in ("level", "replicate"))
    kept = f"{100 * sparsest.weights_remaining / sparsest.weights_total:.2f} %"
    here = f"{sum(ticket.here for ticket in tickets)} of {len(tickets)}"
    return [words.name(name), f"{min(levels)}-{max(levels)}", str(len(replicates)), kept, here]


@app.command("export", epilog="Example: cockpit tickets export digits --level 12 -o ticket.safetensors")
def export(
    name: Annotated[
        str,
        typer.Argument(
            help="EXPERIMENT:SCOPE, EXPERIMENT:CURVE, or a run's first digits.", autocompletion=completing.tickets
        ),
    ],
    level: Annotated[int | None, typer.Option(help="Pruning iteration.", show_default="the sparsest")] = None,
    replicate: Annotated[int, typer.Option(help="Number of the replicate.")] = 0,
    output: Annotated[Path | None, output_option("File or folder to write to.", "named after the ticket")] = None,
    code: Annotated[
        bool, typer.Option("--code", help="Also write the network's definition: Python that needs no cockpit.")
    ] = False,
    trust_models: TrustModels = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Write a ticket as one safetensors file: late-reset weights, batch-norm statistics, mask, recipe.

    The file holds the ticket as found on its source, whatever the target.
    """
    path = to_read(db)
    with closing(database.reader(path)) as connection:
        digest, sparser = exports.runs_of(connection, name, level, replicate)
        model = exports.of_run(connection, digest).run.training.model
        model_folder = database.model_folder(connection, model)
    if output is not None and not output.parent.is_dir():
        raise InputError(f"folder {output.parent} for {output.name} does not exist: make it, or name another --output")
    trusting.asking(trust_models, lambda: trust.require(model, model_folder))
    name = "" if output is None or output.is_dir() else output.name
    if code and output is not None and name and not is_replaceable(output):
        raise InputError(f"--code needs a file to write next to, not {output}: name another --output")
    defined = ["--code-for", name] if code else []
    wanted = ("export", "--db", path, digest, sparser, *defined, "--output")
    ask = partial(processes.ask, tuple[str, Description, list[str]], EXPORTER, *wanted)
    if output is None or not name:
        place, told, files = ask(output or ".")
    else:
        with whole(output) as written:
            place, (_, told, files) = str(output), ask(written)
    # A path such as /dev/stdout has taken standard output for the ticket.
    to = sys.stdout if is_replaceable(Path(place)) else sys.stderr
    if as_json:
        print(json.dumps({"file": place, **to_builtins(told), **({"code": files} if code else {})}), file=to)
        return
    for line in (f"{place}: {_describe(told)}", *files):
        print(line, file=to)


@app.command("verify", epilog="Example: cockpit tickets verify ticket.safetensors")
def verify(files: Files, as_json: Json = False) -> None:
    """Verify ticket files: content digest, exact mask counts, and the recipe against both.

    Exit code 0: all files are valid; 1: one is not.
    """
    found = processes.ask(list[Verified], EXPORTER, "verify", *files)
    if as_json:
        print(json.dumps([one.as_json() for one in found]))
    else:
        for one in found:
            about = f": {_describe(one.about)}" if one.about else ""
            print(f"{'✓' if one.ok else '✗'} {one.file}{about}")
            if one.about and not one.is_compared:
                print(
                    f"  {one.about.model} is Python code, which `verify` does not run: `queue add` compares its layers"
                )
            for problem in one.problems:
                print(f"  ✗ {problem}")
    raise typer.Exit(0 if all(one.ok for one in found) else 1)


@app.command("import", epilog="Example: cockpit tickets import ticket.safetensors")
def import_(files: Files, as_json: Json = False, db: Database = None) -> None:
    """Verify ticket files and copy them next to the database. Prints the --source of each.

    `cockpit queue add --source ticket:FILE` also reads a file directly.
    """
    for one in processes.ask(list[Verified], EXPORTER, "verify", *files):
        if one.problems:
            raise InputError(f"{one.file}: {one.problems[0]}; imported nothing")
    path = to_write(db, make=True)
    database.writer(path).close()  # makes it if it is not there
    folder = Folder(database.files_folder(path))
    sources = [f"{ticketfiles.SPEC}{imports.keep(folder, ticketfiles.read(file))}" for file in files]
    if as_json:
        print(json.dumps(sources))
        return
    for source in sources:
        print(f"--source {shlex.quote(source)}")


def _describe(told: Description) -> str:
    return (
        f"{told.ticket} ticket of level {told.level} from {told.data.name}, seed {told.seed}: {told.model} x"
        f" {told.width:g}, {told.weights_remaining:,} of {told.weights_total:,} weights remain"
    )
