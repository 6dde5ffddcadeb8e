"""`cockpit models`: list networks, and show the layers of one."""

import json
import re
import sys
from typing import Annotated

import msgspec
import typer
from msgspec import structs

from cockpit.requests import choices
from cockpit.requests.shared import Json, within
from cockpit.requests.trusting import TrustModels, asking
from cockpit.views import tables
from engine.errors import InputError, Range
from engine.models import catalog, trust, user_model
from engine.plan.options import OPTIONS
from engine.recipes import Prunable

app = typer.Typer()

HEADINGS = ("model", "what", "smallest side", "epochs", "rate drops at", "batch", "optimizer")
FILES_SHOWN = 8  # most files of a model's source
LAYER_HEADINGS = ("layer", "kind", "weight", "output", "parameters", "prunable", "FLOPs")


@app.command("list", epilog="Example: cockpit models list")
def list_(as_json: Json = False) -> None:
    """List the built-in networks with their default training."""
    if as_json:
        print(json.dumps([{"name": name, **structs.asdict(model)} for name, model in catalog.MODELS.items()]))
        return
    tables.show(HEADINGS, [_cells(name, model) for name, model in catalog.MODELS.items()], left=2)
    print("your own: package.module:factory (docs/models.md)", file=sys.stderr)


def _cells(name: str, model: catalog.Model) -> list[str]:
    drops = " ".join(map(str, model.milestones))
    return [
        name,
        model.summary,
        str(model.smallest_side),
        str(model.epochs),
        drops,
        str(model.batch_size),
        model.optimizer,
    ]


@app.command("show", epilog="Example: cockpit models show resnet50 --size 224 --classes 1000")
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A network of `cockpit models list`, or your own: package.module:factory.",
            autocompletion=choices.OF_OPTIONS["model"],
        ),
    ],
    size: Annotated[
        str | None,
        typer.Option(help="Image size: 224, or channels and sides as 1x28x28.", show_default="3x32x32"),
    ] = None,
    width: Annotated[float, typer.Option(help="Multiplier of the channels.")] = 1.0,
    classes: Annotated[int, typer.Option(help="Number of classes.", callback=within(Range(1, 1_000_000)))] = 10,
    prunable: Annotated[
        str | None,
        typer.Option(
            help="Prunable layers: conv, conv+output or conv+linear.",
            autocompletion=choices.OF_OPTIONS["prunable"],
            show_default="the model's",
        ),
    ] = None,
    trust_models: TrustModels = False,
    as_json: Json = False,
) -> None:
    """Show a network's layers, parameters, prunable weights, and FLOPs per image.

    FLOPs count convolutions and linear layers; a multiply-add is two.
    """
    folder, files = "", []
    if user_model.is_own(name):
        source = trust.named(name)
        name, folder, files = source.identity, str(source.folder), list(map(str, source.code))
    shape = _shape(size) if size else (1, 8, 8) if name == catalog.default_for((1, 8, 8)) else (3, 32, 32)
    catalog.check(name, width, shape)
    rule: Prunable = OPTIONS["prunable"].read(prunable) if prunable else catalog.find(name).prunable
    ends = (catalog.End(shape, classes),)
    found = asking(trust_models, lambda: catalog.examine(name, width, ends, rule, folder))
    if as_json:
        about = {"name": name, "width": width, "shape": shape, "classes": classes}
        told = {
            key: value for key, value in msgspec.to_builtins(found).items() if key != "elsewhere" or value is not None
        }
        print(json.dumps({**about, **({"hashed": files} if files else {}), **told}))
        return
    tables.show(LAYER_HEADINGS, [_layer_cells(layer) for layer in found.layers], left=2)
    print(
        f"{name} x {width:g} for {_by(shape)} in {classes} classes: {found.parameters:,} parameters,"
        f" {found.prunable:,} prunable ({rule}), output layer {found.output_layer},"
        f" {_large(found.flops)}FLOPs an image ({_large(found.flops / 2)} multiply-adds)"
    )
    if files:
        more = f" and {len(files) - FILES_SHOWN} more files" if len(files) > FILES_SHOWN else ""
        print(f"the hash covers {', '.join(files[:FILES_SHOWN])}{more}", file=sys.stderr)
    for file in found.elsewhere or ():
        print(f"the hash does not cover {file}: the model imports it from elsewhere", file=sys.stderr)


def _shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width of `224` or `3x224x224`."""
    sides = [int(side) for side in text.split("x")] if re.fullmatch(r"\d+(x\d+x\d+)?", text) else []
    channels, height, width = [3, sides[0], sides[0]] if len(sides) == 1 else sides or [0, 0, 0]
    if not (0 < channels <= 1024 and 0 < height <= 4096 and 0 < width <= 4096):
        raise InputError(f"--size {text!r} is not a size: give a side, as 224, or channels and sides, as 1x28x28")
    return channels, height, width


def _layer_cells(layer: catalog.LayerFacts) -> list[str]:
    counts = [f"{count:,}" if count else "" for count in (layer.parameters, layer.prunable)]
    sizes = [_by(shape or ()) for shape in (layer.weight, layer.output)]
    return [layer.name, layer.kind, *sizes, *counts, _large(layer.flops) if layer.flops else ""]


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _large(count: float) -> str:
    """A large number with its SI prefix: 236.0 M, 4.1 G."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.2f} {prefix}"
    return f"{count:.0f} "
