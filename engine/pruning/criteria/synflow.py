"""SynFlow, the flow through a weight: the sum over all paths of absolute weights, for an image of ones.

It uses no training image. Each level takes 100 rounds (`engine.pruning.criteria.ROUNDS`). Source: Tanaka et al. 2020,
algorithm 1.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from engine.pruning.networks import Network


def scores(
    final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator, network: Network
) -> dict[str, Tensor]:
    """The score of each weight: |weight x derivative of the sum of the outputs|."""
    # Products over many layers leave the range of float32.
    model = copy.deepcopy(network.model).double().eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            # Biases and batch norm's means are no part of a path.
            value.zero_() if name.endswith(("bias", "running_mean")) else value.abs_()
    weights = {name: model.get_parameter(name) for name in network.weights}
    ones = torch.ones(1, *network.shape, dtype=torch.float64, device=next(iter(weights.values())).device)
    found = torch.autograd.grad(model(ones).sum(), list(weights.values()))
    return {name: (weight.detach() * part).abs() for (name, weight), part in zip(weights.items(), found, strict=True)}
