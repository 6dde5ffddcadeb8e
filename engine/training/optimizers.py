"""Optimizers, each a function of parameters, learning rate and training.

`fused` asks for the learning rate as a tensor on the device and for one kernel, as a recorded step needs them; an
optimizer of a plug-in is not asked.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn, optim

from engine.machine.plugins import is_plugin
from engine.plan.optimizers import OPTIMIZERS
from engine.recipes import Training


def make(t: Training, model: nn.Module, on_device: torch.device | None) -> optim.Optimizer:
    """The optimizer of a training for a model's parameters, fused where it is asked for on a device."""
    build, rate = OPTIMIZERS.load(t.optimizer), t.learning_rate
    if is_plugin(t.optimizer):
        found: optim.Optimizer = build(model.parameters(), rate, t.weight_decay)
        return found
    first = rate if on_device is None else torch.tensor(rate, device=on_device)
    built: optim.Optimizer = build(model.parameters(), first, t, bool(on_device))
    return built


def sgd(parameters: Iterable[Tensor], rate: float | Tensor, t: Training, fused: bool) -> optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    return optim.SGD(
        parameters, rate, t.momentum, weight_decay=t.weight_decay, nesterov=t.nesterov, fused=fused or None
    )


def adam(parameters: Iterable[Tensor], rate: float | Tensor, t: Training, fused: bool) -> optim.Optimizer:
    """Adam; decay is an L2 penalty."""
    return optim.Adam(parameters, rate, t.betas, weight_decay=t.weight_decay, capturable=fused, fused=fused or None)


def adamw(parameters: Iterable[Tensor], rate: float | Tensor, t: Training, fused: bool) -> optim.Optimizer:
    """Adam with decoupled weight decay."""
    return optim.AdamW(parameters, rate, t.betas, weight_decay=t.weight_decay, capturable=fused, fused=fused or None)
