"""The types of a data set's content, which `report` reads in a separate process. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """An image of a class. `pixels` are rows of (red, green, blue), 0 to 255."""

    label: int
    pixels: tuple[tuple[tuple[int, int, int], ...], ...]


@dataclass(frozen=True)
class Counts:
    """The number of images of each class: for training, in the set and in halves of the whole set, and for testing."""

    train: tuple[int, ...]
    a: tuple[int, ...]
    b: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """The content of a data set.

    `mean` and `deviation` (0 to 1) are per channel, of the part's training images. `sha256` is of all pixels and labels
    of the whole set, independent of the file format; None for a streamed set.
    """

    counts: Counts
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    sha256: str | None
    samples: tuple[Sample, ...]
