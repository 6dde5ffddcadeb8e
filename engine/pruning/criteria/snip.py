"""SNIP, the sensitivity of the loss to scaling a weight: |weight x gradient| (Lee et al. 2019, equation 6)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.pruning.networks import Network, summed


def scores(
    final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator, network: Network
) -> dict[str, Tensor]:
    """The score of each weight."""
    # Of the loss over all batches. They divide by the sum over all weights, which changes no order.
    gradient = summed(map(network.gradient, network.losses()))
    return {name: (weight.detach() * gradient[name]).abs() for name, weight in network.weights.items()}
