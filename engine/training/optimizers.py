"""Optimizers, each a function of parameters, learning rate and training.

A fused optimizer runs as one kernel and reads its learning rate from a tensor on the device, which CUDA graphs need.
Optimizers of plug-ins are never fused.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn, optim

from engine.machine.plugins import is_plugin
from engine.plan.optimizers import OPTIMIZERS
from engine.recipes import Training


def make(t: Training, model: nn.Module, on_device: torch.device | None) -> optim.Optimizer:
    """The optimizer of a training for a model's parameters; fused if a device is given."""
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
    """Adam, with weight decay as an L2 penalty."""
    return optim.Adam(parameters, rate, t.betas, weight_decay=t.weight_decay, capturable=fused, fused=fused or None)


def adamw(parameters: Iterable[Tensor], rate: float | Tensor, t: Training, fused: bool) -> optim.Optimizer:
    """AdamW: Adam with decoupled weight decay."""
    return optim.AdamW(parameters, rate, t.betas, weight_decay=t.weight_decay, capturable=fused, fused=fused or None)
