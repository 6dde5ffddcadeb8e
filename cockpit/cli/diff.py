"""`cockpit diff`: two tickets compared layer by layer."""

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

import typer
from msgspec import to_builtins
from typer import Argument, Option

from cockpit.requests import completing
from cockpit.requests.shared import Database, Json, to_read
from cockpit.text import words
from cockpit.views import layer_tables, tables
from cockpit.views.layer_tables import ratio
from engine.analysis import overlaps
from engine.analysis.comparing import FRACTIONS, Comparison, Fraction, Layer, compare
from engine.analysis.overlaps import Matrix
from engine.errors import InputError, chosen
from engine.store import database, queue, sides
from engine.store.files import Folder

app = typer.Typer()

BAR_WIDTH = 21


@app.command("diff", epilog="Example: cockpit diff mine:global mine:layerwise --level 10")
def diff(
    a: Annotated[
        str,
        Argument(
            help="EXPERIMENT:SCOPE, EXPERIMENT:CURVE, or the first digits of a run's digest.",
            autocompletion=completing.tickets,
        ),
    ],
    b: Annotated[
        str | None,
        Argument(
            help="What to compare it with. Default, where A is an experiment: its scopes.",
            show_default=False,
            autocompletion=completing.tickets,
        ),
    ] = None,
    level: Annotated[int | None, Option(help="Pruning iteration.", show_default="the sparsest that both have")] = None,
    replicate: Annotated[int | None, Option(help="Only this one.", show_default="the mean")] = None,
    x: Annotated[str, Option(help=f"Fractions to show: {' or '.join(FRACTIONS)}.")] = FRACTIONS[0],
    matrix: Annotated[
        bool,
        Option("--matrix", help="Overlap of all masks of experiment A: between replicates, and between its chains."),
    ] = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Compare two tickets layer by layer: what remains of each, ratio, difference, and how far the masks overlap."""
    x = chosen("--x", x, FRACTIONS)
    path = to_read(db)
    if matrix:
        if b is not None or replicate is not None:
            raise InputError("--matrix compares all chains of one experiment: omit B and --replicate")
        with closing(database.reader(path)) as connection:
            queue.experiment_id(connection, a)
            every, notes = overlaps.matrices(connection, Folder(database.files_folder(path)), a, level)
        if as_json:
            print(json.dumps({"matrices": to_builtins(every), "notes": notes}))
        else:
            show_matrices(every, notes)
        return
    with closing(database.reader(path)) as connection:
        side_a, side_b = (
            sides.of_scopes(connection, a) if b is None else (sides.find(connection, a), sides.find(connection, b))
        )
        found = compare(connection, Folder(database.files_folder(path)), side_a, side_b, level, replicate)
    if as_json:
        print(json.dumps(layer_tables.as_json(found)))
    else:
        show(found, x)


def show_matrices(matrices: Sequence[Matrix], notes: Sequence[str]) -> None:
    """Print matrices of overlaps as tables, each value with that by chance."""
    tables.say("mask overlap (by chance): weights that both tickets keep, by weights that either keeps")
    for one in matrices:
        tables.say(
            f"\nlevel {one.level}, {words.line(one.chain) if one.chain else 'chains, mean of shared replicates'}"
        )
        names = [words.line(name) for name in one.names]
        cells = [
            [name, *(f"{ratio(cell.overlap)} ({ratio(cell.chance, spread=False)})" for cell in row)]
            for name, row in zip(names, one.cells, strict=True)
        ]
        tables.show(["", *names], cells, left=1, keys=1)
    for note in notes:
        tables.say(note)


def show(comparison: Comparison, x: Fraction) -> None:
    """Print a comparison as a table, with what is compared above it and what is missing below."""
    for line in layer_tables.heading(comparison):
        tables.say(line)
    print(f"mean ± standard deviation of {comparison.n} replicates" if comparison.n > 1 else "one pair of tickets")
    headings = (
        "layer",
        "weights",
        "A keeps",
        "B keeps",
        f"A {x} %",
        f"B {x} %",
        "A / B remaining",
        "A / B pruned",
        f"A - B {x} points",
        "mask overlap",
        "by chance",
        "less in A │ more",
    )
    shown = [*comparison.layers, comparison.total]
    drawn = layer_tables.bars(shown, x, BAR_WIDTH)
    tables.show(
        headings, [_cells(layer, bar, x, comparison.n) for layer, bar in zip(shown, drawn, strict=True)], left=1, keys=1
    )
    for note in comparison.notes:
        tables.say(note)


def _cells(layer: Layer, bar: str, x: Fraction, n: int) -> list[str]:
    return [
        layer.name.removesuffix(".weight"),
        f"{layer.weights:,}",
        layer_tables.count(layer.kept_a, of=n),
        layer_tables.count(layer.kept_b, of=n),
        layer_tables.percent(getattr(layer, f"{x}_a"), of=n),
        layer_tables.percent(getattr(layer, f"{x}_b"), of=n),
        layer_tables.ratio(layer.remaining_ratio, of=n),
        layer_tables.ratio(layer.pruned_ratio, of=n),
        layer_tables.points(layer_tables.difference(layer, x), of=n),
        layer_tables.ratio(layer.overlap, of=n),
        layer_tables.ratio(layer.chance, of=n),
        bar,
    ]
