"""Durations of training in epochs or steps, as users write them: `5ep`, `500it`. No torch.

A number without a unit counts epochs. A step (an iteration) is one batch.
"""

import re

from engine.errors import InputError, quoted
from engine.recipes import Duration, Rewind

NOTHING: Duration = "0ep"
EPOCHS, STEPS = "ep", "it"
_WRITTEN = re.compile(rf"([0-9]{{1,9}})\s*({EPOCHS}|{STEPS})?")


def read(option: str, text: str | int) -> Duration:
    """The canonical form of a duration that the user gave for an option. Raises InputError for any other text."""
    match = _WRITTEN.fullmatch(str(text).strip().casefold())
    if not match:
        raise InputError(option, f" {quoted(text)} is not understood: give epochs as in 5ep, or steps as in 500it")
    number, unit = int(match[1]), match[2] or EPOCHS
    return f"{number}{unit}" if number else NOTHING


def rewind(option: str, text: str | int) -> Rewind:
    """The rewind point that the user gave: an epoch, or a number of steps. Raises InputError like `read`."""
    number, unit = count(duration := read(option, text))
    return number if unit == EPOCHS else duration


def count(duration: Duration) -> tuple[int, str]:
    """The number and the unit of a duration."""
    return int(duration[:-2]), duration[-2:]


def steps(duration: Duration, of_an_epoch: int) -> int:
    """The number of steps of a duration, if an epoch has `of_an_epoch` steps."""
    number, unit = count(duration)
    return number * of_an_epoch if unit == EPOCHS else number
