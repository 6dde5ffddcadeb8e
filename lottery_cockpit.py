"""The command `cockpit`, in a module whose name is nobody else's: `cockpit.py` on PYTHONPATH hides the package."""

import gc
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGES = ("cockpit", "engine")


def main() -> None:
    """Start the program, or say which file is imported in the place of one of its packages or libraries."""
    for package in PACKAGES:
        spec = find_spec(package)
        file = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
        if file and Path(file).resolve() != Path(__file__).resolve().parent / package / "__init__.py":
            _end(
                f"{file} has the name of cockpit's own package {package!r} and is imported in its place: rename it, or"
                " take its folder off PYTHONPATH"
            )
    try:
        from cockpit.cli import main as program

        program()
    except (ImportError, AttributeError) as error:
        if said := _unfit(error):
            _end(said)
        raise
    finally:
        gc.freeze()  # or Python would search all of it for garbage on its way out: docs/decisions/cockpit.md


def _unfit(error: ImportError | AttributeError) -> str:
    """Which library lacks what an import or attribute needs; empty where it is not a library's."""
    if isinstance(error, ImportError):
        name = error.name or ""
    else:
        name = error.obj.__name__ if isinstance(error.obj, ModuleType) else ""
    library = name.partition(".")[0]
    if not library or library in PACKAGES:
        return ""
    module = sys.modules.get(library)
    file = module and (module.__file__ or next(iter(module.__path__), None))
    if file is None:
        return f"{library} is not installed: install cockpit again (pip install lottery-cockpit)"
    return (
        f"{file} is imported as {library} and is not the version that cockpit needs ({error}): take its folder off"
        " PYTHONPATH, or install cockpit again"
    )


def _end(said: str) -> None:
    print(f"cockpit: error: {said}", file=sys.stderr)
    sys.exit(2)
