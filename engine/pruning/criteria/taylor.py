"""The change of the loss without the weight, to first order: the mean of |weight x gradient| over the batches.

Molchanov et al. 2017, equation 8, of single weights. Of one batch it is snip's.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.pruning.networks import Network, summed


def scores(
    final: Mapping[str, Tensor], rewound: Mapping[str, Tensor], draw: torch.Generator, network: Network
) -> dict[str, Tensor]:
    """The score of each weight."""
    return summed(
        {name: (network.weights[name].detach() * part).abs() for name, part in network.gradient(loss).items()}
        for loss in network.losses()
    )
