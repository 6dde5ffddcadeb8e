"""Streamed data sets: separate processes read, decode, crop and resize images during training.

Only a few batches are in memory at a time, so a set may be of any size. An image does not depend on the process that
decodes it (see `engine.datasets.feed`).
"""

import hashlib
import json
import os
import resource
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine import streams
from engine.datasets import decoding, load
from engine.datasets.catalog import split_part
from engine.datasets.folders import Pictures, Split
from engine.datasets.manifests import cache_folder, write_cache
from engine.datasets.pipeline import WHOLE, Share, normalised, shares, statistics
from engine.recipes import Training

PIECE = 16  # images that a decoder returns at once: 2.4 MB of shared memory at 224 pixels
PIECES_AHEAD = 4  # for each decoder: one being decoded, one to decode next, two that wait for training
FILES_EACH = 6 + PIECES_AHEAD  # open files for each decoder: its pipes, and its decoded pieces
FILES = 512  # open files for everything else, such as the decoders of another set
STATISTICS_IMAGES = 4096  # of the training set, in the order of a fixed hash, for mean and deviation
# The customary mean and deviation of ImageNet's training images, from 0 to 255.
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]) * 255, torch.tensor([0.229, 0.224, 0.225]) * 255)

Names = np.ndarray[tuple[int], np.dtype[np.bytes_]]  # takes a tenth of the memory of Python strings


class Piece(NamedTuple):
    """Images to decode together, augmented by a stream of random numbers or (`stream_key` None) as in testing."""

    files: list[Path]
    indices: list[int]
    side: int
    stream_key: int | None
    flips: bool


def decoded(piece: Piece) -> Tensor:
    """The images (B, 3, side, side) uint8 of a piece. Raises InputError for a file that is no image.

    The result is a tensor because a tensor is passed in shared memory: only its short name goes through the pool's
    pipe. A decoder killed while it writes a longer message would leave the pool waiting for the rest for ever.
    """
    pixels = torch.empty(len(piece.files), 3, piece.side, piece.side, dtype=torch.uint8)
    images = map(decoding.decode, piece.files)
    if piece.stream_key is None:
        for i, image in enumerate(images):
            pixels[i] = decoding.centred(image, piece.side)
    else:
        draws = decoding.draws_for(piece.indices, piece.stream_key)
        for i, (image, numbers) in enumerate(zip(images, draws, strict=True)):
            pixels[i] = decoding.augmented(image, piece.side, numbers, piece.flips)
    return pixels


def room_for(count: int) -> int:
    """`count`, or fewer decoders if the limit of open files, which is raised where possible, allows no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = FILES + count * FILES_EACH
    if soft != unlimited and soft < wanted:
        raised = wanted if hard == unlimited else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return count if soft == unlimited else max(1, min(count, (soft - FILES) // FILES_EACH))


class Decoders:
    """Processes that decode pieces ahead of their use. They end with the worker that started them."""

    def __init__(self, count: int) -> None:
        self.count = room_for(count)
        self._pool = self._open()

    def _open(self) -> ProcessPoolExecutor:
        # Forked from a server process that has imported this module: the worker has threads, and perhaps CUDA.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        return ProcessPoolExecutor(self.count, context, _begin)

    def decode(self, pieces: Iterable[Piece]) -> Iterator[Tensor]:
        """The images (B, 3, side, side) uint8 of each piece, in order."""
        waiting: deque[tuple[Piece, Future[Tensor]]] = deque()
        try:
            for piece in pieces:
                waiting.append((piece, self._submit(piece)))
                if len(waiting) >= PIECES_AHEAD * self.count:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()

    def _submit(self, piece: Piece) -> "Future[Tensor]":
        try:
            return self._pool.submit(decoded, piece)
        except BrokenProcessPool:
            self._pool = self._open()
            return self._pool.submit(decoded, piece)


def _result(piece: Piece, future: "Future[Tensor]") -> Tensor:
    """The images of a piece. If its process was killed, by the user or for lack of memory, this one decodes it."""
    try:
        return future.result()
    except BrokenProcessPool:
        return decoded(piece)


def _begin() -> None:
    """Set up a new decoder process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker's parent handles Ctrl-C
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_worker, daemon=True).start()


def _end_with_worker() -> None:
    worker = parent_process()
    assert worker is not None
    connection.wait([worker.sentinel])
    os._exit(0)


@dataclass(frozen=True)
class Source:
    """The folder, side in pixels, mirroring in training, device and decoders of a streamed set."""

    root: Path
    side: int
    flips: bool
    device: torch.device
    decoders: Decoders


