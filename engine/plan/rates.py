"""Pruning rates and granularities as users write them. No torch.

A rate is `0.2`, or for each kind of layer `conv=0.2,linear=0.2,output=0.1`. A granularity is `weight`, `filter`, or
N:M as in `2:4`.
"""

import re
from collections.abc import Iterable
from typing import get_args

from engine.errors import InputError, OptionName, Range, chosen, quoted
from engine.recipes import Granularity, Kind, Prunable, Rates, Rule

KINDS: tuple[Kind, ...] = get_args(Kind)
PRUNED: dict[Prunable, tuple[Kind, ...]] = {
    "conv": ("conv",),
    "conv+output": ("conv", "output"),
    "conv+linear": KINDS,
}
WHOLE = ("weight", "filter")
_RATE = Range(above=0, below=1)


def read(option: str, given: float | str) -> Rates:
    """The canonical form of the rate, or of the rates of kinds of layers, that the user gave for an option.

    A number without a kind is the rate of the kinds not named, in place of the default. Raises InputError for any other
    text.
    """
    rest, by_kind = Rule().rate_of("conv"), dict[str, float]()
    for part in str(given).split(","):
        kind, named, number = part.rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            why = f" {quoted(given)} is not understood: give a rate as in 0.2, or as in conv=0.2,linear=0.2,output=0.1"
            raise InputError(option, why) from None
        _RATE.check(option, rate)
        if not named:
            rest = rate
        elif (kind := chosen(OptionName(option), kind.strip(), KINDS)) in by_kind:
            raise InputError(option, f" {quoted(given)} gives {kind} twice")
        else:
            by_kind[kind] = rate
    return _written(by_kind.get(kind, rest) for kind in KINDS)


def granularity(option: str, given: str) -> Granularity:
    """The canonical form of the granularity that the user gave for an option. Raises InputError for any other text."""
    text = given.strip().casefold()
    if match := re.fullmatch(r"([1-9][0-9]?)\s*:\s*([1-9][0-9]?)", text):
        few, many = map(int, match.groups())
        if few < many:
            return f"{few}:{many}"
    elif text in WHOLE:
        return text
    raise InputError(option, f" {quoted(given)} is not understood: give weight, filter, or N:M as in 2:4")


def used(option: str, rates: Rates, prunable: Prunable) -> Rates:
    """`rates` for prunable kinds of layers only. Raises InputError if another kind was given a rate of its own."""
    rule, pruned = Rule(rate=rates), PRUNED[prunable]
    theirs = {rule.rate_of(kind) for kind in pruned}
    for kind in KINDS:
        if kind not in pruned and rule.rate_of(kind) not in theirs:
            why, prunes = f" {kind}={rule.rate_of(kind)} is not used: ", OptionName("prunable")
            raise InputError(option, why, prunes, f" {prunable} prunes no {kind}")
    return _written(rule.rate_of(kind if kind in pruned else "conv") for kind in KINDS)


def _written(values: Iterable[float]) -> Rates:
    rates = dict(zip(KINDS, values, strict=True))
    equal = len(set(rates.values())) == 1
    return rates["conv"] if equal else ",".join(f"{kind}={rate!r}" for kind, rate in rates.items())
