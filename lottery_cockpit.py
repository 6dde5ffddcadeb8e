"""The command `cockpit`, in a module whose name is nobody else's: `cockpit.py` on PYTHONPATH hides the package."""

import gc
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Start the program, or say which file is found in its place."""
    found = find_spec("cockpit")
    file = found and (found.origin or next(iter(found.submodule_search_locations or ()), None))
    if file and Path(file).resolve() != Path(__file__).resolve().parent / "cockpit" / "__init__.py":
        print(
            f"cockpit: error: {file} has the name of cockpit's own package 'cockpit' and is imported in its place:"
            " rename it, or take its folder off PYTHONPATH",
            file=sys.stderr,
        )
        sys.exit(2)
    gc.disable()  # nothing that is imported is garbage: a command looks for some once it runs (`cockpit.cli.commands`)
    from cockpit.cli import main as program

    try:
        program()
    finally:
        gc.freeze()  # else Python would look through all of it twice on its way out
