"""A data set on the device as uint8, cropped, flipped and normalised in batches.

The crop and flip of an image depend on (seed, epoch, index) only, not on scheduling, the device or resumptions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from engine import streams
from engine.datasets.load import Arrays, as_networks_see, first, held_out
from engine.recipes import Training

Share = tuple[int, int]  # one process's part of each batch: its rank, and the number of processes
WHOLE: Share = (0, 1)
PADDING = 4  # pixels of black around an image before a random crop of its own size


class Images:
    """Images and labels on a device. Colour pixels have a fourth byte, so that a gather moves one word per pixel."""

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
        """The images at `index` (B,), as (B, C, H, W) uint8 in channels_last.

        They are cropped at `top` and `left` (B,) of the padded image, and mirrored where `flip` (B,) is true.
        """
        device = self.labels.device
        rows = torch.arange(self.height, device=device).expand(len(index), -1)
        columns = torch.arange(self.width, device=device).expand(len(index), -1)
        if flip is not None:
            columns = torch.where(flip[:, None], self.width - 1 - columns, columns)
        if top is not None and left is not None:
            rows, columns = rows + top[:, None], columns + left[:, None]
        offset = (index[:, None] * self.stride_image + rows * self.stride_row)[:, :, None] + columns[:, None, :]
        words = self.pixels[offset]
        pixels = words.view(torch.uint8).view(*offset.shape, -1)  # one or four bytes a pixel
        return pixels[..., : self.channels].permute(0, 3, 1, 2)


class Data:
    """A data set in memory as one training configuration sees it, on one device (see `engine.datasets.feed.Feed`).

    The mean and standard deviation are per channel, of the training pixels without padding; test images use them, too.
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
        """The batches of an epoch from its image number `first` on: images (B, C, H, W) uint8, labels (B,)."""
        plan = EpochPlan(self, seed, epoch)
        for index in shares(plan.order[first:], size, share):
            yield self.batch(plan, index)

    def batch(self, epoch: "EpochPlan", index: Tensor) -> tuple[Tensor, Tensor]:
        """The training images (B, C, H, W) uint8 and labels (B,) at `index` (B,), augmented as in an epoch."""
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
    """One process's part of each batch of `size`, from an order (N,) of images; skips batches where it has none.

    Rank 0 has the first images of a batch. The parts of the processes differ by at most one image.
    """
    rank, processes = share
    for batch in torch.split(order, size):
        part = batch[len(batch) * rank // processes : len(batch) * (rank + 1) // processes]
        if len(part):
            yield part


def normalised(pixels: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Pixels (B, C, H, W) uint8 less `mean`, over `std` (both (C, 1, 1)), as float32."""
    # Expanded to a row of pixels, so that each row is one vector operation: twice as fast on a CPU, the same bits.
    row = (1, len(mean), 1, pixels.shape[3])
    mean, std = (each.expand(row).contiguous(memory_format=torch.channels_last) for each in (mean, std))
    return pixels.float().sub_(mean).div_(std).contiguous(memory_format=memory_format)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) float32 of images (N, H, W, C) uint8, from 0 to 255."""
    channels = range(images.shape[3])
    return statistics(torch.stack([torch.bincount(images[..., c].flatten(), minlength=256) for c in channels]))


def statistics(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) float32 from `counts` (C, 256) of the 256 levels in each channel.

    The counts are exact, so that the result depends neither on the order of images nor on the device.
    """
    levels = torch.arange(256, dtype=torch.float64)
    means, deviations = [], []
    for channel in counts.double():
        mean = (channel * levels).sum() / channel.sum()
        variance = (channel * (levels - mean) ** 2).sum() / channel.sum()
        means.append(mean)
        deviations.append(variance.sqrt().clamp(min=1.0))  # avoids division by 0 for a constant channel
    return torch.stack(means).float(), torch.stack(deviations).float()
