"""A data set that is decoded while it is trained on: processes beside the worker read, decode, crop and resize.

Only some batches lie in memory at a time, however many images there are. Which process decodes an image changes nothing
about it (see `engine.datasets.feed`).
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

PIECE = 16  # images that a decoder hands over at once: 2.4 MB of shared memory at 224 pixels
PIECES_AHEAD = 4  # for each decoder: one in its hands, one to take next, two that wait to be trained on
FILES_EACH = 6 + PIECES_AHEAD  # that are open for each decoder: its pipes, and what it has decoded
FILES = 512  # that are open for all else, the decoders of another set among them
STATISTICS_IMAGES = 4096  # of the training set, in the order of a fixed hash
# What is used with ImageNet everywhere, of its training images in levels of gray.
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]) * 255, torch.tensor([0.229, 0.224, 0.225]) * 255)

Names = np.ndarray[tuple[int], np.dtype[np.bytes_]]  # bytes take a tenth of what strings do


class Piece(NamedTuple):
    """Images that are decoded together: to be augmented by a stream of random numbers, or as they are in testing."""

    files: list[Path]
    indices: list[int]
    side: int
    stream_key: int | None
    flips: bool


def decoded(piece: Piece) -> Tensor:
    """The images (B, 3, side, side) uint8 of a piece. Raises InputError for a file that is no image.

    A tensor goes through shared memory, and only its name through the pool's pipe, at once. A decoder that was killed
    within a longer message would leave half of it there, for the rest of which the pool waits for ever.
    """
    found = torch.empty(len(piece.files), 3, piece.side, piece.side, dtype=torch.uint8)
    images = map(decoding.decode, piece.files)
    if piece.stream_key is None:
        for place, image in enumerate(images):
            found[place] = decoding.centred(image, piece.side)
    else:
        draws = decoding.draws_for(piece.indices, piece.stream_key)
        for place, (image, numbers) in enumerate(zip(images, draws, strict=True)):
            found[place] = decoding.augmented(image, piece.side, numbers, piece.flips)
    return found


def room_for(count: int) -> int:
    """`count`, or as many decoders as this process may have files open for: the limit is raised if it can be."""
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
    """Processes that decode pieces ahead of their use. They end with the process that they decode for."""

    def __init__(self, count: int) -> None:
        self.count = room_for(count)
        self._pool = self._open()

    def _open(self) -> ProcessPoolExecutor:
        # Forked from a process of their own, which has imported what they need: this one has threads, and perhaps CUDA.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        return ProcessPoolExecutor(self.count, context, _begin)

    def decode(self, pieces: Iterable[Piece]) -> Iterator[Tensor]:
        """The images of each piece, in order."""
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
    """What a process decoded; if that was killed, from outside or as memory was short, it is decoded here."""
    try:
        return future.result()
    except BrokenProcessPool:
        return decoded(piece)


def _begin() -> None:
    """What a decoder does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the worker's parent
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_worker, daemon=True).start()


def _end_with_worker() -> None:
    worker = parent_process()
    assert worker is not None
    connection.wait([worker.sentinel])
    os._exit(0)


@dataclass(frozen=True)
class Source:
    """How the images of a streamed set are had: from where, how large, whether mirrored in training, on what device."""

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
        """All images (B, C, H, W) uint8 in order, as they are classified in testing, and their labels (B,)."""
        return self.served(list(shares(torch.arange(len(self)), size, share)), None)

    def served(self, batches: Sequence[Tensor], stream_key: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """The images at the places that each batch names, and their labels, on the device."""
        side, device = self.source.side, self.source.device
        pinned = device.type == "cuda"  # so that copying to the card waits for nothing
        arriving = self.source.decoders.decode(self.pieces(batches, stream_key))
        for index in batches:
            pixels = torch.empty(len(index), 3, side, side, dtype=torch.uint8, pin_memory=pinned)
            for place in range(0, len(index), PIECE):
                pixels[place : place + PIECE] = next(arriving)
            labels = torch.tensor(self.labels[index.numpy()], pin_memory=pinned)
            yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    def pieces(self, batches: Iterable[Tensor], stream_key: int | None) -> Iterator[Piece]:
        """What is to be decoded for batches: no piece is of two."""
        for batch in batches:
            for piece in _cut(batch, PIECE):
                files = [self.source.root / os.fsdecode(name) for name in self.files[piece.numpy()]]
                yield Piece(files, piece.tolist(), self.source.side, stream_key, self.source.flips)

    def levels(self, most: int) -> Tensor:
        """How often each of the 256 levels of gray occurs in each channel (3, 256) of up to `most` images."""
        chosen = streams.permutation(len(self), streams.key("statistics"))[:most]
        counts = torch.zeros(3, 256, dtype=torch.int64)
        for images in self.source.decoders.decode(self.pieces(_cut(chosen, PIECE), None)):
            for channel in range(3):
                counts[channel] += torch.bincount(images[:, channel].flatten(), minlength=256)
        return counts


class Streamed:
    """A streamed data set as one training configuration sees it, on one device (see `engine.datasets.feed.Feed`).

    Mean and deviation are per channel: for ImageNet the constants used everywhere, else those of up to 4,096 training
    images as they are in testing, computed once.
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
        """The batches of `size` of an epoch's order from place `first` on: images (B, C, H, W) uint8, labels (B,)."""
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
    """`order` in pieces of `size`, the last one shorter; of nothing none, where `torch.split` gives an empty one."""
    return list(torch.split(order, size)) if len(order) else []
