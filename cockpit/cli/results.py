"""`cockpit plot` and `cockpit figure`: results as charts."""

import os
import shlex
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cockpit import config
from cockpit.requests import completing
from cockpit.requests.shared import Database, Experiment, output_option, to_read
from cockpit.text import hints
from cockpit.views import tables
from engine.analysis.comparing import FRACTIONS, Fraction, Ratios, ratios
from engine.errors import InputError, chosen
from engine.plan import presets
from engine.store import database, queue, rows, sides, titles

if TYPE_CHECKING:
    from cockpit.views.canvas import Row
    from cockpit.views.curves import Series
    from cockpit.views.legends import View

app = typer.Typer()

Target = Annotated[
    str | None,
    typer.Option(help="Show only this target, with the chains of its tickets.", autocompletion=completing.targets),
]
X = Annotated[
    str,
    typer.Option(
        "--x",
        help="remaining: weights remaining, log; pruned: fraction pruned, linear; log-pruned: fraction pruned,"
        " iterations equally wide, as in the paper.",
    ),
]
Full = Annotated[bool, typer.Option("--full", help="Show accuracy from 0 to 1.")]
Layers = Annotated[
    bool | None,
    typer.Option(
        "--layers/--curves",
        help="Layer by layer global / layerwise (figure 1b), or accuracies.",
        show_default="layers if the experiment has both scopes and no random tickets",
    ),
]
Ratio = Annotated[str, typer.Option(help=f"With --layers, the fraction shown: {' or '.join(FRACTIONS)}.")]


@app.command("plot", epilog="Example: cockpit plot digits")
def plot(
    experiment: Experiment,
    target: Target = None,
    x: X = "remaining",
    full: Full = False,
    layers: Layers = None,
    ratio: Ratio = "pruned",
    db: Database = None,
) -> None:
    """Plot an experiment's test accuracy against sparsity in the terminal, with a table."""
    with closing(database.reader(to_read(db))) as connection:
        queue.experiment_id(connection, experiment)
        show(connection, experiment, target, x, full, layers, ratio)


def show(
    connection: sqlite3.Connection,
    experiment: str,
    target: str | None = None,
    x: str = "remaining",
    full: bool = False,
    layers: bool | None = None,
    ratio: str = "pruned",
) -> None:
    """Print a chart and a table for each target of an experiment, or for its layers."""
    x, fraction = _axes(x, ratio)
    by_layer = _by_layer(connection, experiment, layers, target=target)
    found = (
        _ratios(connection, experiment, fraction) if by_layer else _titled(connection, experiment, target, live=True)
    )
    if found:
        for remark in _remarks(connection, experiment):
            tables.say(remark)
    if isinstance(found, Ratios):
        _print_ratios(found)
    else:
        _print(found, x, full)


@app.command("figure", epilog="Example: cockpit figure digits -o digits.pdf")
def figure(
    experiment: Experiment,
    output: Annotated[Path, output_option("File to write: .pdf, .png or .svg.")],
    target: Target = None,
    x: X = "log-pruned",
    full: Full = False,
    y: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Range of accuracies shown, e.g. 0.85 0.95.", show_default=False),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Title; '' draws none.", show_default="experiment, target, model and width")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CURVE=TEXT",
            help="Name of a curve in this figure only. `cockpit queue curve NAME` lists curves. Repeatable.",
            show_default=False,
        ),
    ] = None,
    no_inset: Annotated[
        bool, typer.Option("--no-inset", help="Omit the inset of a narrow axis, which shows accuracy from 0 to 1.")
    ] = False,
    layers: Layers = None,
    ratio: Ratio = "pruned",
    db: Database = None,
) -> None:
    """Draw a figure like the paper's: means and deviations, or layer by layer. Needs matplotlib."""
    from cockpit.views import figures
    from cockpit.views.legends import View

    figures.form_of(output)
    x, fraction = _axes(x, ratio)
    if y is not None and not 0 <= y[0] < y[1] <= 1:
        raise InputError(
            f"--y {y[0]:g} {y[1]:g} is not a range of accuracies: give two numbers from 0 to 1, the lower first"
        )
    with closing(database.reader(to_read(db))) as connection:
        queue.experiment_id(connection, experiment)
        remarks = _remarks(connection, experiment)
        of_curves = {"target": target, "y": y, "label": label or None, "no-inset": no_inset or None}
        if _by_layer(connection, experiment, layers, **of_curves):
            figures.write_ratios(output, _ratios(connection, experiment, fraction), remarks, title)
        elif titled := _titled(connection, experiment, target):
            labels = _labels(connection, experiment, label or ())
            titled = {
                key: [replace(one, label=labels.get(one.curve, one.label)) for one in shown]
                for key, shown in titled.items()
            }
            figures.write(output, titled, View(x=x, full=full, y_range=y), remarks, title, inset=not no_inset)
        else:
            sys.exit(1)
    print(f"wrote {output}", file=sys.stderr)


