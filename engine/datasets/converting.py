"""Kinds of data set that plug-ins read: `KIND:PATH` is made an npz file once, and is that file from then on.

A kind is a function of a path that returns the arrays of such a file (docs/data.md). It runs in a process of its own,
`python -m engine.datasets.converting KIND PATH`, as it may import anything. Nothing here imports numpy before that.
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
    """The data set of a plug-in's kind: what its npz file holds, under the name that a person gave."""
    kind, _, place = spec.partition(":")
    base, part = split_part(place)
    file = processes.ask(str, "engine.datasets.converting", KINDS.identity(kind), paths.given(base))
    suffix = f"-{part}" if part else ""
    return replace(npz.resolve(f"npz:{file}{suffix}"), name=f"{kind}:{Path(base).stem}{suffix}")


def convert(kind: str, path: Path) -> str:
    """Have a plug-in read a data set; the npz file, named by its content, that holds it then."""
    import numpy as np

    found = KINDS.load(kind)(path)
    if lacking := [name for name in ARRAYS if name not in found]:
        raise InputError(f"kind of data set {kind!r} gave no {', '.join(lacking)} for {path}")
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **{name: np.asarray(array) for name, array in sorted(found.items())})
    file: Path = user_cache_path("cockpit") / "converted" / f"{hashlib.sha256(content.getvalue()).hexdigest()}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(processes.mark())
        partial.write_bytes(content.getvalue())
        partial.replace(file)
    return str(file)


def main() -> None:
    """The command line that `resolve` asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    processes.answer(lambda: convert(options.kind, options.path))


if __name__ == "__main__":
    main()
