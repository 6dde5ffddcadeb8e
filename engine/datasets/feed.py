"""The interface of data sets to training, for sets in memory and streamed ones."""

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
        """All images (B, C, H, W) uint8 in order, as in testing, and their labels (B,).

        If several processes train together, only one process's `share` of each batch.
        """


class Feed(Protocol):
    """A data set as one training configuration sees it, on one device.

    The crop and flip of an image depend on (seed, epoch, index) only, not on scheduling, the device's speed or
    resumptions.
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
        """The batches of an epoch from its image number `first` on: images (B, C, H, W) uint8, labels (B,)."""

    def normalised(self, pixels: Tensor, memory_format: torch.memory_format) -> Tensor:
        """(B, C, H, W) uint8 as float32 with mean 0 and deviation 1 over the training set."""


def open_feed(location: str, training: Training, device: torch.device, decoders: int) -> Feed:
    """Open the data set of a training, whose files are at `location`; `decoders` processes decode a streamed set.

    Raises InputError if the files are missing, damaged, or have changed since they were queued.
    """
    if is_streamed(training.dataset):
        vision.torchvision()  # raises a clear error if it cannot be used
        from engine.datasets.streaming import Streamed

        return Streamed(*folders.find(training.dataset, location), training, device, decoders)
    return Data(load.load(training.dataset, location), training, device)
