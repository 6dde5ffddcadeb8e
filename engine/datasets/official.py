"""The published data sets, read, checked and downloaded by torchvision.

`python -m engine.datasets.official NAME FOLDER` downloads one: progress on stderr, an answer in JSON on stdout.
"""

import socket
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np

from engine.datasets import places
from engine.datasets.catalog import SETS
from engine.errors import InputError
from engine.machine import processes, vision

SILENCE_SECONDS = 20.0  # of a server, after which a download fails

# torchvision checks the packed files of these sets at their download only. These are the MD5 of the unpacked files, in
# the order of `Registered.files`.
UNPACKED = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}

Array = np.ndarray[Any, np.dtype[Any]]


def read(name: str) -> tuple[Array, Array, Array, Array]:
    """Training images (N, H, W, C) uint8 and labels (N,) int64 of a published set, then test images and labels.

    Raises InputError if its files are missing or are not the published ones.
    """
    folder = places.find(name)
    if folder is None:
        raise places.absent(name)
    if damaged := _damaged(name, folder):
        raise InputError(
            f"data set {name}: {damaged[0]} is not the file that was published (its MD5 differs): it is damaged, or"
            f" another set; `cockpit data get {name}` fetches the published one, a set of your own is npz:PATH"
        )
    return (*_part(name, folder, train=True), *_part(name, folder, train=False))


def checksums(name: str) -> dict[str, str]:
    """The MD5 of each file of a published set, by its path in a data folder."""
    if name in UNPACKED:
        return dict(zip(SETS[name].files, UNPACKED[name], strict=True))
    kind = _kind(name)
    if name == "svhn":
        return {file: md5 for _, file, md5 in (kind.split_list[split] for split in ("train", "test"))}
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}


def fetch(name: str, folder: Path) -> bool:
    """Download a published set into a folder; False if it was complete already.

    Uses archives that the user has copied there. Raises InputError, and leaves the folder's files, if that fails.
    """
    if not _damaged(name, folder):
        return False
    try:
        _download(name, folder)
    except (URLError, RuntimeError, OSError) as error:
        where, addresses = _by_hand(name, folder)
        raise InputError(
            f"data set {name} could not be downloaded ({error}): try again, or fetch {', '.join(addresses)} elsewhere,"
            f" copy to {where}, and run `cockpit data get {name}` again"
        ) from None
    if damaged := _damaged(name, folder):
        raise InputError(f"data set {name}: {damaged[0]} was downloaded, but is not the file that was published")
    return True


def _download(name: str, folder: Path) -> None:
    if name not in UNPACKED:
        for train in (True, False):
            _open(name, folder, train, download=True)
        return
    # torchvision's download of these sets does nothing if files of these names exist, even damaged ones.
    where, addresses = _by_hand(name, folder)
    for address, (_, md5) in zip(addresses, _kind(name).resources, strict=True):
        vision.torchvision().datasets.utils.download_and_extract_archive(address, str(where), md5=md5)


def _by_hand(name: str, folder: Path) -> tuple[Path, list[str]]:
    """The folder where torchvision puts the downloads of a set, and their addresses."""
    kind = _kind(name)
    if name in UNPACKED:
        return (folder / SETS[name].files[0]).parent, [kind.mirrors[0] + file for file, _ in kind.resources]
    if name == "svhn":
        return folder, [kind.split_list[split][0] for split in ("train", "test")]
    return folder, [kind.url]


def _damaged(name: str, folder: Path) -> list[Path]:
    """The files of a set that are missing or not the published ones."""
    intact = vision.torchvision().datasets.utils.check_integrity
    return [folder / file for file, md5 in checksums(name).items() if not intact(folder / file, md5)]


def _kind(name: str) -> Any:
    datasets = vision.torchvision().datasets
    return {
        "mnist": datasets.MNIST,
        "fashion-mnist": datasets.FashionMNIST,
        "svhn": datasets.SVHN,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }[name]


def _open(name: str, folder: Path, train: bool, download: bool = False) -> Any:
    """torchvision's object for the training or test part of a set."""
    which: dict[str, Any] = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
    return _kind(name)(folder, **which, download=download)


def _part(name: str, folder: Path, train: bool) -> tuple[Array, Array]:
    opened = _open(name, folder, train)
    images = np.asarray(opened.data)
    if name == "svhn":
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), opened.labels
    return images if images.ndim == 4 else images[..., None], np.asarray(opened.targets, np.int64)


def main() -> None:
    """Download the set of this name into this folder."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    socket.setdefaulttimeout(SILENCE_SECONDS)

    def answer() -> bool:
        with redirect_stdout(sys.stderr):  # torchvision prints its progress to stdout
            return fetch(name, folder)

    processes.answer(answer)


if __name__ == "__main__":
    main()
