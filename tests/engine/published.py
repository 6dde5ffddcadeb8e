"""Published data sets in their authors' formats, for torchvision, with other images."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

Parts = dict[str, tuple[Any, Any]]  # images (N, H, W) or (N, H, W, 3) uint8 and labels (N,), of "train" and "test"


def drawn(side: int, channels: int = 1, classes: int = 10, train: int = 40, test: int = 20) -> Parts:
    """Random images, each class equally often, in an order of their own."""
    draw = np.random.default_rng(classes)
    shape = (side, side) if channels == 1 else (side, side, channels)
    return {
        name: (draw.integers(0, 256, (count, *shape), dtype=np.uint8), draw.permutation(np.arange(count) % classes))
        for name, count in (("train", train), ("test", test))
    }


def write_idx(folder: Path, parts: Parts) -> None:
    """The four files of MNIST and its like; `folder` is e.g. MNIST/raw."""
    folder.mkdir(parents=True)
    for split, (images, labels) in zip(("train", "t10k"), parts.values(), strict=True):
        for kind, values in (("images", images), ("labels", labels.astype(np.uint8))):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(side.to_bytes(4, "big") for side in values.shape)
            (folder / f"{split}-{kind}-idx{values.ndim}-ubyte").write_bytes(header + values.tobytes())


def write_cifar10(folder: Path, parts: Parts) -> None:
    """CIFAR-10's Python batches: five of training images, one of test images, one of names."""
    folder.mkdir(parents=True)
    images, labels = parts["train"]
    for number, (some, their) in enumerate(zip(np.split(images, 5), np.split(labels, 5), strict=True), start=1):
        _pickle(folder / f"data_batch_{number}", {"data": _planes(some), "labels": their.tolist()})
    images, labels = parts["test"]
    _pickle(folder / "test_batch", {"data": _planes(images), "labels": labels.tolist()})
    _pickle(folder / "batches.meta", {"label_names": [str(label) for label in range(10)]})


def write_cifar100(folder: Path, parts: Parts) -> None:
    """CIFAR-100's Python batches, with fine labels."""
    folder.mkdir(parents=True)
    for split, (images, labels) in parts.items():
        _pickle(folder / split, {"data": _planes(images), "fine_labels": labels.tolist()})
    _pickle(folder / "meta", {"fine_label_names": [str(label) for label in range(100)]})


def write_svhn(folder: Path, parts: Parts) -> None:
    """SVHN's MATLAB files, where a 0 is labelled 10."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in parts.items():
        values = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]}
        savemat(folder / f"{split}_32x32.mat", values)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def _planes(images: Any) -> Any:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def _pickle(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content))
