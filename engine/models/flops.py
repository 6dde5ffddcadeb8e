"""FLOPs of one image: of the whole network, and of each weight tensor that pruning may remove."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, int, int]  # channels, height, width


def count(model: nn.Module, shape: Shape) -> tuple[int, dict[str, int]]:
    """The FLOPs of classifying one image of `shape`: the network's total, and those of each weight tensor by name.

    A multiplication and an addition count as two FLOPs. The total counts convolutions and matrix products. The mapping
    has the weights of convolutions, linear layers and attention projections; a layer that the network uses twice counts
    twice. `model` must be on the CPU; the call leaves it in evaluation mode.
    """
    uses: Counter[str] = Counter()  # by weight tensor: how often each of its weights multiplies
    hooks = [
        module.register_forward_hook(_noting(uses, path, module), with_kwargs=True)
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | nn.MultiheadAttention)
    ]
    counter = FlopCounterMode(display=False)
    try:
        # Gradients stay on: without them torch uses an attention kernel that FlopCounterMode does not count.
        with counter, torch.random.fork_rng(devices=[]):
            model.eval()(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return counter.get_total_flops(), {name: 2 * sizes[name] * times for name, times in uses.items()}


def _noting(uses: Counter[str], path: str, module: nn.Module) -> Callable[..., None]:
    """A forward hook that counts how often each weight of a layer multiplies a value."""

    def note(_: nn.Module, inputs: tuple[Tensor, ...], others: Mapping[str, Any], output: Any) -> None:
        if isinstance(module, nn.MultiheadAttention):
            named: dict[str, Tensor] = {**dict(zip(("query", "key", "value"), inputs, strict=False)), **others}
            lengths = [named[name].numel() // named[name].shape[-1] for name in ("query", "key", "value")]
            if module.in_proj_weight is not None:
                uses[f"{path}.in_proj_weight"] += sum(lengths) // 3
            else:
                for name, length in zip("qkv", lengths, strict=True):
                    uses[f"{path}.{name}_proj_weight"] += length
            uses[f"{path}.out_proj.weight"] += lengths[0]
        else:
            uses[f"{path}.weight"] += output.numel() // module.get_parameter("weight").shape[0]

    return note
