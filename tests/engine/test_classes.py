"""Which class has the fewest training images in a part: known from counts, as the images are then chosen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets import catalog, classes, load
from engine.definitions import define
from engine.errors import InputError
from tests.engine.folders import make
from tests.engine.test_datasets import gray, save


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=6), which=st.sampled_from(["", "a", "b"]), data=st.data()
)
def test_the_class_with_the_fewest_images_is_that_of_the_images_chosen(
    counts: list[int], which: str, data: st.DataObject
) -> None:
    size, part = catalog.part_size(sum(counts), len(counts), which), which
    if size > len(counts):
        images = data.draw(st.none() | st.integers(len(counts), size - 1))
        part = which if images is None else f"{which}-{images}".strip("-")
    labels = np.repeat(np.arange(len(counts)), counts)
    chosen = labels[load.half(labels, which)] if which else labels
    if images := catalog.steps_of(part)[1]:
        chosen = chosen[load.first(chosen, images)]
    found = np.bincount(chosen, minlength=len(counts))
    label, fewest = classes.fewest(counts, part)
    assert fewest == found.min() == found[label]


@given(images=st.integers(1, 50), fraction=st.floats(0.001, 0.5))
def test_validation_takes_all_of_a_class_only_if_it_has_one_image(images: int, fraction: float) -> None:
    labels = np.zeros(images, np.int64)
    assert len(load.held_out(labels, fraction)) == classes.held_out(images, fraction)
    assert (classes.held_out(images, fraction) == images) == (images == 1)


@pytest.fixture
def rare(tmp_path: Path) -> str:
    """A set with one training image of class 4."""
    arrays = gray(40)
    arrays["train_labels"] = np.where(np.arange(40) == 7, 4, np.arange(40) % 4)
    arrays["test_labels"] = np.arange(8) % 5
    return save(tmp_path / "rare.npz", arrays)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("-a", {}, "no training image is left of class 4 of data set npz:rare-a: take the whole set"),
    ("-a-7", {}, "no training image is left of class 4 of data set npz:rare-a-7"),
    ("", {"validation": 0.1}, "--validation 0.1 leaves no training image of class 4 of data set npz:rare, which has 1"),
    ("-20", {"validation": 0.1}, "--validation 0.1 leaves no training image of class 4"),
    ("-b", {"validation": 0.5}, "--validation 0.5 leaves no training image of class 4"),
]


@pytest.mark.parametrize(("part", "options", "message"), REFUSED)
@pytest.mark.parametrize("end", ["source", "target"])
def test_a_part_that_loses_a_class_is_refused(
    rare: str, part: str, options: dict[str, Any], message: str, end: str
) -> None:
    ends = {"source": [f"{rare}{part}"], "target": [rare if not options else f"{rare}{part}"]}
    if end == "target":
        ends = {"source": ends["target"], "target": ends["source"]}
    with pytest.raises(InputError, match=message):
        define(**ends, batch_size=2, **options)
    catalog.resolve(f"{rare}{part}")  # `data check` still counts the classes


@pytest.mark.parametrize(("spec", "options"), [("{}", {}), ("{}-b", {}), ("{}-20", {})])
def test_a_part_that_keeps_every_class_is_not(rare: str, spec: str, options: dict[str, Any]) -> None:
    define(source=[spec.format(rare)], batch_size=2, **options)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("digits-10", {"validation": 0.1}),
        ("digits", {"validation": 0.1, "images": 15}),
        ("imagenet-1500", {"validation": 0.1}),
    ],
)
def test_the_first_images_of_a_published_set_with_one_of_a_class_are_not_held_out(
    spec: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"leaves no training image of class \d+"):
        define(source=[spec], batch_size=2, **options)


def test_the_classes_of_a_folder_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = make(tmp_path / "pets", train=4)
    for number in range(1, 4):
        (root / "train" / "owl" / f"00{number}.png").unlink()
    with pytest.raises(InputError, match="no training image is left of class 2 of data set folder:pets-b"):
        define(source=[f"folder:{root}-b"], batch_size=2)
