"""Data sets `KIND:PATH` of plug-ins, each converted once to an npz file that is used from then on.

A kind is a function from a path to the arrays of such a file (docs/data.md). It may import anything, so it runs in a
separate process: `python -m engine.datasets.converting KIND PATH`. Only that process imports numpy.
"""

import argparse
import hashlib
import io
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path

from engine.datasets import npz
from engine.datasets.catalog import DataSet, split_part
from engine.errors import InputError
from engine.machine import paths, processes
from engine.machine.plugins import Door

KINDS = Door("data_sets", "kind of data set", {})
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def resolve(spec: str) -> DataSet:
    """The data set in the npz file of a plug-in's kind, under the user's name. Raises InputError."""
    kind, _, path = spec.partition(":")
    base, part = split_part(path)
    file = processes.ask(str, "engine.datasets.converting", KINDS.identity(kind), paths.given(base))
    suffix = f"-{part}" if part else ""
    return replace(npz.resolve(f"npz:{file}{suffix}"), name=f"{kind}:{Path(base).stem}{suffix}")


def convert(kind: str, path: Path) -> str:
    """Read a data set with a plug-in and write it to the cache; returns the npz file, named by its SHA-256."""
    import numpy as np

    arrays = KINDS.load(kind)(path)
    if lacking := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"kind of data set {kind!r} gave no {', '.join(lacking)} for {path}")
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **{name: np.asarray(array) for name, array in sorted(arrays.items())})
    file: Path = user_cache_path("cockpit") / "converted" / f"{hashlib.sha256(content.getvalue()).hexdigest()}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(processes.mark())
        partial.write_bytes(content.getvalue())
        partial.replace(file)
    return str(file)


def main() -> None:
    """The command that `resolve` runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    processes.answer(lambda: convert(options.kind, options.path))


if __name__ == "__main__":
    main()
