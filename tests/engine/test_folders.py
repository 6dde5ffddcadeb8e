"""Folders of images: identities, reading into memory, and errors."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, ImageFolder
from torchvision.transforms.v2 import functional as F

from engine.datasets import catalog, folders, load, manifests, specs
from engine.errors import InputError
from engine.plan.defining import define
from tests.engine.folders import CLASSES, empty, make, truncate
from tests.images import read


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_folder_is_read_as_torchvisions_image_folder_reads_it(tmp_path: Path, part: str) -> None:
    root = make(tmp_path / "pets", part=part)
    facts, arrays = specs.resolve(f"folder:{root}"), read(f"folder:{root}")
    assert (facts.name, facts.shape, facts.classes, facts.flips) == ("folder:pets", (3, 40, 40), 3, True)
    assert (facts.train_images, facts.test_images) == (18, 9)
    for split, images, labels in (
        ("train", arrays.train_images, arrays.train_labels),
        (part, arrays.test_images, arrays.test_labels),
    ):
        expected = ImageFolder(str(root / split))
        assert labels.tolist() == expected.targets
        assert all(np.array_equal(image, np.asarray(other)) for image, (other, _) in zip(images, expected, strict=True))


def test_the_endings_are_those_of_torchvision() -> None:
    assert folders.ENDINGS == IMG_EXTENSIONS


def test_images_of_any_size_are_resized_along_their_short_side_and_cut_in_the_middle(tmp_path: Path) -> None:
    root = make(tmp_path / "pets", size=(50, 70))
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "train" / "cat" / "000.png")
    facts, arrays = specs.resolve(f"folder:{root}@32"), read(f"folder:{root}@32")
    assert (facts.name, facts.shape, arrays.train_images.shape) == ("folder:pets@32", (3, 32, 32), (18, 32, 32, 3))
    with Image.open(root / "train" / "cat" / "001.png") as image:
        expected = F.center_crop(F.resize(F.pil_to_tensor(image), [32], antialias=True), [32, 32])
    assert torch.equal(torch.from_numpy(arrays.train_images[1]).permute(2, 0, 1), expected)


def test_gray_images_stay_gray_if_all_are_and_become_rgb_beside_others(tmp_path: Path) -> None:
    root = make(tmp_path / "pets", size=(8, 8))
    with Image.open(root / "train" / "cat" / "000.png") as image:
        gray = image.convert("L")
    gray.save(root / "train" / "cat" / "000.png")
    mixed = read(f"folder:{root}")
    assert mixed.train_images.shape == (18, 8, 8, 3)
    assert np.array_equal(mixed.train_images[0], np.repeat(np.asarray(gray)[..., None], 3, axis=2))
    for file in root.rglob("*.png"):
        with Image.open(file) as image:
            gray = image.convert("L")
        gray.save(file)
    assert specs.resolve(f"folder:{root}").shape == (1, 8, 8)
    assert read(f"folder:{root}").train_images.shape == (18, 8, 8, 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_a_jpeg_of_any_kind_has_the_colours_that_pillow_gives_it(tmp_path: Path, mode: str) -> None:
    root = make(tmp_path / "pets", ending="jpg")
    file = root / "train" / "cat" / "000.jpg"
    with Image.open(file) as image:
        converted = image.convert(mode)
    converted.save(file)
    found = read(f"folder:{root}").train_images[0]
    with Image.open(file) as image:
        assert np.array_equal(found, np.asarray(image.convert("RGB")))


def test_halves_of_a_folder_are_those_of_its_labels(tmp_path: Path) -> None:
    root = make(tmp_path / "pets")
    whole, half = read(f"folder:{root}"), read(f"folder:{root}@40-a")
    assert specs.resolve(f"folder:{root}-b").train_images == 9
    chosen = load.half(whole.train_labels, "a")
    assert np.array_equal(half.train_images, whole.train_images[chosen])
    assert np.bincount(half.train_labels).tolist() == [3, 3, 3]


def test_a_folder_may_itself_have_the_name_of_a_half_or_a_size(tmp_path: Path) -> None:
    for name in ("pets-a", "pets@32"):
        facts = specs.resolve(f"folder:{make(tmp_path / name)}")
        assert (facts.part, facts.shape) == ("", (3, 40, 40))
        assert load.load(facts.identity, facts.location).train_images.shape == (18, 40, 40, 3)


def test_identity_is_what_the_files_hold_and_the_size_asked_for_never_where_they_lie(tmp_path: Path) -> None:
    root = make(tmp_path / "pets")
    shutil.copytree(root, tmp_path / "elsewhere" / "animals")
    here, there = (specs.resolve(f"folder:{path}") for path in (root, tmp_path / "elsewhere" / "animals"))
    assert here.identity == there.identity
    named = [f"folder:{root}", f"folder:{root}@40", f"folder:{root}@32", f"stream:{root}", f"stream:{root}@32"]
    assert len({specs.resolve(spec).identity for spec in named}) == 5
    (root / "train" / "cat" / "000.png").rename(root / "train" / "cat" / "new.png")
    assert specs.resolve(f"folder:{root}").identity != here.identity


def test_an_image_is_read_once_and_then_known_by_size_and_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "pets")
    before = specs.resolve(f"stream:{root}").identity
    looked: list[Path] = []
    original = Path.read_bytes

    def noted(self: Path) -> bytes:
        looked.append(self)
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", noted)
    assert specs.resolve(f"stream:{root}").identity == before
    assert not looked
    changed = root / "train" / "dog" / "003.png"
    shutil.copy(root / "train" / "cat" / "000.png", changed)
    os.utime(changed, ns=(1, 1))
    assert specs.resolve(f"stream:{root}").identity != before
    assert looked == [changed]
    for kept in (cache / "cockpit" / "folders").iterdir():
        kept.write_text("of another version\n")
    assert specs.resolve(f"stream:{root}").identity != before
    assert len(looked) == 1 + 27


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path, cache: Path) -> None:
    root = make(tmp_path / "pets")
    cache.write_text("a file where the folder should be")
    assert specs.resolve(f"folder:{root}").identity == specs.resolve(f"folder:{root}").identity


def test_a_folder_that_has_changed_or_gone_since_it_was_queued_is_not_trained_on(tmp_path: Path) -> None:
    root = make(tmp_path / "pets")
    facts = specs.resolve(f"folder:{root}")
    (root / "test" / "cat" / "000.png").unlink()
    with pytest.raises(InputError, match="has changed since it was queued"):
        load.load(facts.identity, facts.location)
    shutil.rmtree(root)
    with pytest.raises(InputError, match=r"is gone from .*: put it back"):
        load.load(facts.identity, facts.location)


Change = Callable[[Path], object]


def one_class(root: Path) -> None:
    for split in ("train", "test"):
        for name in CLASSES[1:]:
            shutil.rmtree(root / split / name)


def other_size(root: Path) -> None:
    Image.fromarray(np.zeros((32, 30, 3), np.uint8)).save(root / "train" / "dog" / "001.png")


def deep(root: Path) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(root / "train" / "dog" / "001.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_size, r"several sizes: train/cat/000.png is 40x40, train/dog/001.png 32x30 .*pets@32 resizes all"),
        (lambda root: shutil.rmtree(root / "train"), "has no folder train/: it needs train/CLASS/ with images"),
        (lambda root: shutil.rmtree(root / "test"), "has no folder test/ nor val/: it needs"),
        (lambda root: shutil.rmtree(root / "train" / "owl"), "only test/ has the classes owl: give train/"),
        (lambda root: shutil.rmtree(root / "test" / "owl"), "only train/ has the classes owl: give test/"),
        (lambda root: empty(root / "train" / "owl"), "train/owl holds no image"),
        (lambda root: empty(root / "test"), "test has no folders of classes"),
        (one_class, "has one class, cat"),
        (lambda root: (root / "train" / "cat" / "002.png").write_text("hello"), "cat/002.png is no image that Pillow"),
        (lambda root: truncate(root / "test" / "owl" / "001.png"), "owl/001.png is damaged"),
        (deep, r"dog/001.png has more than eight bits a channel \(Pillow's mode I;16\): convert it"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_a_wrong_folder_is_refused_by_what_is_wrong_with_it(tmp_path: Path, change: Change, message: str) -> None:
    root = make(tmp_path / "pets")
    change(root)
    with pytest.raises(InputError, match=message):
        specs.resolve(f"folder:{root}")


@pytest.mark.parametrize("kind", ["folder", "stream"])
def test_a_truncated_jpeg_is_known_before_anything_is_trained(tmp_path: Path, kind: str) -> None:
    root = make(tmp_path / "pets", ending="jpg")
    truncate(root / "train" / "dog" / "004.jpg")
    with pytest.raises(InputError, match=r"train/dog/004.jpg is damaged \(.*[Tt]runcated"):
        specs.resolve(f"{kind}:{root}@32")


@pytest.mark.parametrize("side", ["x", "0", "1", "4096", "-3", ""])
def test_a_size_that_is_none_is_refused(tmp_path: Path, side: str) -> None:
    root = make(tmp_path / "pets")
    with pytest.raises(InputError, match=r"is no side in pixels: allowed are 2 to 1024, e\.g\. folder:"):
        specs.resolve(f"folder:{root}@{side}")


def test_what_the_database_remembers_of_a_folder_is_what_was_found(tmp_path: Path) -> None:
    root = make(tmp_path / "pets")
    for spec in (f"folder:{root}", f"folder:{root}@32-a", f"stream:{root}@64", f"stream:{root}-b"):
        d = specs.resolve(spec)
        assert d == catalog.remembered(
            d.name, d.identity, d.location, d.shape, d.classes, d.train_images, d.test_images
        )
        assert specs.resolve(d.spec) == d


@pytest.mark.parametrize(("name", "classes"), [("imagenet", 1000), ("places365", 365)])
def test_sets_of_photographs_are_known_without_being_there(name: str, classes: int) -> None:
    facts = specs.resolve(name)
    assert (facts.shape, facts.classes, facts.augmentation("standard")) == ((3, 224, 224), classes, "crop-flip")
    halves = [specs.resolve(f"{name}-{part}").train_images for part in "ab"]
    assert sum(halves) == facts.train_images
    assert catalog.is_streamed(facts.identity)
    assert catalog.is_streamed(f"{name}-a")


def test_a_published_set_of_photographs_is_known_by_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCKPIT_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"imagenet is not on this machine; searched: .*imagenet/val/CLASS/"):
        folders.find("imagenet", "")
    make(tmp_path / "imagenet", part="val")
    with pytest.raises(InputError, match="holds 3 classes, 18 training and 9 test images; the published set has 1000"):
        folders.find("imagenet", "")
    facts = catalog.Photographs("", 3, 18, 9, "imagenet")
    monkeypatch.setitem(catalog.PHOTOGRAPHS, "imagenet", facts)
    pictures, side = folders.find("imagenet-a", "")
    assert (len(pictures.train.files), side) == (18, 224)


def test_tickets_go_between_sizes_where_a_pool_makes_them_one(tmp_path: Path) -> None:
    root = make(tmp_path / "pets", train=20)
    large, small = f"stream:{root}@64", f"folder:{root}@32"
    for source, target in ((large, small), (small, large)):
        shapes = [data.shape for data in define(source=[source], target=[target], model="resnet20").targets]
        assert shapes == [specs.resolve(target).shape]
    with pytest.raises(InputError, match="vgg19 needs images of at least 16 pixels a side, these have 8x8"):
        define(source=[large], target=[f"folder:{root}@8"], model="vgg19")
    with pytest.raises(InputError, match="a ticket fits only images of as many channels as those it was found on"):
        define(source=[large], target=["digits"], model="resnet20")
    with pytest.raises(InputError, match="conv-4 does not end in a global average pool"):
        define(source=[large], target=[small], model="conv-4")


def pipe(place: Path) -> None:
    os.mkfifo(place)


def socket_(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(place.parent)  # the address of a socket has at most 107 bytes
        try:
            one.bind(place.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("make_odd", "message"),
    [
        (pipe, "odd.png is no file, but a pipe, socket or device: remove it"),
        (socket_, "odd.png is no file, but a pipe, socket or device"),
        (lambda place: place.symlink_to(place.parent / "nothing"), "odd.png links to nothing: remove it"),
        (lambda place: place.symlink_to(place), r"it cannot be read \(Too many levels of symbolic links\): .*odd.png"),
        (lambda place: place.symlink_to("/dev/zero"), "odd.png links to nothing|odd.png is no file"),
        (lambda place: place.symlink_to(place.parent), "odd.png links to a folder that it lies in"),
        (lambda place: place.symlink_to(place.parent.parent), "links to a folder that it lies in"),
        (lambda place: place.touch(), "odd.png is no image that Pillow can read"),
        (lambda place: place.write_text("hello"), "odd.png is no image that Pillow can read"),
    ],
)
def test_what_is_no_image_is_named_and_never_waited_for(
    tmp_path: Path, part: str, make_odd: Change, message: str
) -> None:
    root = make(tmp_path / "pets")
    (root / part / "cat" / "deeper").mkdir()
    make_odd(root / part / "cat" / "deeper" / "odd.png")
    for kind in ("folder", "stream"):
        with pytest.raises(InputError, match=message):
            specs.resolve(f"{kind}:{root}")


def test_a_folder_called_like_an_image_is_a_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "pets")
    (root / "train" / "cat" / "more.png").mkdir()
    (root / "train" / "cat" / "000.png").rename(root / "train" / "cat" / "more.png" / "000.png")
    assert specs.resolve(f"folder:{root}").train_images == 18


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "pets")
    facts = specs.resolve(f"folder:{root}")

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied", "001.png")

    monkeypatch.setattr(manifests, "look", refuse)  # root may read any file
    with pytest.raises(InputError, match=r"it cannot be read \(Permission denied\): 001.png"):
        specs.resolve(f"folder:{root}")
    with pytest.raises(InputError, match="Permission denied"):
        load.load(facts.identity, facts.location)
    assert folders.state(facts.identity, facts.location) == "changed"


@pytest.mark.parametrize(
    "name",
    ["@eaDir", ".DS_Store", "Thumbs.db", "__MACOSX", ".ipynb_checkpoints", "$RECYCLE.BIN", "lost+found", "#recycle"],
)
def test_what_systems_leave_behind_is_no_class_and_holds_no_image(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "pets")
    before = specs.resolve(f"folder:{root}")
    for folder in (root, root / "train", root / "train" / "cat"):
        shutil.copytree(root / "train" / "dog", folder / name / "cat.png")
        shutil.copy(root / "train" / "dog" / "001.png", folder / name / "thumb.png")
    assert specs.resolve(f"folder:{root}") == before


NAMES = st.sampled_from(["a.png", "b.PNG", "c.jpg", "d.txt", "é.png", ".e.png", "@eaDir", "Thumbs.db", "g\n.png"])


def nested(place: Path) -> None:
    place.mkdir()
    KINDS["image"](place / "deep.png")


KINDS: dict[str, Change] = {
    "image": lambda place: Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(place, "PNG"),
    "gray": lambda place: Image.fromarray(np.zeros((4, 4), np.uint8)).save(place, "PNG"),
    "empty": lambda place: place.touch(),
    "pipe": pipe,
    "dangling": lambda place: place.symlink_to("nothing"),
    "loop": lambda place: place.symlink_to("."),
    "folder": lambda place: place.mkdir(),
    "nested": nested,
}


@settings(deadline=None, max_examples=80)
@given(
    entries=st.dictionaries(
        st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(CLASSES[:2]), NAMES),
        st.sampled_from([*KINDS, "image", "image", "nested"]),
        max_size=6,
    )
)
def test_a_folder_of_odd_entries_is_refused_in_one_line_or_read_as_described(
    entries: dict[tuple[str, str, str], str],
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for part in ("train", "test"):
            for name in CLASSES[:2]:
                (root / part / name).mkdir(parents=True)
                KINDS["image"](root / part / name / "always.png")
        for (part, class_, name), kind in entries.items():
            KINDS[kind](root / part / class_ / name)
        try:
            facts = specs.resolve(f"folder:{root}")
        except InputError as error:
            problem = str(error)
        else:
            problem = ""
            arrays = load.load(facts.identity, facts.location)
            assert (len(arrays.train_images), len(arrays.test_images)) == (facts.train_images, facts.test_images)
        images = {kind for (*_, name), kind in entries.items() if folders.is_image(name)}
        folders_ = {kind for (*_, name), kind in entries.items() if not folders.is_clutter(name)}
        assert bool(problem) == bool(images & {"empty", "pipe", "dangling"} or folders_ & {"loop"})
        assert "\n" not in problem
