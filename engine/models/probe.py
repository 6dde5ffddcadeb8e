"""Checks of a network by building it and training one small batch: `python -m engine.models.probe WHAT` (JSON).

It runs as a separate process because it imports torch and runs the code of user models. Built-in networks are built
without memory for their weights (torch's device meta); user models are limited to a share of the free memory.
"""

import json
import sys
from contextlib import nullcontext, redirect_stdout

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import InputError, OptionName
from engine.machine import memory, processes
from engine.models import nets, user_model
from engine.models.catalog import End, LayerFacts, NetworkFacts
from engine.recipes import Init, Prunable


def examine(
    name: str, width: float, ends: list[End], prunable: Prunable, folder: str = "", init: Init = "xavier"
) -> NetworkFacts:
    """The facts of the network for the first of `ends`.

    Raises InputError if it cannot be built and trained for each of `ends`, or if layers other than the output layer
    differ between them, so that one ticket does not fit all.
    """
    shown, own = name.partition("@")[0], user_model.is_own(name)
    with nullcontext() if own else torch.device("meta"):
        models = [nets.build(name, width, end.shape, end.classes, folder) for end in ends]
        for model, end in zip(models, ends, strict=True):
            if own:
                _check(shown, model, end, init)
            _check_training(shown, model, end, prunable)
            _compare(shown, models[0], ends[0], model, end)
        if own:
            first, again, other = (
                nets.build(name, width, ends[0].shape, ends[0].classes, folder, s) for s in (0, 0, 1)
            )
            _check_builds(shown, first, again, init)
            _check_constants(shown, first, other, init)
        facts = describe(models[0], ends[0].shape, prunable)
    return structs.replace(facts, elsewhere=tuple(map(str, user_model.elsewhere()))) if own else facts


def describe(model: nn.Module, shape: tuple[int, int, int], rule: Prunable) -> NetworkFacts:
    """The facts of a network, from running it on one image of this shape. Raises InputError if that fails."""
    outputs: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor):
            outputs[module] = tuple(output.shape[1:])

    layers = {path: m for path, m in model.named_modules() if list(m.parameters(recurse=False))}
    for module in layers.values():
        module.register_forward_hook(note)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        try:
            model.eval()(torch.zeros(1, *shape))
        except Exception as error:
            raise InputError(f"{type(model).__name__} fails in evaluation with {user_model.describe(error)}") from error
    flops, top = counter.get_flop_counts(), type(model).__name__
    pruned = nets.prunable(model, rule)

    def layer(path: str, module: nn.Module) -> LayerFacts:
        own_parameters = dict(module.named_parameters(path, recurse=False))
        return LayerFacts(
            name=path,
            kind=type(module).__name__,
            weight=tuple(weight.shape) if isinstance(weight := getattr(module, "weight", None), Tensor) else None,
            output=outputs.get(module),
            parameters=sum(value.numel() for value in own_parameters.values()),
            prunable=sum(value.numel() for key, value in own_parameters.items() if key in pruned),
            flops=sum(flops.get(f"{top}.{path}", {}).values()),
        )

    return NetworkFacts(
        layers=tuple(layer(path, module) for path, module in layers.items()),
        output_layer=nets.output_layer(model),
        parameters=sum(value.numel() for value in model.parameters()),
        prunable=sum(value.numel() for value in pruned.values()),
        buffers=len(model.state_dict()) > len(dict(model.named_parameters())),
        batch_norm=any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()),
        flops=counter.get_total_flops(),
    )


def _check(name: str, model: nn.Module, end: End, init: Init) -> None:
    """Raise InputError if a user model has tensors that cannot be drawn or saved, or that share memory."""
    _check_tensors(name, model)
    _check_parts(name, model, end.classes)
    _check_draws(name, model, init)


