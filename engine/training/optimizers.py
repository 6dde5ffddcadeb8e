"""Optimizers, each a function of parameters, learning rate and weight decay.

The constants are the paper's (section 3 and appendix A.1). `on_device` asks for the learning rate as a tensor on the
device and for one fused kernel, as a recorded step needs them; an optimizer of a plug-in is not asked.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn, optim

from engine.machine.plugins import is_plugin
from engine.plan.optimizers import OPTIMIZERS

MOMENTUM = 0.9
BETAS = (0.9, 0.999)


def make(name: str, model: nn.Module, rate: float, decay: float, on_device: torch.device | None) -> optim.Optimizer:
    """The optimizer of a name, or of a plug-in's identity, for a model's parameters."""
    build = OPTIMIZERS.load(name)
    if is_plugin(name):
        found: optim.Optimizer = build(model.parameters(), rate, decay)
        return found
    built: optim.Optimizer = build(
        model.parameters(), rate if on_device is None else torch.tensor(rate, device=on_device), decay, bool(on_device)
    )
    return built


def sgd(parameters: Iterable[Tensor], rate: float | Tensor, decay: float, fused: bool) -> optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    return optim.SGD(parameters, rate, MOMENTUM, weight_decay=decay, fused=fused or None)


def adam(parameters: Iterable[Tensor], rate: float | Tensor, decay: float, fused: bool) -> optim.Optimizer:
    """Adam; decay is an L2 penalty."""
    return optim.Adam(parameters, rate, BETAS, weight_decay=decay, capturable=fused, fused=fused or None)


def adamw(parameters: Iterable[Tensor], rate: float | Tensor, decay: float, fused: bool) -> optim.Optimizer:
    """Adam with decoupled weight decay."""
    return optim.AdamW(parameters, rate, BETAS, weight_decay=decay, capturable=fused, fused=fused or None)