def _labels(connection: sqlite3.Connection, experiment: str, given: Sequence[str]) -> dict[str, str]:
    """The labels of `--label`, by curve, whose name may hold a `=`. Raises InputError for an unknown curve."""
    curves, found = list(titles.of_curves(connection, experiment)), {}
    for one in given:
        if "=" not in one:
            raise InputError(f"--label {one} has no '=': give CURVE=TEXT, as in --label {shlex.quote(curves[0])}=TEXT")
        known = [curve for curve in curves if one.startswith(f"{curve}=")]
        curve = max(known, key=len) if known else chosen("curve", one.partition("=")[0], curves)
        found[curve] = titles.checked(one.removeprefix(f"{curve}="))
    return found


def _axes(x: str, ratio: str) -> tuple[str, Fraction]:
    """The names of an axis and a fraction. Raises InputError for an unknown one, even if the chart uses neither."""
    from cockpit.views import axes

    return chosen("--x", x, axes.AXES), chosen("--ratio", ratio, FRACTIONS)


def _by_layer(connection: sqlite3.Connection, experiment: str, wish: bool | None, **of_curves: object) -> bool:
    """Whether to draw layers. Raises InputError if options that only curves use are given, too."""
    given = [name for name, value in of_curves.items() if value is not None]
    if wish is None:
        return not given and sides.are_scopes_alone(connection, experiment)
    if wish and given:
        raise InputError(f"--{given[0]} applies only to curves: omit it or --layers")
    return wish


def _ratios(connection: sqlite3.Connection, experiment: str, fraction: Fraction) -> Ratios:
    found = ratios(connection, *sides.of_scopes(connection, experiment), fraction)
    if not found.levels:
        raise InputError(
            f"{experiment} has no pruned level with both scopes yet: train queued runs with `cockpit work`"
        )
    return found


def _titled(
    connection: sqlite3.Connection, experiment: str, target: str | None, live: bool = False
) -> "dict[str, list[Series]]":
    """The curves of each target with results, by title; names targets without results on stderr.

    For a named target, includes the curves of optimizers used only to find tickets. `live` curves are those in
    training that have no result yet.
    """
    from cockpit.views import curves, names

    found = [one for one in curves.read(connection, experiment) if (one.levels or live) and not one.is_hidden]
    definition = queue.definition_of(connection, queue.experiment_id(connection, experiment))
    targets = [data.name for data in definition.targets]
    if target is not None:
        have = sorted({one.target for one in found} | set(targets))
        target = chosen("target", target, have)
        targets = [target]
    else:
        found = [one for one in found if one.optimizer in definition.target_optimizers]
    titled = {}
    for name in targets:
        if series := names.named([one for one in found if one.target == name]):
            titled[names.title(series)] = list(series)
        else:
            todo = _next_command(connection, experiment)
            hints.warn(f"{experiment} has no results on {name} yet: {todo}")
    return titled


def _remarks(connection: sqlite3.Connection, experiment: str) -> list[str]:
    """Notes for a chart: how many runs are done, and sizes that differ from the paper."""
    number = queue.experiment_id(connection, experiment)
    found, sizes = rows.experiment(connection, number), presets.differences(queue.definition_of(connection, number))
    remarks = [f"{found.done} of {found.runs} runs done"] if found.done < found.runs else []
    return [*remarks, *([f"differs from the paper: {sizes}"] if sizes else [])]


def _print_ratios(found: Ratios) -> None:
    from cockpit.views import layer_tables, ratio_charts

    tables.draw(lambda width, _: ratio_charts.printed_ratios(found, width))
    tables.show(*layer_tables.ratio_table(found), keys=2)


def _print(titled: "dict[str, list[Series]]", x: str, full: bool) -> None:
    from cockpit.views import charts, curves
    from cockpit.views.axes import ACCURACY

    def chart(title: str, series: "list[Series]", width: int, blends: bool) -> "list[Row]":
        return charts.printed(series, title, replace(view(blends), x=x, full=full), width)

    for title, series in titled.items():
        tables.draw(partial(chart, f"{title} · {ACCURACY}", series))
        tables.show(*curves.table(series), keys=2)


def view(blends: bool) -> "View":
    """How charts are printed on a terminal that has colours that blend, or not."""
    from cockpit.views.legends import BACKGROUNDS, View

    return View(spread="bands" if blends else "bars", background=BACKGROUNDS[_is_dark()], sure=False)


def _is_dark() -> bool:
    """Whether the terminal's background is dark, by the configured theme, else by what the terminal reports."""
    if theme := config.screen().theme:
        return "light" not in theme
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] not in ("7", "15")


def _next_command(connection: sqlite3.Connection, experiment: str) -> str:
    """The next step for an experiment without results."""
    state = rows.experiment(connection, queue.experiment_id(connection, experiment)).status
    if state == "running":
        return "it is training; `cockpit status` shows progress"
    if state == "waiting":
        return "train it with `cockpit work --drain`"
    if state in ("paused", "cancelled"):
        return f"the experiment is {state}: `cockpit queue resume {shlex.quote(experiment)}`"
    return f"its runs have {state}; `cockpit queue show {shlex.quote(experiment)}` says why"
