"""The number of training images of each class in a part of a data set, from the counts of the whole. No numpy.

`engine.datasets.load` chooses the images themselves; a test checks that both agree.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from engine.datasets.catalog import PHOTOGRAPHS, DataSet, Part, split_part, steps_of


@cache  # the dashboard's form asks again at every change
def of_part(counts: tuple[int, ...], part: Part) -> tuple[int, ...]:
    """The number of training images of each class of a part; `counts` are of the whole set."""
    which, images = steps_of(part)
    if which:
        counts = _half(counts, which)
    if images is None:
        return counts
    order = heapq.merge(*(_positions(label, count) for label, count in enumerate(counts)))
    chosen = Counter(label for _, label in islice(order, images))
    return tuple(chosen[label] for label in range(len(counts)))


def held_out(images: int, fraction: float) -> int:
    """The number of a class's training images in the validation part."""
    return max(1, round(fraction * images))


def trained_on(data: DataSet, validation: float) -> int | None:
    """The number of images of a data set left for training; None if that needs counts that are not known."""
    if not validation:
        return data.train_images
    if data.counts is None or split_part(data.identity)[0] in PHOTOGRAPHS:  # their counts are approximate
        return None
    return sum(images - held_out(images, validation) for images in of_part(data.counts, data.part))


def _half(counts: Sequence[int], which: str) -> tuple[int, ...]:
    """The counts of half `a` or `b`; the odd images of classes go to `a` and `b` in turn."""
    halves, odd = [], 0
    for images in counts:
        halves.append(images // 2 + (images % 2 and odd % 2 == "ab".index(which)))
        odd += images % 2
    return tuple(halves)


def _positions(label: int, images: int) -> Iterator[tuple[float, int]]:
    """The sort keys of a class's images in the order of `load.first`: the relative rank in the class, and the class."""
    yield from ((rank and (rank + 0.5) / images, label) for rank in range(images))
