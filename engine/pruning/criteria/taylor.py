"""First-order estimate of the change in loss if a weight is removed: the mean of |weight x gradient| over batches.

Source: Molchanov et al. 2017, equation 8, for single weights. With one batch it equals snip.
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
