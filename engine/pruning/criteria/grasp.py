"""GraSP, the gradient norm that a weight preserves: weight x (Hessian x gradient) (Wang et al. 2020, equation 8).

Gradient and Hessian are by the prunable weights. The loss divides logits by 200, as in the experiments of Wang et al.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.pruning.networks import Network, summed

TEMPERATURE = 200.0


def scores(
    final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator, network: Network
) -> dict[str, Tensor]:
    """The score of each weight: the negative of Wang et al.'s, who prune the highest."""
    gradient = summed(map(network.gradient, network.losses(TEMPERATURE)))

    def product_of(loss: Tensor) -> dict[str, Tensor]:
        slopes = network.gradient(loss, differentiable=True)
        return network.gradient(torch.stack([(slopes[name] * gradient[name]).sum() for name in slopes]).sum())

    # The sums over the batches stand for their means: a factor changes no order.
    product = summed(map(product_of, network.losses(TEMPERATURE)))
    return {name: weight.detach() * product[name] for name, weight in network.weights.items()}
