"""Lists of numbers as people write them: milestones of a learning rate, the betas of Adam. No torch here."""

from collections.abc import Sequence
from itertools import pairwise

from engine.errors import InputError, Range, quoted
from engine.recipes import Betas

NONE = "none"  # no milestone
_BETA = Range(0, below=1)


def milestones(option: str, given: str | Sequence[int]) -> tuple[int, ...]:
    """The epochs of `80,120`, or of `none`. Raises InputError for anything but ascending epochs from 1 on."""
    if not isinstance(given, str):
        return tuple(given)
    if given.strip().casefold() == NONE:
        return ()
    try:
        found = tuple(int(part) for part in given.split(","))
    except ValueError:
        found = (0,)
    if found[0] < 1 or any(low >= high for low, high in pairwise(found)):
        raise InputError(option, f" {quoted(given)} is not understood: give ascending epochs as in 80,120, or {NONE}")
    return found


def betas(option: str, given: str | Sequence[float]) -> Betas:
    """The two numbers of `0.9,0.999`. Raises InputError for anything else."""
    try:
        first, second = given.split(",") if isinstance(given, str) else given
        found = float(first), float(second)
    except ValueError:
        raise InputError(option, f" {quoted(given)} is not understood: give two numbers as in 0.9,0.999") from None
    for beta in found:
        _BETA.check(option, beta)
    return found


def written(values: Sequence[float]) -> str:
    """What `milestones` or `betas` reads these values from."""
    return ",".join(map(str, values)) or NONE
