"""Lists of numbers as users write them: milestones of a learning rate, the betas of Adam. No torch."""

from collections.abc import Sequence
from itertools import pairwise

from engine.errors import InputError, Range, quoted
from engine.recipes import Betas

NONE = "none"  # no milestone
_BETA = Range(0, below=1)


def milestones(option: str, given: str | Sequence[int]) -> tuple[int, ...]:
    """The epochs of a text such as `80,120` or `none`. Raises InputError unless they are ascending, from 1 on."""
    if not isinstance(given, str):
        return tuple(given)
    if given.strip().casefold() == NONE:
        return ()
    try:
        epochs = tuple(int(part) for part in given.split(","))
    except ValueError:
        epochs = (0,)
    if epochs[0] < 1 or any(low >= high for low, high in pairwise(epochs)):
        raise InputError(option, f" {quoted(given)} is not understood: give ascending epochs as in 80,120, or {NONE}")
    return epochs


def betas(option: str, given: str | Sequence[float]) -> Betas:
    """The two numbers of a text such as `0.9,0.999`. Raises InputError unless both are in [0, 1)."""
    try:
        first, second = given.split(",") if isinstance(given, str) else given
        pair = float(first), float(second)
    except ValueError:
        raise InputError(option, f" {quoted(given)} is not understood: give two numbers as in 0.9,0.999") from None
    for beta in pair:
        _BETA.check(option, beta)
    return pair


def written(values: Sequence[float]) -> str:
    """The text from which `milestones` or `betas` reads these values."""
    return ",".join(map(str, values)) or NONE
