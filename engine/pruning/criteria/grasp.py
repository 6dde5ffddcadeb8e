"""How much of the norm of the gradient a weight keeps: weight x (Hessian x gradient) (GraSP, Wang et al. 2020, eq. 8).

Gradient and Hessian are of the weights that are pruned. The loss is of logits divided by 200, as in their experiments.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.pruning.networks import Network, summed

TEMPERATURE = 200.0


def scores(
    final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator, network: Network
) -> dict[str, Tensor]:
    """The score of each weight: the negative of theirs, whose highest are pruned."""
    gradient = summed(map(network.gradient, network.losses(TEMPERATURE)))

    def product_of(loss: Tensor) -> dict[str, Tensor]:
        slopes = network.gradient(loss, differentiable=True)
        return network.gradient(torch.stack([(slopes[name] * gradient[name]).sum() for name in slopes]).sum())

    # The sums over the batches stand for their means: a factor changes no order.
    product = summed(map(product_of, network.losses(TEMPERATURE)))
    return {name: weight.detach() * product[name] for name, weight in network.weights.items()}
