"""`python -m benchmarks NAME [--quick]`; `all` runs one after the other, each in its own process."""

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.measuring import Rows
from engine.errors import InputError
from engine.machine import processes

# Modules of this folder, each with a `measure`, imported when it is run: the GPU's need nothing of the dashboard's.
NAMES = (
    "alternatives",
    "charts",
    "cluster",
    "dashboard",
    "export",
    "gpu",
    "growth",
    "peers",
    "pipeline",
    "profiles",
    "pruning",
    "queue",
    "starting",
    "streams",
    "training",
    "workers",
)


def main() -> None:
    """Run one benchmark or all: prints tables, then JSON with the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, to see that it works")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="growth: draw it, as .svg, .png or .pdf")
    parser.add_argument(
        "--images", type=Path, metavar="NPZ", help="profiles, peers: CIFAR-10 as the README's npz files are"
    )
    parser.add_argument("--open-lth", type=Path, metavar="PATH", help="peers: a clone of facebookresearch/open_lth")
    parser.add_argument("--threads", type=int, default=1, help="peers: of each side")
    options = parser.parse_args()
    if options.name == "all":
        sys.exit(_all(sys.argv[1:]))
    about = machine.about()
    own = {
        "growth": {"plot": options.plot},
        "peers": {"open_lth": options.open_lth, "images": options.images, "threads": options.threads},
        "profiles": {"images": options.images},
    }
    benchmark = importlib.import_module(f"benchmarks.{options.name}")
    try:
        found: Mapping[str, float | Rows] = benchmark.measure(options.quick, **own.get(options.name, {}))
    except InputError as error:
        parser.error(str(error))
    if not found:  # what it measures is not here
        return
    _show(found)
    print(json.dumps({"benchmark": options.name, "quick": options.quick, **about, **found}))


def _all(arguments: Sequence[str]) -> int:
    """Run all benchmarks with these arguments; returns the number that failed."""
    failed = 0
    for name in NAMES:
        print(f"# {name}", flush=True)
        command = [*processes.python("benchmarks"), *(name if given == "all" else given for given in arguments)]
        failed += subprocess.run(command, env=processes.environment(), check=False).returncode != 0
    return failed


def _show(found: Mapping[str, float | Rows]) -> None:
    """Print numbers one per line, and rows as a table with headings."""
    width = max((len(what) for what, value in found.items() if not isinstance(value, list)), default=0)
    for what, value in found.items():
        if not isinstance(value, list):
            print(f"{what:<{width}}  {value:,.3f}")
            continue
        print(f"\n{what}")
        widths = [max(len(column), 9) for column in value[0]]
        print("  ".join(f"{column:>{size}}" for column, size in zip(value[0], widths, strict=True)))
        for row in value:
            print("  ".join(f"{number:>{size},.6g}" for number, size in zip(row.values(), widths, strict=True)))


if __name__ == "__main__":
    main()
