"""The cockpit: a command line over the engine. It talks to the store and knows nothing of training."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _check_engine() -> None:
    """End the program where another module is imported as `engine`, before that fails somewhere in the middle."""
    found = find_spec("engine")
    file = found and (found.origin or next(iter(found.submodule_search_locations or ()), None))
    if file and Path(file).resolve() != Path(__file__).resolve().parents[1] / "engine" / "__init__.py":
        print(
            f"cockpit: error: {file} has the name of cockpit's own package 'engine' and is imported in its place:"
            " rename it, or take its folder off PYTHONPATH",
            file=sys.stderr,
        )
        sys.exit(2)


_check_engine()
