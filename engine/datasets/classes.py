"""How many training images of each class a part of a data set has, from the counts of the whole alone. No numpy here.

`engine.datasets.load` chooses the images; a test holds the two together.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from engine.datasets.catalog import PHOTOGRAPHS, DataSet, Part, split_part, steps_of


@cache  # a form asks again at every change
def of_part(counts: tuple[int, ...], part: Part) -> tuple[int, ...]:
    """The training images of each class of a part; `counts` are those of the whole set."""
    which, images = steps_of(part)
    if which:
        counts = _half(counts, which)
    if images is None:
        return counts
    order = heapq.merge(*(_places(label, count) for label, count in enumerate(counts)))
    chosen = Counter(label for _, label in islice(order, images))
    return tuple(chosen[label] for label in range(len(counts)))


def held_out(images: int, fraction: float) -> int:
    """How many of the training images of a class are in the validation part."""
    return max(1, round(fraction * images))


def trained_on(data: DataSet, validation: float) -> int | None:
    """How many images of a data set are trained on; None where its classes must be read to tell."""
    if not validation:
        return data.train_images
    if data.counts is None or split_part(data.identity)[0] in PHOTOGRAPHS:  # whose counts are approximate
        return None
    return sum(images - held_out(images, validation) for images in of_part(data.counts, data.part))


def _half(counts: Sequence[int], which: str) -> tuple[int, ...]:
    """The counts of half `a` or `b`: the odd images go to `a` and `b` in turn."""
    found, odd = [], 0
    for images in counts:
        found.append(images // 2 + (images % 2 and odd % 2 == "ab".index(which)))
        odd += images % 2
    return tuple(found)


def _places(label: int, images: int) -> Iterator[tuple[float, int]]:
    """Where the images of a class stand in the order that the first images are taken in: how far in their class."""
    yield from ((place and (place + 0.5) / images, label) for place in range(images))
