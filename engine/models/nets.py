"""Building networks, drawing their weights, and finding the prunable ones."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from engine import streams
from engine.errors import InputError, OptionName
from engine.machine import vision
from engine.models import user_model
from engine.models.architectures import ConvN, LeNet5, LeNet300, ResNet20, Shape, Vgg, VitTiny, torchvision_resnet
from engine.models.catalog import find
from engine.recipes import Init, Kind, Prunable

_LAST = (512,) * 4
VGG: dict[str, tuple[int | str, ...]] = {
    "vgg-digits": (24, 24, "M", 48, 48),
    "vgg11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512),
    "vgg13": (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512),
    "vgg16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512),
    "vgg19": (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", *_LAST, "M", *_LAST),
}
CONV_N = {"conv-2": 1, "conv-4": 2, "conv-6": 3}  # pairs of convolutions
OF_SHAPE: dict[str, Callable[[float, Shape, int], nn.Module]] = {
    "lenet-300-100": LeNet300,
    "lenet-5": LeNet5,
    "vit-tiny": VitTiny,
}
TORCHVISION = ("resnet18", "resnet50", "vit")  # prefixes of networks built by torchvision
# The weights of linear layers; attention has those of its input projections.
LINEAR: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("weight",),
    nn.MultiheadAttention: ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
}
OPTIONAL = ("channels", "width", "shape")  # arguments that a user model's factory may take besides `classes`


def build(name: str, width: float, shape: Shape, classes: int, folder: str = "", seed: int = 0) -> nn.Module:
    """The network `name` for images of `shape` (channels, height, width); `initialise` draws its weights.

    `folder` has the source of a user model. `seed` is for the random numbers that its factory draws: always 0, except
    to find such draws. Raises InputError for an unknown name, and if a user model cannot be built.
    """
    made = maker(name, width, shape, classes, folder)
    return _own(name, made, seed) if user_model.is_own(name) else made()


def maker(name: str, width: float, shape: Shape, classes: int, folder: str = "") -> partial[Any]:
    """The built-in class or the user's factory of a network, with its arguments. Raises InputError like `build`."""
    if user_model.is_own(name):
        factory = user_model.load(name, folder)
        given = _arguments(factory, name, {"channels": shape[0], "width": width, "shape": shape, "classes": classes})
        return partial(factory, **given)
    find(name)  # raises InputError for an unknown one
    if name.startswith(TORCHVISION):
        vision.torchvision()  # raises a clear error if it cannot be used
    if name in VGG:
        return partial(Vgg, VGG[name], width, shape[0], classes)
    if name in CONV_N:
        return partial(ConvN, CONV_N[name], width, shape, classes)
    if name in OF_SHAPE:
        return partial(OF_SHAPE[name], width, shape, classes)
    if name == "resnet20":
        return partial(ResNet20, width, shape[0], classes)
    base = name.removesuffix("-cifar")
    return partial(torchvision_resnet, base, width, shape[0], classes, base != name)


def _own(name: str, made: partial[Any], seed: int) -> nn.Module:
    """The network that a user's factory builds. Raises InputError if the factory fails."""
    # A fixed seed, for tensors that the factory draws and `initialise` does not draw again.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = made()
        except (Exception, SystemExit) as error:
            if any(f"unexpected keyword argument {key!r}" in str(error) for key in made.keywords):
                raise _other_names(name, f"({user_model.describe(error)})") from error
            said = ", ".join(f"{key}={value!r}" for key, value in made.keywords.items())
            raise InputError(f"model {name.partition('@')[0]}({said}) raised {user_model.describe(error)}") from error
    user_model.elsewhere()  # raises InputError if the factory imported files of its folder that are not hashed
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name.partition('@')[0]} made a {type(model).__name__}: it must return an nn.Module")
    return model


def _other_names(name: str, why: str) -> InputError:
    """The error for a factory, as of another library, whose arguments have other names."""
    given = name.partition("@")[0]
    module, _, factory = given.partition(":")
    return InputError(
        f"model {given} does not take classes{f' {why}' if why else ''}: wrap it in a module of your own, as in"
        f" `from {module} import {factory}` and `def net(classes): return {factory}(num_classes=classes)`"
    )


