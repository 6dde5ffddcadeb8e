"""The content of a data set, for `cockpit data check`. Run as a process, it answers in JSON (`processes.ask`)."""

import hashlib
import sys

import numpy as np
import torch
from PIL import Image

from engine.datasets import folders, load, pipeline
from engine.datasets.catalog import is_streamed, split_part
from engine.datasets.contents import Contents, Counts, Sample
from engine.machine import devices, processes, vision
from engine.recipes import Training

SAMPLES = 12  # most classes of which the first image is a sample
SAMPLE_SIDE = 24  # largest side of a sample in pixels


def describe(identity: str, location: str) -> Contents:
    """Read a data set and return its content. Raises InputError if it cannot be read."""
    if is_streamed(identity):
        return _describe_streamed(identity, location)
    base, part = split_part(identity)
    whole = load.load(base, location)
    chosen = load.cut(whole, part)
    mean, deviation = pipeline.channel_statistics(torch.from_numpy(chosen.train_images))
    return Contents(
        counts=_counts(whole.train_labels, chosen.train_labels, whole.test_labels),
        mean=_fractions(mean),
        deviation=_fractions(deviation),
        sha256=digest(whole),
        samples=tuple(_sample(label, chosen.train_images[first]) for label, first in _firsts(chosen.train_labels)),
    )


def _describe_streamed(identity: str, location: str) -> Contents:
    vision.torchvision()  # raises a clear error if it cannot be used
    from engine.datasets.streaming import Streamed

    pictures, side = folders.find(identity, location)
    any_training = Training(
        dataset=identity,
        model="",
        learning_rate=0.1,
        epochs=1,
        milestones=(),
        augmentation="none",
        profile="exact",
        seed=0,
    )
    feed = Streamed(pictures, side, any_training, torch.device("cpu"), devices.decoders(1))
    samples = []
    for label, first in _firsts(feed.train.labels):
        pixels, _ = next(feed.train.only(np.array([first])).batches(1))
        samples.append(_sample(label, pixels[0].permute(1, 2, 0).numpy()))
    labels = np.array(pictures.train.labels), feed.train.labels, np.array(pictures.test.labels)
    return Contents(_counts(*labels), _fractions(feed.mean), _fractions(feed.std), None, tuple(samples))


def _counts(whole: load.Array, chosen: load.Array, test: load.Array) -> Counts:
    classes = int(whole.max()) + 1
    parts = (chosen, whole[load.half(whole, "a")], whole[load.half(whole, "b")], test)
    return Counts(*(tuple(np.bincount(labels, minlength=classes).tolist()) for labels in parts))


def _fractions(values: torch.Tensor) -> tuple[float, ...]:
    """Levels from 0 to 255 as fractions of 255."""
    return tuple(round(value / 255, 4) for value in values.flatten().tolist())


def digest(arrays: load.Arrays) -> str:
    """The SHA-256 of all pixels and labels, in hexadecimal."""
    total = hashlib.sha256()
    for array in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _firsts(labels: load.Array) -> list[tuple[int, int]]:
    """The first classes that have images, each with the index of its first image."""
    classes, indices = np.unique(labels, return_index=True)
    return list(zip(classes[:SAMPLES].tolist(), indices[:SAMPLES].tolist(), strict=True))


def _sample(label: int, pixels: load.Array) -> Sample:
    """A sample: an image (H, W, C), scaled down to `SAMPLE_SIDE`."""
    image = Image.fromarray(pixels.squeeze()).convert("RGB")
    image.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
    return Sample(label, np.asarray(image).tolist())


if __name__ == "__main__":
    processes.answer(lambda: describe(*sys.argv[1:]))
