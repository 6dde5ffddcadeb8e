"""`python -m benchmarks NAME [--quick]`."""

import argparse
import json
import platform
import sys

from benchmarks import charts, dashboard, export, gpu, pipeline, pruning, queue, streams, training, workers

BENCHMARKS = {
    "charts": charts.measure,
    "dashboard": dashboard.measure,
    "export": export.measure,
    "gpu": gpu.measure,
    "pipeline": pipeline.measure,
    "pruning": pruning.measure,
    "queue": queue.measure,
    "streams": streams.measure,
    "training": training.measure,
    "workers": workers.measure,
}


def main() -> None:
    """Run one benchmark: a table for people, then JSON with the machine it ran on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    options = parser.parse_args()
    found = BENCHMARKS[options.name](options.quick)
    if not found:
        return
    width = max(map(len, found))
    for what, value in found.items():
        print(f"{what:<{width}}  {value:,.3f}")
    about = {"python": sys.version.split()[0], "machine": platform.machine(), "system": platform.system()}
    print(json.dumps({"benchmark": options.name, "quick": options.quick, **about, **found}))


if __name__ == "__main__":
    main()
