"""`python -m tests.faults [--kills 200] [--seed N] [--cluster]`: kill workers in training, and compare the results."""

import argparse
import tempfile
import time
from pathlib import Path

from tests.faults.campaign import Campaign


def main() -> None:
    """Print a line for each kill, and the verdict; a difference ends it with an error."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cluster", action="store_true", help="disturb workers that joined a head, and kill the head")
    options = parser.parse_args()
    campaign, began = Campaign(options.kills, options.seed, options.cluster), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        campaign.run(Path(folder))
    for point, times in sorted(campaign.killed.items()):
        print(f"{times:4} {point}")
    seconds = time.monotonic() - began
    what = "faults" if options.cluster else "kills"
    print(f"{campaign.killed.total()} {what} in {seconds:.0f} s: nothing lost, nothing doubled, all bits the same")


if __name__ == "__main__":
    main()
