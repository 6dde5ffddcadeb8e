"""Parts of a training in epochs or in steps, as people write them: `5ep`, `500it`. No torch here.

A number alone counts epochs. A step (an iteration) is one batch.
"""

import re

from engine.errors import InputError, quoted
from engine.recipes import Duration, Rewind

NOTHING: Duration = "0ep"
EPOCHS, STEPS = "ep", "it"
_WRITTEN = re.compile(rf"([0-9]{{1,9}})\s*({EPOCHS}|{STEPS})?")


def read(option: str, text: str | int) -> Duration:
    """The one form of a duration that a person gave for an option. Raises InputError for anything else."""
    found = _WRITTEN.fullmatch(str(text).strip().casefold())
    if not found:
        raise InputError(option, f" {quoted(text)} is not understood: give epochs as in 5ep, or steps as in 500it")
    number, unit = int(found[1]), found[2] or EPOCHS
    return f"{number}{unit}" if number else NOTHING


def rewind(option: str, text: str | int) -> Rewind:
    """The epoch, or the steps, that tickets are rewound to. Raises InputError like `read`."""
    number, unit = count(found := read(option, text))
    return number if unit == EPOCHS else found


def count(duration: Duration) -> tuple[int, str]:
    """How many of which unit."""
    return int(duration[:-2]), duration[-2:]


def steps(duration: Duration, of_an_epoch: int) -> int:
    """The steps of a duration, where an epoch has `of_an_epoch`."""
    number, unit = count(duration)
    return number * of_an_epoch if unit == EPOCHS else number
