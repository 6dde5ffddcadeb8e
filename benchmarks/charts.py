"""Large charts: five curves of 31 levels with bands, drawn repeatedly as new points arrive."""

import time
import tracemalloc

import psutil
from textual.geometry import Size

from cockpit.tui.widgets.drawn import picture
from cockpit.views.curves import Series
from cockpit.views.legends import View

CURVES, LEVELS = 5, 31
SIZES = (Size(80, 20), Size(200, 55))
BUILDS = 100
REFRESHES = 1000
WARM_UP = 50  # refreshes, after which what is kept once has been made
MIB = 2**20


def measure(quick: bool) -> dict[str, float]:
    """Charts per second at both sizes, and the growth of memory over a thousand uncached refreshes."""
    found, builds = {}, BUILDS // 10 if quick else BUILDS
    for size in SIZES:
        began = time.perf_counter()
        _refresh(builds, size)
        found[f"{size.width}x{size.height}, builds a second"] = builds / (time.perf_counter() - began)
    refreshes = REFRESHES // 10 if quick else REFRESHES
    return {**found, "refreshes": refreshes, **_growth(refreshes)}


def _growth(refreshes: int) -> dict[str, float]:
    """The growth in MiB over a number of refreshes: of the process, then of Python's objects."""
    _refresh(WARM_UP, SIZES[0])
    resident = psutil.Process().memory_info().rss
    _refresh(refreshes, SIZES[0])
    resident = psutil.Process().memory_info().rss - resident
    tracemalloc.start()
    _refresh(WARM_UP, SIZES[0])
    before = tracemalloc.get_traced_memory()[0]
    _refresh(refreshes, SIZES[0])
    traced = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {"resident memory, MiB more": resident / MIB, "objects, MiB more": traced / MIB}


def _refresh(times: int, size: Size) -> None:
    for number in range(times):
        picture.cache_clear()
        picture(tuple(_curve(place, number) for place in range(CURVES)), View(spread="bands"), size)


def _curve(place: int, refresh: int) -> Series:
    """A curve that falls at the end, slightly different at each refresh."""
    levels = range(LEVELS)
    return Series(
        name=f"curve {place}", experiment="benchmark", source="a", target="b", model="vgg19", optimizer="sgd",
        ticket="random-global" if place % 2 else "winning", levels=tuple(levels), counts=(6,) * LEVELS,
        remaining=tuple(0.8**level for level in levels), planned=(6,) * LEVELS,
        means=tuple(0.95 - 0.02 * place - 0.4 * (level / LEVELS) ** 4 - 1e-4 * (refresh % 50) for level in levels),
        deviations=tuple(0.01 + 0.03 * level / LEVELS for level in levels),
    )  # fmt: skip