def _arguments(factory: Callable[..., Any], name: str, known: dict[str, Any]) -> dict[str, Any]:
    """The `known` arguments that a factory takes. Raises InputError if it needs others."""
    name = name.partition("@")[0]
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        raise InputError(f"model {name} does not tell its parameters: wrap it in a function of your own") from None
    takes = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        takes |= set(known)
    if "num_classes" in takes and "classes" not in takes:
        raise _other_names(name, "")
    if "classes" not in takes:
        raise InputError(f"model {name} takes no `classes`: define it as e.g. def {name.rpartition(':')[2]}(classes)")
    if needed := [p.name for p in parameters if p.default is p.empty and p.name not in known and p.name in takes]:
        raise InputError(
            f"model {name} needs {needed[0]!r}: it is given classes and, if asked for, {_listed(OPTIONAL)}"
        )
    if known["width"] != 1 and "width" not in takes:
        why = f"model {name} takes no `width`: leave "
        raise InputError(why, OptionName("width"), " out, or let the factory have it")
    return {key: value for key, value in known.items() if key in takes}


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def initialise(model: nn.Module, stream: str, seed: int, head_stream: str = "head", init: Init = "xavier") -> nn.Module:
    """Draw fresh weights in place: for convolutions and linear layers from `init`, with biases 0.

    `xavier` is Xavier normal (section 3.2), `kaiming` normal of variance 2 / inputs (He et al. 2015, equation 10),
    `default` each layer's own. Other layers, and parameters that a subclass adds, are drawn by their reset method. The
    output layer has its own stream, so that a head replaced for a target is the same at all levels.
    """
    draw, head_draw = streams.generator(stream, seed), streams.generator(head_stream, seed)
    head = model.get_submodule(output_layer(model))

    def reset(module: nn.Module) -> None:
        with torch.random.fork_rng(devices=[], enabled=module is head):
            if module is head:
                torch.manual_seed(streams.key(head_stream, seed))
            _reset(module)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.key(stream, seed))  # for layers that draw their own parameters
        if init == "default":
            return model.apply(reset)
        for module in model.modules():
            drawn_here = isinstance(module, nn.Conv2d | nn.Linear)
            if not drawn_here or {name for name, _ in module.named_parameters(recurse=False)} - {"weight", "bias"}:
                _reset(module)
            if isinstance(module, nn.Conv2d | nn.Linear):
                _draw(module, init, head_draw if module is head else draw)
    return model


def _reset(module: nn.Module) -> None:
    """Let a layer draw its parameters by the reset method of torch's layers (attention's is private)."""
    for method in ("reset_parameters", "_reset_parameters"):
        if callable(reset := getattr(module, method, None)):
            reset()
            return


def _draw(layer: nn.Conv2d | nn.Linear, init: Init, draw: torch.Generator) -> None:
    if init == "kaiming":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=draw)
    else:
        nn.init.xavier_normal_(layer.weight, generator=draw)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def prunable(model: nn.Module, rule: Prunable = "conv") -> dict[str, Tensor]:
    """The prunable weights by name, in the order of layers: convolution kernels and, by the rule, linear layers.

    A user model may name other weights instead of the kernels in its attribute `prunable`. The output layer's weight is
    included only by the rules `conv+output` and `conv+linear`. Empty if no other weight is prunable.
    """
    head = output_layer(model)
    modules = [(name, module) for name, module in model.named_modules() if name != head]
    chosen = getattr(model, "prunable", None)
    if chosen is None:
        chosen = [f"{name}.weight" for name, module in modules if isinstance(module, nn.Conv2d)]
    wanted = set(chosen)
    if rule == "conv+linear":
        for name, module in modules:
            wanted |= {f"{name}.{weight}" for kind, own in LINEAR.items() if isinstance(module, kind) for weight in own}
    elif not wanted:
        return {}
    if rule != "conv":
        wanted.add(f"{head}.weight")
    return {name: parameter for name, parameter in model.named_parameters() if name in wanted}


def rules(model: nn.Module) -> dict[str, Prunable]:
    """The narrowest rule that prunes each weight, for all prunable weights, in the order of layers."""
    narrowest: dict[str, Prunable] = {}
    for rule in reversed(get_args(Prunable)):  # from the widest to the narrowest
        narrowest |= dict.fromkeys(prunable(model, rule), rule)
    return narrowest


def kinds(model: nn.Module) -> dict[str, Kind]:
    """The kind of layer of each prunable weight, by the weight's name, in the order of layers."""
    head, convolutions = f"{output_layer(model)}.weight", prunable(model)
    return {
        name: "output" if name == head else "conv" if name in convolutions else "linear"
        for name in prunable(model, "conv+linear")
    }


def output_layer(model: nn.Module) -> str:
    """The name of the output layer: the last linear one, or the attribute `output_layer` of a user model.

    Raises InputError if neither exists.
    """
    if isinstance(named := getattr(model, "output_layer", None), str):
        return named
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise InputError(f"{type(model).__name__} has no linear layer to end in")
    return str(names[-1])
