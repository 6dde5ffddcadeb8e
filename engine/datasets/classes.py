"""How many training images of each class a part of a data set has, from the counts of the whole alone. No numpy here.

`engine.datasets.load` chooses the images; a test holds the two together.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import partial

from engine.datasets.catalog import Part, steps_of


def fewest(counts: Sequence[int], part: Part) -> tuple[int, int]:
    """The class with the fewest training images of a part, and how many; `counts` are those of the whole set."""
    which, images = steps_of(part)
    if which:
        counts = _half(counts, which)
    label = min(range(len(counts)), key=lambda label: (counts[label], -label))  # the last to get another image
    if images is None or not counts[label]:
        return label, counts[label]
    return label, bisect_left(range(counts[label]), images, key=lambda place: _before(counts, label, place))


def held_out(images: int, fraction: float) -> int:
    """How many of the training images of a class are in the validation part."""
    return max(1, round(fraction * images))


def _half(counts: Sequence[int], which: str) -> list[int]:
    """The counts of half `a` or `b`: the odd images go to `a` and `b` in turn."""
    found, odd = [], 0
    for images in counts:
        found.append(images // 2 + (images % 2 and odd % 2 == "ab".index(which)))
        odd += images % 2
    return found


def _before(counts: Sequence[int], label: int, place: int) -> int:
    """How many images come before the one at `place` of a class, in the order that the first images are taken in."""
    if place == 0:
        return sum(images > 0 for images in counts[:label])
    far, before = _share(counts[label], place), 0
    for other, images in enumerate(counts):
        find = bisect_right if other < label else bisect_left
        before += (images > 0) + find(range(1, images), far, key=partial(_share, images))
    return before


def _share(images: int, place: int) -> float:
    """How far in a class of so many images the one at `place` is."""
    return (place + 0.5) / images
