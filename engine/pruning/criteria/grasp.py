"""How much of the norm of the gradient a weight keeps: weight x (Hessian x gradient) (GraSP, Wang et al. 2020, eq. 8).

Gradient and Hessian are of the weights that are pruned. The loss is of logits divided by 200, as in their experiments.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.pruning.networks import Network

TEMPERATURE = 200.0


def scores(
    final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator, network: Network
) -> dict[str, Tensor]:
    """The score of each weight: the negative of theirs, whose highest are pruned."""
    gradient = {name: torch.zeros_like(weight) for name, weight in network.weights.items()}
    for loss in network.losses(TEMPERATURE):
        for name, part in network.gradient(loss).items():
            gradient[name] += part
    # The sums over the batches stand for their means: a factor changes no order.
    product = {name: torch.zeros_like(weight) for name, weight in network.weights.items()}
    for loss in network.losses(TEMPERATURE):
        slopes = network.gradient(loss, differentiable=True)
        along = torch.stack([(slopes[name] * gradient[name]).sum() for name in slopes]).sum()
        for name, part in network.gradient(along).items():
            product[name] += part
    return {name: weight.detach() * product[name] for name, weight in network.weights.items()}
