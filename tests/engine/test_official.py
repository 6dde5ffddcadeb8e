"""The published data sets, read by torchvision from files as their authors pack them.

The published files are not part of the tests. These files hold other images, their checksums replace the published
ones, and downloads come from a local server. One test checks the published files if they are present.
"""

import gzip
import os
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from engine.datasets import catalog, load, official, places, specs
from engine.errors import InputError
from engine.machine import vision
from tests.engine import published

KINDS = {
    "mnist": torchvision.datasets.MNIST,
    "fashion-mnist": torchvision.datasets.FashionMNIST,
    "svhn": torchvision.datasets.SVHN,
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder searched, besides an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COCKPIT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def write(name: str, folder: Path) -> published.Parts:
    """Files of a published set with other images, and the images."""
    if name in official.UNPACKED:
        parts = published.drawn(28)
        published.write_idx((folder / catalog.SETS[name].files[0]).parent, parts)
    elif name == "svhn":
        parts = published.drawn(32, channels=3)
        published.write_svhn(folder, parts)
    elif name == "cifar10":
        parts = published.drawn(32, channels=3)
        published.write_cifar10(folder / "cifar-10-batches-py", parts)
    else:
        parts = published.drawn(32, channels=3, classes=100, train=200, test=100)
        published.write_cifar100(folder / "cifar-100-python", parts)
    return parts


def state_checksums(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the published checksums by those of the files in a folder."""
    sums = [published.md5(folder / file) for file in catalog.SETS[name].files]
    files, kind = [Path(file).name for file in catalog.SETS[name].files], KINDS[name]
    if name in official.UNPACKED:
        monkeypatch.setitem(official.UNPACKED, name, tuple(sums))
    elif name == "svhn":
        listed = {
            split: [f"http://localhost/{files[i]}", files[i], sums[i]] for i, split in enumerate(("train", "test"))
        }
        monkeypatch.setattr(kind, "split_list", listed)
    else:
        pairs = list(zip(files, sums, strict=True))
        monkeypatch.setattr(kind, "train_list", pairs[:-2])
        monkeypatch.setattr(kind, "test_list", pairs[-2:-1])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[-1]})


@pytest.mark.parametrize("name", KINDS)
def test_each_file_of_a_set_has_a_checksum(name: str) -> None:
    assert tuple(official.checksums(name)) == catalog.SETS[name].files


@pytest.mark.parametrize("name", KINDS)
def test_a_set_is_read_as_it_was_written_and_as_torchvision_gives_it(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = write(name, folder)
    state_checksums(name, folder, monkeypatch)
    found = load.load(name, "")
    for images, labels, split in (
        (found.train_images, found.train_labels, "train"),
        (found.test_images, found.test_labels, "test"),
    ):
        assert np.array_equal(images if images.shape[3] == 3 else images[..., 0], parts[split][0])
        assert np.array_equal(labels, parts[split][1])
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        which: dict[str, Any] = {"split": split} if name == "svhn" else {"train": split == "train"}
        for place, (image, label) in enumerate(KINDS[name](folder, **which)):
            assert np.array_equal(np.asarray(image), images[place].squeeze())
            assert label == labels[place]
    seen = load.as_networks_see(found.test_images)
    assert (seen.shape[3], *seen.shape[1:3]) == specs.resolve(name).shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_images_of_mnist_and_its_like_are_read_from_idx_files(
    name: str, shared_data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 70,000 images, shuffled, so that the catalog's counts hold but the published MD5 does not."""
    pack = np.load(shared_data / f"{name.replace('-', '_')}.npz")
    parts = {split: (pack[f"{split}_images"], pack[f"{split}_labels"]) for split in ("train", "test")}
    published.write_idx((folder / catalog.SETS[name].files[0]).parent, parts)
    with pytest.raises(InputError, match="train-images-idx3-ubyte is not the file that was published"):
        load.load(name, "")
    state_checksums(name, folder, monkeypatch)
    found = load.load(name, "")
    assert np.array_equal(found.train_images[..., 0], parts["train"][0])
    assert np.array_equal(found.test_images[..., 0], KINDS[name](folder, train=False).data)
    assert tuple(np.bincount(found.train_labels)) == catalog.SETS[name].train_counts
    assert len(found.test_labels) == catalog.SETS[name].test_images
    for half in ("-a", "-b"):
        assert len(load.load(name + half, "").train_labels) == specs.resolve(name + half).train_images


@pytest.mark.slow
def test_recompressed_images_of_cifar10_are_refused_under_its_name(shared_data: Path, folder: Path) -> None:
    arrays = load.load(specs.resolve(spec := f"npz:{shared_data / 'cifar10.npz'}").identity, spec[4:])
    parts = {"train": (arrays.train_images, arrays.train_labels), "test": (arrays.test_images, arrays.test_labels)}
    published.write_cifar10(folder / "cifar-10-batches-py", parts)
    message = r"cifar10: .*data_batch_1 is not the file that was published .*; `cockpit data get cifar10` fetches"
    with pytest.raises(InputError, match=message):
        load.load("cifar10", "")


@pytest.mark.parametrize("name", KINDS)
def test_a_published_set_is_what_the_catalog_states(name: str) -> None:
    if places.find(name) is None:
        pytest.skip(f"needs the files that were published: cockpit data get {name}")
    found = load.load(name, "")
    assert tuple(np.bincount(found.train_labels)) == catalog.SETS[name].train_counts
    assert len(found.test_labels) == catalog.SETS[name].test_images


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
def test_a_truncated_file_is_named(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(name, folder)
    state_checksums(name, folder, monkeypatch)
    path = folder / catalog.SETS[name].files[1]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=f"{path} is not the file that was published"):
        load.load(name, "")


def test_what_is_absent_is_said_with_every_folder_and_every_way_to_get_it(folder: Path, tmp_path: Path) -> None:
    write("cifar10", folder)
    (folder / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(InputError) as caught:
        load.load("cifar10-a", "")
    said = str(caught.value)
    assert f"{folder} (which lacks cifar-10-batches-py/test_batch), {tmp_path / 'cache'}" in said
    for way in ("`cockpit data get cifar10`", "copy cifar-10-batches-py", "data_dir or COCKPIT_DATA", "npz:PATH"):
        assert way in said


def test_folders_are_searched_in_order_and_the_first_whole_set_is_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCKPIT_DATA", os.pathsep.join([str(tmp_path / "empty"), str(folder)]))
    assert places.folders()[:2] == [tmp_path / "empty", folder]
    assert places.find("mnist") is None
    write("mnist", folder)
    assert places.find("mnist") == folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that has the files of tmp_path/served."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}/"
        found.shutdown()


def serve_cifar10(served: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> published.Parts:
    parts = write("cifar10", served)
    state_checksums("cifar10", served, monkeypatch)
    with tarfile.open(served / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(served / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(KINDS["cifar10"], "url", f"{address}cifar-10-python.tar.gz")
    monkeypatch.setattr(KINDS["cifar10"], "tgz_md5", published.md5(served / "cifar-10-python.tar.gz"))
    return parts


def test_a_download_is_unpacked_checked_and_shown_on_stderr(
    server: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = serve_cifar10(tmp_path / "served", server, monkeypatch)
    assert official.fetch("cifar10", folder)
    assert "100.0%" in capfd.readouterr().err
    assert np.array_equal(load.load("cifar10", "").train_images, parts["train"][0])
    assert not official.fetch("cifar10", folder)
    (folder / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"damaged")
    assert official.fetch("cifar10", folder)
    load.load("cifar10", "")


def test_an_archive_fetched_elsewhere_is_unpacked_without_a_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = serve_cifar10(served := tmp_path / "served", "http://127.0.0.1:9/", monkeypatch)
    with pytest.raises(InputError, match="refused"):
        official.fetch("cifar10", folder)
    (served / "cifar-10-python.tar.gz").rename(folder / "cifar-10-python.tar.gz")
    assert official.fetch("cifar10", folder)
    assert np.array_equal(load.load("cifar10", "").test_images, parts["test"][0])


def test_damaged_idx_files_are_fetched_again(
    server: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = write("mnist", served := tmp_path / "served")
    state_checksums("mnist", served, monkeypatch)
    resources = []
    for file in catalog.SETS["mnist"].files:
        packed = served / f"{Path(file).name}.gz"
        packed.write_bytes(gzip.compress((served / file).read_bytes()))
        resources.append((packed.name, published.md5(packed)))
    monkeypatch.setattr(KINDS["mnist"], "resources", resources)
    monkeypatch.setattr(KINDS["mnist"], "mirrors", [server])
    write("fashion-mnist", tmp_path)  # other content under published names
    (tmp_path / "FashionMNIST").rename(tmp_path / "MNIST")
    folder.mkdir()
    (tmp_path / "MNIST").rename(folder / "MNIST")
    (folder / "MNIST/raw/train-images-idx3-ubyte").write_bytes(b"damaged")
    assert official.fetch("mnist", folder)
    assert np.array_equal(load.load("mnist", "").train_images[..., 0], parts["train"][0])


def test_a_damaged_download_is_refused(
    server: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cifar10(served := tmp_path / "served", server, monkeypatch)
    archive = served / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"could not be downloaded \(File not found or corrupted"):
        official.fetch("cifar10", folder)
    assert places.find("cifar10") is None


def test_a_server_that_says_nothing_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(official, "SILENCE_SECONDS", 0.3)
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(KINDS["cifar10"], "url", f"http://127.0.0.1:{silent.getsockname()[1]}/cifar.tar.gz")
        monkeypatch.setattr(sys, "argv", ["official", "cifar10", str(folder)])
        try:
            official.main()
        finally:
            socket.setdefaulttimeout(before)
    said = capsys.readouterr().out
    assert "could not be downloaded (timed out)" in said
    assert f"cifar.tar.gz elsewhere, copy to {folder}" in said


def test_a_torchvision_of_another_release_than_torch_is_told_by_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        InputError, match=r"torchvision \d.* does not go with torch \d.*nms does not exist.*pip install"
    ):
        vision.torchvision()
