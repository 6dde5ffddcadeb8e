"""Data sets: identities, halves, and errors of damaged ones."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.datasets import load, specs
from engine.errors import InputError
from tests.images import Arrays, encoded, gray, read, save


@pytest.mark.parametrize("name", ["digits", "digits-a", "digits-b"])
def test_the_catalog_states_what_is_read(name: str) -> None:
    facts, arrays = specs.resolve(name), read(name)
    assert len(arrays.train_labels) == facts.train_images
    assert len(arrays.test_labels) == facts.test_images
    assert arrays.classes == facts.classes
    images = load.as_networks_see(arrays.train_images)
    assert (images.shape[3], *images.shape[1:3]) == facts.shape


def test_halves_are_disjoint_balanced_and_together_the_whole() -> None:
    labels = read("digits").train_labels
    a, b = load.half(labels, "a"), load.half(labels, "b")
    assert sorted([*a, *b]) == list(range(len(labels)))
    counts = [np.bincount(labels[half], minlength=10) for half in (a, b)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert abs(len(a) - len(b)) <= 1


def test_halves_are_the_same_for_ever() -> None:
    labels = read("digits").train_labels
    assert load.half(labels, "a")[:12].tolist() == [1, 4, 8, 10, 13, 17, 21, 24, 27, 28, 30, 36]
    assert hashlib.sha256(load.half(labels, "a").tobytes()).hexdigest()[:16] == "df8911a0d497481d"


def test_halves_of_a_balanced_set_have_equally_many_of_each_class(tmp_path: Path) -> None:
    spec = save(tmp_path / "set.npz", gray(40))
    for part in ("-a", "-b"):
        assert np.bincount(read(spec + part).train_labels).tolist() == [5, 5, 5, 5]
        assert specs.resolve(spec + part).train_images == 20
        assert len(read(spec + part).test_labels) == 8  # the test part is not divided


def test_the_first_images_are_nested_and_the_classes_keep_their_shares() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 3])
    cuts = {images: load.first(labels, images) for images in (3, 9, 100, 101, 500, 903)}
    for fewer, more in pairwise(cuts.values()):
        assert set(fewer) < set(more)
    for images, found in cuts.items():
        assert len(found) == images
        counts = np.bincount(labels[found], minlength=3)
        assert min(counts) >= 1
        assert np.all(np.abs(counts - images * np.array([600, 300, 3]) / 903) <= 1)


def test_the_first_images_of_a_balanced_set_are_balanced_and_the_same_for_ever() -> None:
    labels = np.arange(1000) % 10
    found = load.first(labels, 50)
    assert set(np.bincount(labels[found])) == {5}
    assert found[:6].tolist() == [16, 33, 56, 64, 81, 97]


@pytest.mark.parametrize("whole", ["digits", "digits-a"])
def test_a_set_cut_to_its_first_images_is_known_as_it_is_read(whole: str) -> None:
    facts, of_all = specs.resolve(f"{whole}-100"), specs.resolve(whole)
    assert (facts.name, facts.identity, facts.train_images) == (f"{whole}-100", f"{whole}-100", 100)
    assert (facts.classes, facts.test_images) == (of_all.classes, of_all.test_images)
    arrays, all_arrays = read(f"{whole}-100"), read(whole)
    assert len(arrays.train_labels) == len(arrays.train_images) == 100
    assert {image.tobytes() for image in arrays.train_images} < {image.tobytes() for image in all_arrays.train_images}
    assert np.array_equal(arrays.test_images, all_arrays.test_images)


def test_a_file_is_cut_to_its_first_images_and_one_may_be_called_so(tmp_path: Path) -> None:
    spec = save(tmp_path / "set.npz", gray(40))
    facts = specs.resolve(f"{spec}-a-12")
    assert facts.name == "npz:set-a-12"
    assert (facts.identity, facts.train_images) == (f"{specs.resolve(spec).identity}-a-12", 12)
    assert len(read(f"{spec}-a-12").train_images) == 12
    whole = tmp_path / "photos-2019"
    (tmp_path / "set.npz").rename(whole)
    assert specs.resolve(f"npz:{whole}").train_images == 40
    assert specs.resolve(f"npz:{whole}-12").train_images == 12


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("cifar-10", "cifar10"), ("CIFAR10", "cifar10"), ("CIFAR-100", "cifar100"), ("CIFAR-10-a", "cifar10-a"),
        ("cifar_10-b-500", "cifar10-b-500"), ("FashionMNIST", "fashion-mnist"), ("fashion_mnist", "fashion-mnist"),
        ("Places-365", "places365"), ("ImageNet", "imagenet"), ("SVHN-a", "svhn-a"),
    ],
)  # fmt: skip
def test_a_published_set_by_another_spelling_is_suggested(typed: str, near: str) -> None:
    with pytest.raises(InputError, match=f"unknown data set '{typed}'; did you mean '{near}'"):
        specs.resolve(typed)


@pytest.mark.parametrize("images", [9, 1257, 99_999])
def test_a_set_is_cut_to_one_image_of_each_class_or_more_and_less_than_there_are(images: int) -> None:
    with pytest.raises(InputError, match=rf"'digits-{images}': it cannot be cut to {images} .* 10, .* to 1256"):
        specs.resolve(f"digits-{images}")


def test_validation_is_held_out_of_each_class() -> None:
    labels = np.repeat(np.arange(3), 20)
    chosen = load.held_out(labels, 0.1)
    assert np.bincount(labels[chosen]).tolist() == [2, 2, 2]
    assert np.bincount(labels[load.held_out(labels, 0.001)]).tolist() == [1, 1, 1]  # at least one of each class


@pytest.mark.parametrize("compress", [True, False])
def test_an_npz_set_in_medmnists_layout_is_read_as_it_was_written(tmp_path: Path, compress: bool) -> None:
    arrays = gray()
    spec = save(tmp_path / "set.npz", arrays, compress)
    facts, found = specs.resolve(spec), read(spec)
    assert (facts.name, facts.shape, facts.classes) == ("npz:set", (3, 32, 32), 4)
    assert np.array_equal(found.train_images[..., 0], arrays["train_images"])
    assert np.array_equal(found.test_labels, arrays["test_labels"][:, 0])


def test_encoded_images_are_read_as_the_pixels_they_hold(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    data, offsets = encoded(pixels)
    labels = np.arange(12) % 3
    arrays = {f"{split}_{key}": value for split in ("train", "test") for key, value in
              (("bytes", data), ("offsets", offsets), ("labels", labels))}  # fmt: skip
    spec = save(tmp_path / "set.npz", arrays)
    assert specs.resolve(spec).shape == (3, 32, 32)
    assert np.array_equal(read(spec).train_images, pixels)


def test_gray_28_is_repeated_and_padded_not_scaled() -> None:
    images = gray(2)["train_images"][..., None]
    seen = load.as_networks_see(images)
    assert seen.shape == (2, 32, 32, 3)
    for channel in range(3):
        assert np.array_equal(seen[:, 2:30, 2:30, channel], images[..., 0])
    assert int(seen.sum()) == 3 * int(images.astype(np.int64).sum())


def test_identity_is_the_content_and_not_the_path(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    one = save(tmp_path / "set.npz", gray())
    other = save(tmp_path / "there" / "set.npz", gray(seed=1))
    (tmp_path / "copy.npz").write_bytes((tmp_path / "set.npz").read_bytes())
    identities = [specs.resolve(spec).identity for spec in (one, other, f"npz:{tmp_path / 'copy.npz'}")]
    assert identities[0] == identities[2] != identities[1]
    digest = hashlib.sha256((tmp_path / "set.npz").read_bytes()).hexdigest()
    assert identities[0] == f"npz:{digest}"


def test_two_files_of_one_name_are_told_apart_in_an_experiment(tmp_path: Path) -> None:
    from engine.plan.defining import define

    (tmp_path / "there").mkdir()
    specs = [save(tmp_path / "set.npz", gray()), save(tmp_path / "there" / "set.npz", gray(seed=1))]
    definition = define(source=[specs[0]], target=[specs[1]], model="vgg19", profile="exact")
    names = [definition.sources[0].name, definition.targets[0].name]
    assert [name.split("@")[0] for name in names] == ["npz:set", "npz:set"]
    assert names[0] != names[1]


def test_the_same_content_from_two_places_is_one_data_set(tmp_path: Path) -> None:
    from engine.plan.defining import define
    from engine.plan.experiments import curves

    spec = save(tmp_path / "set.npz", gray())
    (tmp_path / "copy.npz").write_bytes((tmp_path / "set.npz").read_bytes())
    found = curves(define(source=[spec], target=[f"npz:{tmp_path / 'copy.npz'}"], levels=2, random=["none"]))
    assert [curve.name for curve in found] == ["npz:set -> npz:set winning", "npz:set dense"]


def test_a_half_knows_all_classes_of_the_whole(tmp_path: Path) -> None:
    arrays = gray(40)
    arrays["train_labels"] = np.where(np.arange(40) == 7, 4, np.arange(40) % 4)  # one image of class 4
    arrays["test_labels"] = np.arange(8) % 5
    spec = save(tmp_path / "set.npz", arrays)
    assert {specs.resolve(spec + part).classes for part in ("", "-a", "-b")} == {5}
    assert {read(spec + part).classes for part in ("", "-a", "-b")} == {5}


def test_images_of_another_shape_are_refused_as_a_target(tmp_path: Path) -> None:
    from engine.plan.defining import define

    spec = save(tmp_path / "set.npz", gray())
    with pytest.raises(InputError, match="images of digits are 1x8x8 but those of npz:set 3x32x32"):
        define(source=["digits"], target=[spec])


@pytest.mark.parametrize(
    ("name", "flips"),
    [("cifar10.npz", True), ("fashion_mnist.npz", True), ("svhn.npz", False), ("mnist.npz", False)],
)
def test_characters_are_not_mirrored(tmp_path: Path, name: str, flips: bool) -> None:
    facts = specs.resolve(save(tmp_path / name, gray()))
    assert facts.augmentation("standard") == ("crop-flip" if flips else "crop")
    assert facts.augmentation("none") == "none"


def test_the_digits_are_not_augmented() -> None:
    assert specs.resolve("digits").augmentation("standard") == "none"


def change(**changes: Any) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: value for key, value in {**arrays, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change(test_images=None), "has no array test_images: it needs train_images"),
        (change(train_labels=np.zeros(39, np.int64)), "40 images in train_images but 39 labels in train_labels"),
        (change(train_images=np.zeros((40, 28), np.uint8)), r"train_images has shape \(40, 28\)"),
        (change(train_images=np.zeros((40, 28, 28, 2), np.uint8)), r"shape \(40, 28, 28, 2\)"),
        (change(train_images=np.zeros((40, 28, 28), np.float32)), "train_images has dtype <f4: it must be uint8"),
        (change(train_labels=np.zeros(40, np.float64)), "train_labels has dtype <f8: it must be whole numbers"),
        (change(train_labels=np.array([object()] * 40)), r"train_labels has dtype \|O"),
        (change(train_labels=np.zeros((40, 2), np.int64)), "labels are one integer an image"),
        (
            change(train_labels=np.arange(40) % 4 - 1),
            "training labels must run from 0 without gaps, these are -1, 0, 1, 2",
        ),
        (change(test_labels=np.full(8, 7)), "test labels must occur in training, these do not: 7"),
        (change(test_labels=np.arange(8) % 3), "every class needs test images, these labels have none: 3"),
        (change(train_labels=np.arange(40) % 4 * 2), "without gaps, these are 0, 2, 4, 6"),
        (change(train_labels=np.where(np.arange(40) == 3, 4_000_000_000, 0)), "these are 0, 4000000000"),
        (change(train_labels=np.zeros(40, np.int64), test_labels=np.zeros(8, np.int64)), "nothing to learn"),
        (change(test_images=np.zeros((8, 32, 32), np.uint8)), "test images"),
        (
            change(test_images=np.zeros((0, 28, 28), np.uint8), test_labels=np.zeros(0, np.int64)),
            "0 images in test_images: allowed are 1",
        ),
        (change(train_images=np.asfortranarray(gray()["train_images"])), "Fortran order"),
    ],
)
def test_a_mis_shaped_npz_is_refused_by_what_is_wrong_with_it(
    tmp_path: Path, changed: Callable[[Arrays], Arrays], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        specs.resolve(save(tmp_path / "set.npz", changed(gray())))


def test_encoded_sets_are_checked_too(tmp_path: Path) -> None:
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    data, offsets = encoded(pixels)
    good = {f"{split}_{key}": value for split in ("train", "test") for key, value in
            (("bytes", data), ("offsets", offsets), ("labels", np.arange(4) % 2))}  # fmt: skip
    specs.resolve(save(tmp_path / "good.npz", good))
    with pytest.raises(InputError, match="train_offsets must rise from 0"):
        specs.resolve(save(tmp_path / "order.npz", {**good, "train_offsets": offsets[::-1].copy()}))
    with pytest.raises(InputError, match="no image that Pillow can read"):
        specs.resolve(save(tmp_path / "noise.npz", {**good, "train_bytes": np.zeros_like(data)}))
    mixed = [*pixels[:3], np.zeros((16, 16, 3), np.uint8)]
    data, offsets = encoded(mixed)
    spec = save(tmp_path / "mixed.npz", {**good, "train_bytes": data, "train_offsets": offsets})
    with pytest.raises(InputError, match="image 3 of train_bytes is 16x16, the first is 32x32"):
        specs.resolve(spec)


def test_unreadable_and_truncated_files_are_refused(tmp_path: Path) -> None:
    spec = save(tmp_path / "set.npz", gray())
    whole = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "set.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot be read as npz.*is the file complete"):
        specs.resolve(spec)
    (tmp_path / "set.npz").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as npz"):
        specs.resolve(spec)
    with pytest.raises(InputError, match="does not exist"):
        specs.resolve(f"npz:{tmp_path / 'absent.npz'}")


def test_a_file_that_has_changed_or_gone_since_it_was_queued_is_not_trained_on(tmp_path: Path) -> None:
    facts = specs.resolve(save(tmp_path / "set.npz", gray()))
    save(tmp_path / "set.npz", gray(seed=1))
    with pytest.raises(InputError, match="has changed since it was queued"):
        load.load(facts.identity, facts.location)
    (tmp_path / "set.npz").unlink()
    with pytest.raises(InputError, match=r"is gone from .*: put it back, or .*cockpit data locate npz:PATH"):
        load.load(facts.identity, facts.location)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "train", "test"),
    [
        ("cifar10", (3, 32, 32), 10, 50_000, 10_000),
        ("cifar100", (3, 32, 32), 100, 50_000, 10_000),
        ("fashion_mnist", (3, 32, 32), 10, 60_000, 10_000),
        ("svhn", (3, 32, 32), 10, 8_000, 2_000),
        ("tiny_imagenet32", (3, 32, 32), 100, 15_000, 3_000),
        ("emnist_letters", (3, 32, 32), 26, 26_000, 5_200),
    ],
)
def test_the_real_sets_are_known_without_being_read(
    shared_data: Path, name: str, shape: tuple[int, int, int], classes: int, train: int, test: int
) -> None:
    facts = specs.resolve(f"npz:{shared_data / name}.npz")
    assert (facts.shape, facts.classes, facts.train_images, facts.test_images) == (shape, classes, train, test)


def test_the_real_svhn_is_read_pixel_for_pixel(shared_data: Path) -> None:
    arrays = read(f"npz:{shared_data / 'svhn.npz'}")
    assert arrays.train_images.shape == (8000, 32, 32, 3)
    mean = arrays.train_images.reshape(-1, 3).mean(0) / 255
    assert mean == pytest.approx([0.4522, 0.4521, 0.4683], abs=5e-5)  # as its README states


def test_the_halves_of_cifar10_are_25000_with_2500_of_each_class(shared_data: Path) -> None:
    spec = f"npz:{shared_data / 'cifar10.npz'}"
    assert specs.resolve(spec + "-a").train_images == specs.resolve(spec + "-b").train_images == 25_000
    labels = np.load(shared_data / "cifar10.npz")["train_labels"]
    assert np.bincount(labels[load.half(labels, "b")]).tolist() == [2500] * 10


def test_digits_are_read_and_exact_is_set_without_what_takes_long_to_import() -> None:
    check = [
        "import sys, torch",
        "from engine.datasets import load",
        "from engine.training import profiles",
        "profiles.configure('exact', torch.device('cpu'))",
        "load.load('digits', '')",
        "assert torch.are_deterministic_algorithms_enabled()",
        "print([name for name in ('sklearn', 'scipy', 'torch._inductor') if name in sys.modules])",
    ]
    done = subprocess.run([sys.executable, "-c", "; ".join(check)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
