"""An optimizer."""

from collections.abc import Iterable

from torch import Tensor, optim


def rmsprop(parameters: Iterable[Tensor], learning_rate: float, weight_decay: float) -> optim.Optimizer:
    """RMSprop with torch's other defaults."""
    return optim.RMSprop(parameters, learning_rate, weight_decay=weight_decay)
