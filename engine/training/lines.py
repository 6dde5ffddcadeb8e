"""Networks on the straight line between two trained ones (linear mode connectivity, Frankle et al. 2020)."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from engine.datasets.feed import Feed
from engine.recipes import Training
from engine.store.records import Position
from engine.training import loop

Weights = Mapping[str, Tensor]


def along(
    state: loop.State,
    data: Feed,
    training: Training,
    ends: tuple[Weights, Weights],
    points: int,
    after_batch: Callable[[loop.State], None],
) -> Iterator[Position]:
    """Evaluate `points` evenly spaced networks, from the first end to the second, on training and test images.

    Interpolates weights and batch-norm statistics linearly; integer tensors, such as batch counts, are those of the
    first end. Training images are neither cropped nor flipped. Leaves the model of `state` at the second end.
    `after_batch` is called after every batch and may raise to stop. Source: Frankle et al. 2020, section 2.
    """
    first, second = ends
    for number in range(points):
        position = number / (points - 1)
        mixed = {name: _between(value, second[name], position) for name, value in first.items()}
        state.model.load_state_dict(mixed)
        train, test = (loop.evaluate(state, data, images, training, after_batch) for images in (data.train, data.test))
        yield Position(position, train.loss, train.accuracy, test.loss, test.accuracy)


def _between(first: Tensor, second: Tensor, position: float) -> Tensor:
    return torch.lerp(first, second, position) if first.is_floating_point() else first
