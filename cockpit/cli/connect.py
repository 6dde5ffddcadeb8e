"""`cockpit connect`: error barriers between two trainings of each ticket (linear mode connectivity)."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cockpit.requests.outlook import describe, widen
from cockpit.requests.shared import Database, Experiment, Json, command_line, output_option, to_read, to_write
from cockpit.requests.trusting import TrustModels, asking
from cockpit.text import words
from cockpit.views import barrier_curves, names, tables
from engine.analysis import barriers
from engine.analysis.barriers import Barrier, Spread
from engine.errors import InputError
from engine.store import database, queue

app = typer.Typer()

POINTS = 31  # as in Frankle et al. 2020
HEADINGS = ("curve", "level", "pruned %", "n", "train barrier, points", "test barrier, points")


@app.command("connect", epilog="Example: cockpit connect digits -o digits-barriers.pdf")
def connect(
    experiment: Experiment,
    points: Annotated[
        int | None,
        typer.Option(help="Networks to evaluate on each line, its ends included.", show_default=str(POINTS)),
    ] = None,
    output: Annotated[Path | None, output_option("Figure to write: .pdf, .png or .svg. Needs matplotlib.")] = None,
    as_json: Json = False,
    trust_models: TrustModels = False,
    db: Database = None,
) -> None:
    """Queue two more trainings of each ticket, in other orders, and the line between their ends; show the barriers.

    A barrier is the highest error on the line above the mean of its ends. The first use queues, later ones show.
    """
    if output is not None:
        from cockpit.views import figures

        figures.form_of(output)
    with closing(database.reader(to_read(db))) as connection:
        before = queue.definition_of(connection, queue.experiment_id(connection, experiment)).connect
    if not before or points not in (None, before):
        with closing(database.writer(to_write(db))) as connection:
            more = {"connect": POINTS if points is None else points}
            (added,) = asking(trust_models, lambda: widen(connection, [experiment], more, command_line()))
        print(describe(experiment, added), file=sys.stderr)
    with closing(database.reader(database.writable_path(to_read(db)))) as connection:
        found, (_, left) = barriers.read(connection, experiment), barriers.planned(connection, experiment)
        drawn = barrier_curves.read(connection, experiment) if output is not None else []
    if as_json:
        print(json.dumps([_as_json(one) for one in found]))
    elif found:
        tables.show(HEADINGS, [_cells(one) for one in found], left=1)
    if left:
        print(f"{left} lines left: train them with `cockpit work --drain`", file=sys.stderr)
    if output is not None:
        if not found:
            raise InputError(f"{experiment} has no line yet, so nothing can be drawn: run `cockpit work --drain`")
        from cockpit.views.legends import View

        shown = names.named(drawn)
        figures.write(output, {names.title(shown): shown}, View(x="log-pruned"), what=barrier_curves.AXIS)
        print(f"wrote {output}", file=sys.stderr)


def _cells(one: Barrier) -> list[str]:
    return [
        words.name(one.curve),
        str(one.level),
        f"{one.fraction_pruned:.1%}".removesuffix("%"),
        str(one.n),
        *(_points(spread) for spread in (one.train, one.test)),
    ]


def _points(spread: Spread) -> str:
    deviation = "" if spread.std is None else f" ± {100 * spread.std:.2f}"
    return f"{100 * spread.mean:.2f}{deviation}"


def _as_json(one: Barrier) -> dict[str, object]:
    return {**one._asdict(), "train": one.train._asdict(), "test": one.test._asdict()}