def _check_training(name: str, model: nn.Module, end: End, rule: Prunable) -> None:
    """Raise InputError if the network has no prunable weights, or cannot train on the smallest batch."""
    weights = nets.prunable(model, rule)
    if not weights:
        option = OptionName("prunable")
        others = [path for path, layer in model.named_modules() if isinstance(layer, nn.Conv1d | nn.Conv3d)]
        kind = type(model.get_submodule(others[0])).__name__ if others else ""
        named = f", and the attribute net.prunable = {[f'{others[0]}.weight']} a {kind} layer" if others else ""
        raise InputError(
            f"model {name} has no {'Conv2d layers' if others else 'convolutions'}, so ",
            option,
            f" {rule} prunes nothing: ",
            option,
            f" conv+linear prunes linear layers{named}",
        )
    size = "x".join(map(str, end.shape))
    try:
        logits = model.train()(torch.rand(end.batch, *end.shape))
    except (Exception, SystemExit) as error:
        many = "one image" if end.batch == 1 else f"{end.batch} images"
        why = f"model {name} fails on {many} of {size} with {user_model.describe(error)}"
        fix = (": a last batch of one image is left, choose another ", OptionName("batch_size"))
        raise InputError(why, fix if end.batch == 1 else "") from error
    wanted = (end.batch, end.classes)
    if not isinstance(logits, Tensor) or logits.shape != wanted:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise InputError(
            f"model {name} gives {given} for {end.batch} images of {size} in {end.classes} classes: it must give a"
            f" tensor of shape {wanted}, the logits"
        )
    loss = F.cross_entropy(logits.float(), torch.zeros(end.batch, dtype=torch.int64))
    _check_leaves(name, model, loss)
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise InputError(f"model {name} cannot be trained: backward() raised {user_model.describe(error)}") from error
    if unordered := [path for path, weight in weights.items() if weight.is_complex()]:
        raise InputError(
            f"model {name}: prunable weight {unordered[0]!r} is complex, and pruning compares real weights: hold its"
            " real and imaginary parts in weights of their own"
        )
    if unused := [path for path, weight in weights.items() if weight.grad is None]:
        raise InputError(f"model {name} does not use its prunable weight {unused[0]!r}: no gradient reaches it")


def _check_tensors(name: str, model: nn.Module) -> None:
    """Raise InputError for a tensor that cannot be drawn or masked: without sizes, on meta, or computed by a hook."""
    for path, module in model.named_modules():
        own_parameters = dict(module.named_parameters(recurse=False))
        if any(is_lazy(value) for value in (*own_parameters.values(), *module.buffers(recurse=False))):
            raise InputError(
                f"model {name}: layer {path!r} is a {type(module).__name__}, which has no sizes before it sees data:"
                f" give a {type(module).__name__.removeprefix('Lazy')} its sizes"
            )
        if any(value.is_meta for value in (*own_parameters.values(), *module.buffers(recurse=False))):
            raise InputError(
                f"model {name}: layer {path!r} is on the device meta, which holds no values: build it on cpu"
            )
        # A tensor computed by a hook is an attribute next to its parameters: weight next to weight_orig or weight_g.
        computed = [
            key
            for key, value in vars(module).items()
            if isinstance(value, Tensor) and any(other.startswith(f"{key}_") for other in own_parameters)
        ]
        if is_parametrized(module):
            computed += list(module.parametrizations)
        if computed:
            key = computed[0]
            pruned = f"{key}_mask" in dict(module.named_buffers(recurse=False))
            by = "torch.nn.utils.prune" if pruned else "a parametrization, as of weight_norm or spectral_norm"
            fix = "call prune.remove first" if pruned else "use the plain layer"
            raise InputError(
                f"model {name}: {key!r} of layer {path!r} is computed by {by}, so it can be neither drawn nor pruned:"
                f" {fix}"
            )


def _check_draws(name: str, model: nn.Module, init: Init) -> None:
    """Raise InputError if a parameter is neither constant nor drawn by the seed. Leaves the parameters of seed 0."""
    other, first, again = ({k: v.clone() for k, v in _drawn(name, model, seed, init).items()} for seed in (1, 0, 0))
    for path, value in first.items():
        if not _same(value, again[path]):
            raise InputError(
                f"model {name}: parameter {path!r} differs between two draws with one seed: draw it with torch's"
                " default generator"
            )
        if value.numel() > 1 and _same(value, other[path]) and not _same(value, value.flatten()[0].expand_as(value)):
            raise _undrawn(name, path)


def _drawn(name: str, model: nn.Module, seed: int, init: Init) -> dict[str, Tensor]:
    """The parameters that a seed should draw, after drawing them. Raises InputError if that fails."""
    try:
        nets.initialise(model, "init", seed, init=init)
    except Exception as error:
        raise InputError(f"model {name} cannot be initialised: {user_model.describe(error)}") from error
    return {path: value.detach() for path, value in model.named_parameters() if _is_drawn(value)}


def _undrawn(name: str, path: str) -> InputError:
    return InputError(
        f"model {name}: parameter {path!r} is the same for every seed: draw it in reset_parameters() of its module, or"
        " make it a buffer if it is fixed"
    )


