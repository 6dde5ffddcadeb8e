"""Curves of made-up accuracies, for tests of charts and names."""

from dataclasses import replace
from typing import Any

from cockpit.views.curves import Series

DENSE_MEAN = 0.9


def curve(name: str = "winning", ticket: str = "winning", **changes: Any) -> Series:
    """A curve of four levels, trained on b."""
    found = Series(
        name=name,
        experiment="e",
        source="a",
        target="b",
        model="m",
        optimizer="sgd",
        ticket=ticket,
        levels=(0, 1, 2, 3),
        remaining=(1.0, 0.5, 0.25, 0.125),
        means=(0.92, 0.91, 0.89, 0.7),
        deviations=(0.01, 0.02, 0.03, 0.04),
        counts=(3, 3, 3, 3),
        planned=(3, 3, 3, 3),
    )
    return replace(found, **changes)


def dense(**changes: Any) -> Series:
    """The dense network of those curves."""
    return curve(
        **{
            "name": "dense",
            "ticket": "dense",
            "source": None,
            "levels": (0,),
            "remaining": (1.0,),
            "means": (DENSE_MEAN,),
            "deviations": (0.02,),
            "counts": (3,),
            "planned": (3,),
            **changes,
        }
    )
