"""What is in a data set, for a person to look at: what `report` finds in a process of its own. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """An image of a class: rows of (red, green, blue), 0 to 255."""

    label: int
    pixels: tuple[tuple[tuple[int, int, int], ...], ...]


@dataclass(frozen=True)
class Counts:
    """Training images of each class, in the set and in each half of the whole set, and test images."""

    train: tuple[int, ...]
    a: tuple[int, ...]
    b: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """What is in a data set.

    `mean` and `deviation` (0 to 1) are per channel, of the training images; a half has its own. `sha256` is of all
    pixels and labels of the whole set, in training and testing, whatever file holds them; None for a streamed set.
    """

    counts: Counts
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    sha256: str | None
    samples: tuple[Sample, ...]
