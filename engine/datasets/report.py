"""What is in a data set, for a person to look at. As a process it answers in JSON (`engine.machine.processes.ask`)."""

import hashlib
import sys

import numpy as np
import torch
from PIL import Image

from engine.datasets import folders, load, pipeline
from engine.datasets.catalog import Part, is_streamed, split_part
from engine.machine import devices, processes, vision
from engine.recipes import Training

SAMPLES = 12  # at most, the first image of as many classes
SAMPLE_SIDE = 24  # pixels, at most
HALVES: tuple[Part, Part] = ("a", "b")


def describe(identity: str, location: str) -> dict[str, object]:
    """The class counts of a data set and of its halves, mean and deviation (0 to 1), digest, and samples.

    Mean and deviation are per channel, of the training images; a half has its own. The digest is the SHA-256 of all
    pixels and labels of the whole set, in training and testing, whatever file they were read from; a streamed set has
    none.
    """
    if is_streamed(identity):
        return _describe_streamed(identity, location)
    base, part = split_part(identity)
    whole = load.load(base, location)
    chosen = load.cut(whole, part)
    mean, deviation = pipeline.channel_statistics(torch.from_numpy(chosen.train_images))
    return {
        "counts": _counts(whole.train_labels, chosen.train_labels, whole.test_labels),
        **_levels(mean, deviation),
        "sha256": digest(whole),
        "samples": [_sample(label, chosen.train_images[first]) for label, first in _firsts(chosen.train_labels)],
    }


def _describe_streamed(identity: str, location: str) -> dict[str, object]:
    vision.torchvision()  # which says what to do where it cannot be used
    from engine.datasets.streaming import Streamed

    pictures, side = folders.find(identity, location)
    anyhow = Training(
        dataset=identity,
        model="",
        learning_rate=0.1,
        epochs=1,
        milestones=(),
        augmentation="none",
        profile="exact",
        seed=0,
    )
    feed = Streamed(pictures, side, anyhow, torch.device("cpu"), devices.decoders(1))
    samples = []
    for label, first in _firsts(feed.train.labels):
        pixels, _ = next(feed.train.only(np.array([first])).batches(1))
        samples.append(_sample(label, pixels[0].permute(1, 2, 0).numpy()))
    labels = np.array(pictures.train.labels), feed.train.labels, np.array(pictures.test.labels)
    return {"counts": _counts(*labels), **_levels(feed.mean, feed.std), "sha256": None, "samples": samples}


def _counts(whole: load.Array, chosen: load.Array, test: load.Array) -> dict[str, list[int]]:
    halves = [(part, whole[load.half(whole, part)]) for part in HALVES]
    classes = int(whole.max()) + 1
    found = [("train", chosen), *halves, ("test", test)]
    return {name: np.bincount(labels, minlength=classes).tolist() for name, labels in found}


def _levels(mean: torch.Tensor, deviation: torch.Tensor) -> dict[str, list[float]]:
    named = {"mean": mean, "deviation": deviation}
    return {name: [round(value / 255, 4) for value in found.flatten().tolist()] for name, found in named.items()}


def digest(arrays: load.Arrays) -> str:
    """The SHA-256 of all pixels and labels, as hexadecimal."""
    found = hashlib.sha256()
    for array in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _firsts(labels: load.Array) -> list[tuple[int, int]]:
    """The first classes that have images, and the place of the first image of each."""
    found, places = np.unique(labels, return_index=True)
    return list(zip(found[:SAMPLES].tolist(), places[:SAMPLES].tolist(), strict=True))


def _sample(label: int, pixels: load.Array) -> dict[str, object]:
    """An image (H, W, C) as rows of (red, green, blue)."""
    image = Image.fromarray(pixels.squeeze()).convert("RGB")
    image.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
    return {"label": label, "pixels": np.asarray(image).tolist()}


if __name__ == "__main__":
    processes.answer(lambda: describe(*sys.argv[1:]))
