"""`cockpit presets list` and `show`: the paper's experiments, with their runs and device time here."""

import gc
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cockpit.requests import completing
from cockpit.requests.asking import asked_for
from cockpit.requests.outlook import basis, cells, estimate_json
from cockpit.requests.request import Request
from cockpit.requests.shared import Database, Json, to_read
from cockpit.views import tables
from engine.analysis import estimates, previews
from engine.analysis.estimates import Place
from engine.analysis.previews import Preview
from engine.plan import presets
from engine.plan.definitions import Definition, rewind_of
from engine.plan.durations import STEPS
from engine.plan.experiments import Curve, curves
from engine.store import database

COUNTED = ("curves", "runs", "new", "shared", "done", "device time")

Scale = Annotated[str | None, typer.Option(help="Reduced scale: see `cockpit queue add --help`.", show_default=False)]

app = typer.Typer()


@app.command("list", epilog="Example: cockpit presets list --scale small")
def list_(scale: Scale = None, as_json: Json = False, db: Database = None) -> None:
    """List presets with their runs and the device time left here. Needs no data sets."""
    single = {name: asked_for([name], {"scale": scale}) for name, one in presets.PRESETS.items() if not one.members}
    groups = [[one for each in presets.members(name) for one in single[each]] for name in presets.PRESETS]
    outlooks, _ = _outlooks(groups, to_read(db))
    found = {
        name: (len(asked), together)
        for name, asked, (_, together) in zip(presets.PRESETS, groups, outlooks, strict=True)
    }
    if as_json:
        print(json.dumps([{**_about(name), "experiments": n, **_counts(one)} for name, (n, one) in found.items()]))
        return
    rows = [[name, presets.find(name).summary, str(n), *_cells(one)] for name, (n, one) in found.items()]
    tables.show(("preset", "what", "experiments", *COUNTED), rows, left=2)


@app.command("show", epilog="Example: cockpit presets show fig3a --scale small")
def show(
    name: Annotated[
        str,
        typer.Argument(help="A preset of `cockpit presets list`.", autocompletion=completing.among(presets.PRESETS)),
    ],
    scale: Scale = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Show a preset's experiments with their curves, runs, and device time left here.

    Runs: `new` are not in the database; `shared` are, or belong to an experiment above; `done` are trained.
    Needs neither data sets nor a database.
    """
    preset = presets.find(name)
    asked = asked_for([name], {"scale": scale})
    [(each, together)], where = _outlooks([asked], to_read(db))
    if as_json:
        members = [_member(one, preview) for one, preview in zip(asked, each, strict=True)]
        print(json.dumps({**_about(name), "scale": scale, "experiments": members, **_counts(together)}))
        return
    tables.say("\n".join([f"{name}: {preset.summary}", *([preset.note] if preset.note else []), ""]))
    for line in dict.fromkeys(_training(one.definition) for one in asked):
        tables.say(line)
    tables.say(f"{_rewinds(one.definition for one in asked)}\n")
    rows = [[one.name, *_cells(preview)] for one, preview in zip(asked, each, strict=True)]
    if preset.members:
        rows.append(["all, each run once", *_cells(together)])
    tables.show(("experiment", *COUNTED), rows, left=1)
    if not preset.members:
        print()
        tables.show(("curve", "levels", "points"), [_curve(curve) for curve in curves(asked[0].definition)], left=1)
    print()
    for line in basis(together.estimate, where):
        print(line)


def _outlooks(
    groups: Sequence[Sequence[Request]], path: Path
) -> tuple[list[tuple[list[Preview], Preview]], list[Place]]:
    """What adding each group of experiments would do, regardless of existing names, and the workers assumed."""
    with _uncollected():
        if not path.exists():
            where = estimates.places(None)
            return previews.previews(None, [[one.definition for one in asked] for asked in groups], where), where
        with closing(database.reader(path)) as connection:
            where = estimates.places(connection)
            definitions = [[one.resolved(connection) for one in asked] for asked in groups]
            return previews.previews(connection, definitions, where), where


@contextmanager
def _uncollected() -> Iterator[None]:
    """Suspend garbage collection while 100,000 objects that all stay in use are made: it takes half of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _training(d: Definition) -> str:
    """The training of an experiment's runs in one line."""
    drops = f", the rate times {d.decay:g} from {', '.join(map(str, d.milestones))}" if d.milestones else ""
    replicates = presets.number(d.replicates, "replicate")
    return (
        f"{d.model} of width {d.width:g}: {d.epochs} epochs{drops}, batches of {d.batch_size};"
        f" {d.levels} pruning iterations; {replicates}; profile {d.profile}"
    )


def _rewinds(definitions: Iterable[Definition]) -> str:
    """Where tickets are rewound to, by their sources, in one line."""
    sources: dict[str, dict[str, None]] = {}
    for d in definitions:
        for data in d.sources:
            rewind = rewind_of(d, data)
            place = f"the end of epoch {rewind}" if isinstance(rewind, int) and rewind else f"step {rewind or 0}"
            sources.setdefault(place.removesuffix(STEPS), {})[data.name] = None
    ends = (f"{place} ({', '.join(names)})" for place, names in sorted(sources.items()))
    return f"tickets are rewound to {', to '.join(ends)}"


def _curve(curve: Curve) -> list[str]:
    levels = len({point.level for point in curve.points})
    return [curve.name, str(levels), str(len(curve.points))]


def _cells(one: Preview) -> list[str]:
    """The cells of `COUNTED`."""
    _, device_time, _, _ = cells(one.estimate)
    return [*map(str, (one.curves, one.runs, one.new, one.existing, one.done)), device_time or "0 s"]


def _about(name: str) -> dict[str, object]:
    preset = presets.find(name)
    return {"preset": name, "summary": preset.summary, "note": preset.note or None}


def _member(one: Request, preview: Preview) -> dict[str, object]:
    named = [{"name": curve.name, "runs": len(curve.points)} for curve in curves(one.definition)]
    about = {"experiment": one.name, "definition": json.loads(one.definition.to_json()), "curve_names": named}
    return {**about, **_counts(preview)}


def _counts(one: Preview) -> dict[str, object]:
    counts = {"curves": one.curves, "runs": one.runs, "new": one.new, "shared": one.existing, "done": one.done}
    return {**counts, "estimate": estimate_json(one.estimate)}
