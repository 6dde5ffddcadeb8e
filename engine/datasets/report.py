"""What is in a data set, for a person to look at. Run as a process, it answers in JSON (`engine.processes.ask`)."""

import hashlib
import sys

import numpy as np
import torch
from PIL import Image

from engine import processes
from engine.datasets import load, pipeline
from engine.datasets.catalog import split_part

SAMPLES = 12  # at most, the first image of as many classes
SAMPLE_SIDE = 24  # pixels, at most


def describe(identity: str, location: str) -> dict[str, object]:
    """The class counts of a data set and of its halves, mean and deviation (0 to 1), digest, and samples.

    Mean and deviation are per channel, of the training images; a half has its own. The digest is the
    SHA-256 of all pixels and labels, in training and testing, whatever file they were read from.
    """
    base, part = split_part(identity)
    whole = load.load(base, location)
    chosen = load.cut(whole, part)
    mean, deviation = pipeline.channel_statistics(torch.from_numpy(chosen.train_images))
    labels = {
        "train": chosen.train_labels,
        "a": whole.train_labels[load.half(whole.train_labels, "a")],
        "b": whole.train_labels[load.half(whole.train_labels, "b")],
        "test": whole.test_labels,
    }
    return {
        "counts": {name: np.bincount(found, minlength=whole.classes).tolist() for name, found in labels.items()},
        "mean": [round(value / 255, 4) for value in mean.tolist()],
        "deviation": [round(value / 255, 4) for value in deviation.tolist()],
        "sha256": digest(whole),
        "samples": _samples(chosen),
    }


def digest(arrays: load.Arrays) -> str:
    """The SHA-256 of all pixels and labels, as hexadecimal."""
    found = hashlib.sha256()
    for array in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _samples(arrays: load.Arrays) -> list[dict[str, object]]:
    """The first training image of the first classes, as rows of (red, green, blue)."""
    found: list[dict[str, object]] = []
    for label in range(min(arrays.classes, SAMPLES)):
        first = arrays.train_images[np.flatnonzero(arrays.train_labels == label)[0]]
        image = Image.fromarray(first.squeeze()).convert("RGB")
        image.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
        found.append({"label": label, "pixels": np.asarray(image).tolist()})
    return found


if __name__ == "__main__":
    processes.answer(lambda: describe(*sys.argv[1:]))
