"""Feeding training: a data set on the device as uint8, cropped, flipped and normalised in batches.

What happens to an image depends on (seed, epoch, index) alone, so data never depends on scheduling, on the device,
or on where a run was resumed.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from engine import streams
from engine.datasets.load import Arrays, as_networks_see, first, held_out
from engine.recipes import Training

Share = tuple[int, int]  # of each batch, what one of so many processes has: its rank, and how many they are
WHOLE: Share = (0, 1)
PADDING = 4  # pixels of black around an image before a random crop of its own size


class Images:
    """Images and labels on a device; colour images are packed with a fourth byte so that a gather moves one word."""

    def __init__(self, images: Tensor, labels: Tensor, padding: int, device: torch.device) -> None:
        self.labels, self.padding = labels.to(device), padding
        count, self.height, self.width, self.channels = images.shape
        padded = torch.zeros(
            count,
            self.height + 2 * padding,
            self.width + 2 * padding,
            4 if self.channels == 3 else 1,
            dtype=torch.uint8,
            device=device,
        )
        inner = padded[:, padding : padding + self.height, padding : padding + self.width]
        inner[..., : self.channels] = images.to(device)
        pixels = padded.view(torch.int32) if self.channels == 3 else padded
        self.stride_row, self.stride_image = padded.shape[2], padded.shape[1] * padded.shape[2]
        self.pixels = pixels.flatten()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """All images (B, C, H, W) uint8 in order, and their labels (B,)."""
        for index in shares(torch.arange(len(self), device=self.labels.device), size, share):
            inner = torch.full_like(index, self.padding)
            yield self.gather(index, inner, inner), self.labels[index]

    def gather(
        self, index: Tensor, top: Tensor | None = None, left: Tensor | None = None, flip: Tensor | None = None
    ) -> Tensor:
        """The images at `index` (B,), as (B, C, H, W) uint8 in channels_last, cropped at (`top`, `left`)."""
        device = self.labels.device
        rows = torch.arange(self.height, device=device).expand(len(index), -1)
        columns = torch.arange(self.width, device=device).expand(len(index), -1)
        if flip is not None:
            columns = torch.where(flip[:, None], self.width - 1 - columns, columns)
        if top is not None and left is not None:
            rows, columns = rows + top[:, None], columns + left[:, None]
        place = (index[:, None] * self.stride_image + rows * self.stride_row)[:, :, None] + columns[:, None, :]
        found = self.pixels[place]
        pixels = found.view(torch.uint8).view(*place.shape, -1)  # one byte a pixel, or four
        return pixels[..., : self.channels].permute(0, 3, 1, 2)


class Data:
    """A data set in memory as one training configuration sees it, on one device (see `engine.datasets.feed.Feed`).

    The mean and standard deviation are per channel, of the training pixels before any padding, and the same for the
    test images.
    """

    def __init__(self, arrays: Arrays, training: Training, device: torch.device) -> None:
        train, labels = arrays.train_images, arrays.train_labels
        self.classes, self.device = arrays.classes, device
        self.validation: Images | None = None
        if training.validation:
            chosen = held_out(labels, training.validation)
            kept = torch.ones(len(labels), dtype=torch.bool).numpy()
            kept[chosen] = False
            self.validation = Images(as_networks_see(train[chosen]), torch.from_numpy(labels[chosen]), 0, device)
            train, labels = train[kept], labels[kept]
        self.crops, self.flips = training.augmentation != "none", training.augmentation == "crop-flip"
        self.train = Images(as_networks_see(train), torch.from_numpy(labels), PADDING if self.crops else 0, device)
        test, test_labels = arrays.test_images, arrays.test_labels
        if training.test_images is not None:
            tested = first(test_labels, training.test_images)
            test, test_labels = test[tested], test_labels[tested]
        self.test = Images(as_networks_see(test), torch.from_numpy(test_labels), 0, device)
        self.shape = (self.train.channels, self.train.height, self.train.width)
        mean, std = channel_statistics(torch.from_numpy(train))
        self.mean = mean.expand(self.train.channels).reshape(-1, 1, 1).to(device)
        self.std = std.expand(self.train.channels).reshape(-1, 1, 1).to(device)

    def normalised(self, pixels: Tensor, memory_format: torch.memory_format) -> Tensor:
        """(B, C, H, W) uint8 as float32 with mean 0 and deviation 1 over the training set."""
        return normalised(pixels, self.mean, self.std, memory_format)

    def epoch(
        self, seed: int, epoch: int, first: int, size: int, share: Share = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of `size` of an epoch's order from place `first` on: images (B, C, H, W) uint8, labels (B,)."""
        plan = EpochPlan(self, seed, epoch)
        for index in shares(plan.order[first:], size, share):
            yield self.batch(plan, index)

    def batch(self, epoch: "EpochPlan", index: Tensor) -> tuple[Tensor, Tensor]:
        """The training images (B, C, H, W) uint8 and labels (B,) at `index` (B,), as they come in an epoch."""
        if epoch.top is None or epoch.left is None:
            return self.train.gather(index), self.train.labels[index]
        flip = None if epoch.flip is None else epoch.flip[index]
        return self.train.gather(index, epoch.top[index], epoch.left[index], flip), self.train.labels[index]


class EpochPlan:
    """The order of the training images in one epoch, and each one's crop and flip."""

    def __init__(self, data: Data, seed: int, epoch: int) -> None:
        device, count = data.train.labels.device, len(data.train)
        self.order = streams.permutation(count, streams.key("order", seed, epoch), device)
        self.top: Tensor | None = None
        self.left: Tensor | None = None
        self.flip: Tensor | None = None
        if data.crops:
            noise = streams.hash32(torch.arange(count, device=device), streams.key("augment", seed, epoch))
            corners = 2 * PADDING + 1
            self.top, self.left = noise % corners, (noise // corners) % corners
            if data.flips:
                self.flip = (noise >> 31).bool()


def shares(order: Tensor, size: int, share: Share) -> Iterator[Tensor]:
    """Of an order of images, in batches of `size`, what one process has of each; nothing where it has no image.

    Rank 0 has the first images of a batch; the parts of the processes differ by one image at most.
    """
    rank, processes = share
    for batch in torch.split(order, size):
        part = batch[len(batch) * rank // processes : len(batch) * (rank + 1) // processes]
        if len(part):
            yield part


def normalised(pixels: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Levels of gray (B, C, H, W) as float32, with this mean and deviation (C, 1, 1) brought to 0 and 1."""
    # Laid out over a row of pixels, so that a row is one vector operation: twice as fast on a CPU, the same bits.
    row = (1, len(mean), 1, pixels.shape[3])
    mean, std = (each.expand(row).contiguous(memory_format=torch.channels_last) for each in (mean, std))
    return pixels.float().sub_(mean).div_(std).contiguous(memory_format=memory_format)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (N, H, W, C) uint8 images, in levels of gray, as float32 (C,)."""
    channels = range(images.shape[3])
    return statistics(torch.stack([torch.bincount(images[..., c].flatten(), minlength=256) for c in channels]))


def statistics(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) float32 of channels in which each of 256 levels occurs `counts` (C, 256) times.

    From exact counts, so that neither order nor device matters.
    """
    levels = torch.arange(256, dtype=torch.float64)
    means, deviations = [], []
    for channel in counts.double():
        mean = (channel * levels).sum() / channel.sum()
        variance = (channel * (levels - mean) ** 2).sum() / channel.sum()
        means.append(mean)
        deviations.append(variance.sqrt().clamp(min=1.0))  # a channel of one colour stays finite
    return torch.stack(means).float(), torch.stack(deviations).float()