def _is_drawn(value: Tensor) -> bool:
    """Whether a parameter is of a type that is drawn: floating-point or complex."""
    return value.is_floating_point() or value.is_complex()


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors, also sparse ones, have equal shapes and values."""
    return a.shape == b.shape and torch.allclose(a.to_dense(), b.to_dense(), rtol=0, atol=0, equal_nan=True)


def _check_builds(name: str, first: nn.Module, again: nn.Module, init: Init) -> None:
    """Raise InputError if a factory's networks differ between calls in tensors that a run's seed does not draw."""
    for model in (first, again):
        _drawn(name, model, 0, init)
    values = [dict([*model.named_parameters(), *model.named_buffers()]) for model in (first, again)]
    for path in sorted(set(values[0]) | set(values[1])):
        there, here = (each.get(path) for each in values)
        if there is not here and (there is None or here is None or not _same(there, here)):
            raise InputError(
                f"model {name}: {path} is another each time that the factory is called: draw it with torch's default"
                " generator, or seed what draws it"
            )


def _check_constants(name: str, first: nn.Module, other: nn.Module, init: Init) -> None:
    """Raise InputError if the factory drew a parameter that `_check_draws` takes for constant, such as one number.

    The two networks were built with different seeds of torch, but all runs build with one seed.
    """
    there = _drawn(name, other, 0, init)
    for path, value in _drawn(name, first, 0, init).items():
        if path in there and there[path].shape == value.shape and not _same(value, there[path]):
            raise _undrawn(name, path)


def _check_leaves(name: str, model: nn.Module, loss: Tensor) -> None:
    """Raise InputError if the loss depends on a trainable tensor that is no parameter of the model."""
    known = {id(value) for value in model.parameters()}
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # only leaves have it
        if variable is not None and id(variable) not in known:
            shape = "x".join(map(str, variable.shape)) or "1"
            raise InputError(
                f"model {name} uses a {shape} tensor that requires a gradient and is none of its parameters: make it an"
                " nn.Parameter, and keep layers in an nn.ModuleList"
            )
        nodes += [before for before, _ in node.next_functions]


def _check_parts(name: str, model: nn.Module, classes: int) -> None:
    """Raise InputError if `output_layer` or `prunable` name no layer or parameter, or if layers share weights."""
    if isinstance(model, nn.Linear | nn.Conv2d):
        raise InputError(f"model {name} is itself a layer, which has no name: put it into an nn.Sequential")
    try:
        head = nets.output_layer(model)
    except InputError as error:
        raise InputError(f"model {name}: ", error) from None
    layers = {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    if head not in layers:
        raise InputError(f"model {name}: output_layer {head!r} is no linear or convolutional layer of it")
    if not hasattr(model, "output_layer") and layers[head].weight.shape[0] != classes:
        raise InputError(
            f"model {name}: its last linear layer, {head}, does not give the {classes} classes: set the attribute"
            " output_layer to the name of the one that does"
        )
    chosen, parameters = getattr(model, "prunable", None), dict(model.named_parameters())
    if chosen is not None and not (
        isinstance(chosen, list | tuple)
        and chosen
        and all(isinstance(path, str) and path in parameters for path in chosen)
    ):
        raise InputError(f"model {name}: `prunable` must list names of its parameters, as 'conv1.weight'")
    keys: dict[int, str] = {}
    for key, value in model.state_dict().items():
        if value.numel() and (other := keys.setdefault(value.data_ptr(), key)) != key:
            raise InputError(
                f"model {name}: {other} and {key} are one tensor; layers that share weights cannot be kept"
            )


def _compare(name: str, first: nn.Module, there: End, other: nn.Module, here: End) -> None:
    """Raise InputError if two networks differ in more than the output layer."""
    head = nets.output_layer(first)
    shapes = [{key: tuple(value.shape) for key, value in model.state_dict().items()} for model in (first, other)]
    for key in sorted(set(shapes[0]) | set(shapes[1])):
        if shapes[0].get(key) != shapes[1].get(key) and not key.startswith(f"{head}."):
            was, now = (shapes[i].get(key, "absent") for i in (0, 1))
            ends = [f"{'x'.join(map(str, end.shape))} in {end.classes} classes" for end in (there, here)]
            raise InputError(
                f"model {name}: {key} is {was} for images of {ends[0]}, but {now} for {ends[1]}: a ticket fits only"
                " where all layers but the output layer stay the same"
            )


def main() -> None:
    """The command: takes the arguments of `examine` as JSON, and prints its result as JSON."""
    wanted = json.loads(sys.argv[1])
    wanted["ends"] = [End(**{**end, "shape": tuple(end["shape"])}) for end in wanted["ends"]]

    def find() -> NetworkFacts:
        with redirect_stdout(sys.stderr), memory.limited(f"model {wanted['name'].partition('@')[0]}"):
            return examine(**wanted)  # a user model may print

    processes.answer(find)


if __name__ == "__main__":
    main()
