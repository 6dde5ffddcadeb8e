"""A network under a mask, for criteria that use more than weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.models import nets
from engine.recipes import Kind

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]  # normalised images (B, C, H, W) float32, labels (B,) int64


def summed(parts: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The sum of at least one mapping, by layer."""
    found: dict[str, Tensor] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found[name] + value if name in found else value
    return found


class Network:
    """A copy of a network that a criterion may change, and the batches of training images that it may use.

    `weights` are the parameters of the prunable layers, in their order. Pruned weights are 0; `masks` (bool, by layer)
    are False for them.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str], shape: tuple[int, int, int], batches: Batches) -> None:
        self.model, self.shape, self._batches = model.train(), shape, batches
        self.weights = {name: model.get_parameter(name) for name in layers}
        self.masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each layer, by the name of its weight."""
        return nets.kinds(self.model)

    def mask(self, masks: Mapping[str, Tensor]) -> None:
        """Prune to `masks`, which must not keep a weight that was pruned before."""
        for name, mask in masks.items():
            self.masks[name] = mask.to(self.weights[name].device)
            self.weights[name].data.masked_fill_(~self.masks[name], 0.0)

    def losses(self, temperature: float = 1.0) -> Iterator[Tensor]:
        """The mean cross-entropy of each batch, a float32 scalar, in training mode; each call uses the same batches."""
        for number, (images, labels) in enumerate(self._batches()):
            with torch.random.fork_rng([images.device] if images.is_cuda else []):
                torch.manual_seed(number)  # for layers that draw random numbers, such as dropout
                with sdpa_kernel(SDPBackend.MATH):  # the attention kernel with a second derivative
                    logits = self.model(images)
            yield F.cross_entropy(logits / temperature, labels)

    def gradient(self, value: Tensor, differentiable: bool = False) -> dict[str, Tensor]:
        """The gradient of `value`, a scalar, by the weights, in their shapes; 0 for pruned weights."""
        found = torch.autograd.grad(value, list(self.weights.values()), create_graph=differentiable)
        return {name: part * self.masks[name] for (name, part) in zip(self.weights, found, strict=True)}
