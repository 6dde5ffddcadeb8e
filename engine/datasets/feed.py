"""What training asks of a data set, whether that lies in memory or is decoded while it is trained on."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from engine.datasets import folders, load
from engine.datasets.catalog import is_streamed
from engine.datasets.pipeline import WHOLE, Data, Share
from engine.machine import vision
from engine.recipes import Training


class Images(Protocol):
    """The training, validation or test part of a data set."""

    def __len__(self) -> int: ...

    def batches(self, size: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """All images (B, C, H, W) uint8 in order, as they are classified in testing, and their labels (B,).

        Of each batch only the `share` of one process, where several train together.
        """


class Feed(Protocol):
    """A data set as one training configuration sees it, on one device.

    What happens to an image depends on (seed, epoch, index) alone, so data never depends on scheduling, on the
    device's speed, or on where a run was resumed.
    """

    shape: tuple[int, int, int]  # of an image: channels, height, width
    classes: int
    device: torch.device

    @property
    def train(self) -> Images: ...
    @property
    def validation(self) -> Images | None: ...
    @property
    def test(self) -> Images: ...

    def epoch(
        self, seed: int, epoch: int, first: int, size: int, share: Share = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of `size` of an epoch's order from place `first` on: images (B, C, H, W) uint8, labels (B,)."""

    def normalised(self, pixels: Tensor, memory_format: torch.memory_format) -> Tensor:
        """(B, C, H, W) uint8 as float32 with mean 0 and deviation 1 over the training set."""


def open_feed(location: str, training: Training, device: torch.device, decoders: int) -> Feed:
    """The data set of a training, which lies at `location`. `decoders` processes decode it if it is streamed.

    Raises InputError if it is gone, damaged, or not what was queued.
    """
    if is_streamed(training.dataset):
        vision.torchvision()  # which says what to do where it cannot be used
        from engine.datasets.streaming import Streamed

        return Streamed(*folders.find(training.dataset, location), training, device, decoders)
    return Data(load.load(training.dataset, location), training, device)
