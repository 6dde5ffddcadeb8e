"""Names of curves, charts and data sets for display, as short as distinguishing them allows."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

from cockpit.views.curves import DENSE, WINNING, Series, planned
from engine.datasets.catalog import split_part, steps_of

MASKS = {  # kinds of random tickets: the change of the winning ticket's mask
    "random-global": "permuted",
    "random-local": "permuted in layers",
    "random-preserved": "same mask",
    "random-erk": "erk mask",
    "random-rewound-global": "rewound, permuted",
    "random-rewound-local": "rewound, permuted in layers",
    "random-shuffled": "shuffled weights",
    "random-constant-sign": "signs of weights",
}
KINDS = {  # of runs on a line between two trainings of one ticket (linear mode connectivity)
    "order-1": "own, order 1",
    "order-2": "own, order 2",
    "line": "least on the line",
}
MODELS = {"vgg": "VGG", "resnet": "ResNet"}
SMALLEST_PART = 64  # the largest denominator of a width shown as a fraction


class Ends(Protocol):
    """What has data sets that a ticket comes from and is trained on: a curve or a run."""

    @property
    def source(self) -> str | None:
        """The data set on which the ticket was found."""

    @property
    def source_title(self) -> str | None:
        """The display name of that set."""

    @property
    def target(self) -> str | None:
        """The data set on which it is trained."""

    @property
    def target_title(self) -> str | None:
        """The display name of that set."""


def data(name: str, title: str | None = None) -> str:
    """A data set for display: CIFAR-10 a (12,000). `title` is the user's name of the whole set."""
    base, part = split_part(name)
    half, images = steps_of(part)
    kind, _, path = base.partition(":")
    said = [title or (path if path and kind in ("npz", "folder", "stream") else base), half]
    return " ".join(filter(None, [*said, f"({images:,})" if images else ""]))


def network(model: str, width: float) -> str:
    """A model and its width: VGG11 x 1/8."""
    stem = next((stem for stem in MODELS if model.startswith(stem)), "")
    name = MODELS.get(stem, "") + model.removeprefix(stem)
    part = Fraction(width).limit_denominator(SMALLEST_PART)
    is_part = part.numerator == 1 and float(part) == width
    return name if width == 1 else f"{name} x {part if is_part else f'{width:g}'}"


def ends(one: Ends) -> str:
    """The data sets of a run, the source only if it differs from the target: SVHN → CIFAR-10 (12,000)."""
    return _target(one) if one.source in (None, one.target) else f"{_source(one)} → {_target(one)}"


def title(shown: Sequence[Series]) -> str:
    """The title of a chart: experiments, target, model and width that all of its curves share."""
    experiments = dict.fromkeys(map(_experiment, shown))
    targets = dict.fromkeys(_target(one) for one in shown)
    networks = dict.fromkeys(network(one.model, one.width) for one in shown)
    parts = [", ".join(experiments), *(next(iter(group)) for group in (targets, networks) if len(group) == 1)]
    return " · ".join(parts)


def named(shown: Sequence[Series]) -> tuple[Series, ...]:
    """The curves with labels of what differs between them."""
    labels = [one.title or ", ".join(_differences(one, shown)) for one in shown]
    return tuple(
        replace(one, label=label if labels.count(label) == 1 else one.name)
        for one, label in zip(shown, labels, strict=True)
    )


def of_curves(connection: sqlite3.Connection, experiment: str) -> dict[str, str]:
    """The labels of all curves of an experiment, by their names in the database."""
    return {one.curve: one.called for one in named(planned(connection, experiment))}


def _differences(one: Series, shown: Sequence[Series]) -> Iterable[str]:
    def differ(values: Iterable[object]) -> bool:
        return len(set(values) - {None}) > 1

    yield from [_experiment(one)] if differ(map(_experiment, shown)) else []
    yield _kind(one, shown)
    if one.source and one.ticket != WINNING and differ(other.source for other in shown if other.ticket == one.ticket):
        yield f"from {_source(one)}"
    if one.scope and differ(other.scope for other in shown):
        yield one.scope
    if one.source_optimizer and one.source_optimizer != one.optimizer:
        yield f"found by {one.source_optimizer}"
    for value, values in (
        (one.optimizer, (other.optimizer for other in shown)),
        (f"on {_target(one)}", (f"on {_target(other)}" for other in shown)),
        (network(one.model, one.width), (network(other.model, other.width) for other in shown)),
    ):
        yield from [value] if differ(values) else []


def _kind(one: Series, shown: Sequence[Series]) -> str:
    """The kind of ticket of a curve."""
    if one.ticket == DENSE:
        return DENSE
    if one.ticket == WINNING:
        return "own" if one.source == one.target else f"from {_source(one)}"
    if one.ticket in KINDS:
        return KINDS[one.ticket]
    if one.ticket in MASKS:
        several = len({other.ticket for other in shown if other.ticket in MASKS}) > 1
        return f"random, {MASKS[one.ticket]}" if several else "random"
    return f"{one.ticket} {_source(one)}"


def _experiment(one: Series) -> str:
    """The experiment of a curve, without the model at the end of a preset's name."""
    return one.experiment.removesuffix(f"@{one.model}")


def _source(one: Ends) -> str:
    """The source of a curve, without its number of images if the target has the same number."""
    base, part = split_part(one.source or "")
    half, images = steps_of(part)
    is_said = images == steps_of(split_part(one.target or "")[1])[1]
    return data("-".join(filter(None, [base, half])) if is_said else one.source or "", one.source_title)


def _target(one: Ends) -> str:
    return data(one.target or "", one.target_title)
