"""The number of training images of each class in a part: from counts, and from the chosen images."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.datasets import catalog, classes, load, specs
from engine.datasets.feed import open_feed
from engine.desk.local import LocalDesk
from engine.errors import InputError
from engine.plan.defining import define
from engine.plan.experiments import curves
from engine.store import database
from engine.store.files import Folder
from engine.workers.run import Bench, prepare
from tests.conftest import add
from tests.engine.folders import make
from tests.images import gray, save


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=6), which=st.sampled_from(["", "a", "b"]), data=st.data()
)
def test_the_counts_of_a_part_are_those_of_the_images_chosen(
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
    assert classes.of_part(tuple(counts), part) == tuple(np.bincount(chosen, minlength=len(counts)))


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
    ("", {"validation": 0.1}, "validation 0.1 leaves no training image of class 4 of data set npz:rare, which has 1"),
    ("-20", {"validation": 0.1}, "validation 0.1 leaves no training image of class 4"),
    ("-b", {"validation": 0.5}, "validation 0.5 leaves no training image of class 4"),
]


@pytest.mark.parametrize(("part", "options", "message"), REFUSED)
@pytest.mark.parametrize("end", ["source", "target"])
def test_a_part_that_loses_a_class_is_refused(
    rare: str, part: str, options: dict[str, Any], message: str, end: str
) -> None:
    ends: dict[str, Any] = {"source": [f"{rare}{part}"], "target": [rare if not options else f"{rare}{part}"]}
    if end == "target":
        ends = {"source": ends["target"], "target": ends["source"]}
    with pytest.raises(InputError, match=message):
        define(**ends, batch_size=2, **options)
    specs.resolve(f"{rare}{part}")  # `data check` still counts the classes


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


TRAINED = [
    (spec, validation)
    for spec in ("digits", "digits-a", "digits-b", "digits-300", "digits-b-123")
    for validation in (0.0, 0.01, 0.1, 0.5)
]


@pytest.mark.parametrize(("spec", "validation"), TRAINED)
def test_the_images_trained_on_are_counted_without_those_held_out(spec: str, validation: float) -> None:
    training = curves(define(source=[spec], validation=validation, levels=0))[0].points[0].run.training
    feed = open_feed("", training, torch.device("cpu"), 1)
    assert classes.trained_on(specs.resolve(spec), validation) == len(feed.train)


@pytest.mark.parametrize("spec", ["imagenet", "places365-a", "imagenet-5000"])
def test_the_images_trained_on_are_unknown_where_counts_are_approximate(spec: str) -> None:
    data = specs.resolve(spec)
    assert classes.trained_on(data, 0.1) is None
    assert classes.trained_on(data, 0.0) == data.train_images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_size": 3},
            r"batch_size 3 leaves a last batch of one image.* \(565 training images\).*e\.g\. 5",
        ),
        ({"batch_size": 141}, r"batch_size 141 leaves a last batch of one image.*e\.g\. 142"),
        ({"batch_size": 40, "split": 4}, "batch_size 40 leaves a last batch of 5, too few images to be split over 4"),
    ],
)
def test_batches_are_those_of_the_images_trained_on(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    spec = save(tmp_path / "small.npz", gray(629, side=2))
    fits = {"source": [spec], "model": "vgg-digits", **options}
    define(**fits)
    with pytest.raises(InputError, match=message):
        define(**fits, validation=0.1)


def test_a_run_whose_batches_no_one_could_count_before_is_looked_at_before_it_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "whole", source=["digits"], target=())
    run = curves(define(source=["digits"], levels=0))[0].points[0].run
    uneven = replace(run, training=replace(run.training, batch_size=1256 // 2, split=2, validation=0.0))
    with closing(database.writer(path)) as connection:
        bench = Bench(LocalDesk(connection, Folder(tmp_path)), torch.device("cpu"))
        with pytest.raises(InputError, match="leaves a last batch of 1, too few images to be split over 2 devices"):
            prepare(uneven, bench)


def test_a_worker_that_lives_on_tests_each_run_on_its_own_test_images(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "whole", source=["digits"], target=())
    training = curves(define(source=["digits"], levels=0))[0].points[0].run.training
    with closing(database.writer(path)) as connection:
        bench = Bench(LocalDesk(connection, Folder(tmp_path)), torch.device("cpu"))
        tested = [len(bench.data(replace(training, test_images=limit)).test) for limit in (None, 100, 10, None)]
    assert tested == [540, 100, 10, 540]