@dataclass(frozen=True)
class Part:
    """The training, validation or test images of a streamed set."""

    source: Source
    files: Names  # below the set's folder
    labels: load.Array

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, chosen: load.Array) -> "Part":
        """Some of the images."""
        return replace(self, files=self.files[chosen], labels=self.labels[chosen])

    def batches(self, size: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """All images (B, C, H, W) uint8 in order, as in testing, and their labels (B,)."""
        return self.served(list(shares(torch.arange(len(self)), size, share)), None)

    def served(self, batches: Sequence[Tensor], stream_key: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of each batch of indices and their labels, on the device."""
        side, device = self.source.side, self.source.device
        pinned = device.type == "cuda"  # lets the copy to the card run asynchronously
        arriving = self.source.decoders.decode(self.pieces(batches, stream_key))
        for index in batches:
            pixels = torch.empty(len(index), 3, side, side, dtype=torch.uint8, pin_memory=pinned)
            for begin in range(0, len(index), PIECE):
                pixels[begin : begin + PIECE] = next(arriving)
            labels = torch.tensor(self.labels[index.numpy()], pin_memory=pinned)
            yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    def pieces(self, batches: Iterable[Tensor], stream_key: int | None) -> Iterator[Piece]:
        """The pieces to decode for batches of indices. A piece belongs to one batch."""
        for batch in batches:
            for piece in _cut(batch, PIECE):
                files = [self.source.root / os.fsdecode(name) for name in self.files[piece.numpy()]]
                yield Piece(files, piece.tolist(), self.source.side, stream_key, self.source.flips)

    def levels(self, most: int) -> Tensor:
        """The counts (3, 256) of the 256 levels in each channel of up to `most` images, as in testing."""
        chosen = streams.permutation(len(self), streams.key("statistics"))[:most]
        counts = torch.zeros(3, 256, dtype=torch.int64)
        for images in self.source.decoders.decode(self.pieces(_cut(chosen, PIECE), None)):
            for channel in range(3):
                counts[channel] += torch.bincount(images[:, channel].flatten(), minlength=256)
        return counts


class Streamed:
    """A streamed data set as one training configuration sees it, on one device (see `engine.datasets.feed.Feed`).

    Mean and deviation are per channel: for ImageNet the customary constants, else of up to `STATISTICS_IMAGES` training
    images, cropped as in testing, computed once and cached.
    """

    def __init__(self, pictures: Pictures, side: int, training: Training, device: torch.device, decoders: int) -> None:
        self.shape, self.classes, self.device = (3, side, side), len(pictures.classes), device
        self.crops = training.augmentation != "none"
        source = Source(pictures.root, side, training.augmentation == "crop-flip", device, Decoders(decoders))
        train, self.test = (_part(source, split) for split in (pictures.train, pictures.test))
        if part := split_part(training.dataset)[1]:
            train = train.only(load.members(train.labels, part))
        if training.test_images is not None:
            self.test = self.test.only(load.first(self.test.labels, training.test_images))
        self.validation: Part | None = None
        if training.validation:
            held = load.held_out(train.labels, training.validation)
            self.validation = train.only(held)
            train = train.only(np.delete(np.arange(len(train)), held))
        self.train = train
        mean, std = self._statistics(training)
        self.mean, self.std = mean.reshape(-1, 1, 1).to(device), std.reshape(-1, 1, 1).to(device)

    def normalised(self, pixels: Tensor, memory_format: torch.memory_format) -> Tensor:
        """(B, C, H, W) uint8 as float32 with mean 0 and deviation 1 over the training set."""
        return normalised(pixels, self.mean, self.std, memory_format)

    def epoch(
        self, seed: int, epoch: int, first: int, size: int, share: Share = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from its image number `first` on: images (B, C, H, W) uint8, labels (B,)."""
        order = streams.permutation(len(self.train), streams.key("order", seed, epoch))[first:]
        batches = list(shares(order, size, share))
        return self.train.served(batches, streams.key("augment", seed, epoch) if self.crops else None)

    def _statistics(self, training: Training) -> tuple[Tensor, Tensor]:
        if split_part(training.dataset)[0] == "imagenet":
            return IMAGENET
        about = json.dumps([training.dataset, training.validation, STATISTICS_IMAGES])
        cache = cache_folder() / "statistics" / f"{hashlib.sha256(about.encode()).hexdigest()}.json"
        try:
            mean, std = map(torch.tensor, json.loads(cache.read_text()))
        except (OSError, ValueError):
            mean, std = statistics(self.train.levels(STATISTICS_IMAGES))
            write_cache(cache, [json.dumps([mean.tolist(), std.tolist()])])
        return mean, std


def _part(source: Source, split: Split) -> Part:
    return Part(source, np.array([os.fsencode(name) for name in split.files]), np.array(split.labels, np.int64))


def _cut(order: Tensor, size: int) -> list[Tensor]:
    """`order` in pieces of up to `size`. An empty order has no piece, where `torch.split` returns an empty one."""
    return list(torch.split(order, size)) if len(order) else []
