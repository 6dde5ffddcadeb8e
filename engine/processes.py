"""How this program starts another Python process of its own."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(module: str) -> list[str]:
    """The command that runs a module of this project, whatever files lie in the current folder (hence -P)."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The environment for it, in which this project is found even if it runs from a checkout."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)}
