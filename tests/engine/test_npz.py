"""npz files of any origin: the images read are those described, or one line names the fault."""

import io
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.datasets import load, npz, specs
from engine.errors import InputError
from tests.images import Arrays, gray, read, save

MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def image(mode: str, seed: int, side: int = 4) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def packed(train: list[Image.Image], test: list[Image.Image], form: str = "PNG") -> Arrays:
    """Encoded images of two classes, end to end."""
    arrays: Arrays = {}
    for part, images in (("train", train), ("test", test)):
        files = [io.BytesIO() for _ in images]
        for one, file in zip(images, files, strict=True):
            one.save(file, form)
        data = [file.getvalue() for file in files]
        arrays |= {
            f"{part}_bytes": np.frombuffer(b"".join(data), np.uint8),
            f"{part}_offsets": np.cumsum([0, *map(len, data)]),
            f"{part}_labels": np.arange(len(images)) % 2,
        }
    return arrays


@settings(deadline=None, max_examples=40)
@given(
    train=st.lists(st.sampled_from(MODES), min_size=2, max_size=5),
    test=st.lists(st.sampled_from(MODES), min_size=2, max_size=4),
)
def test_packed_images_are_gray_only_if_all_of_both_parts_are(train: list[str], test: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = {"train": train, "test": test}
        images = {part: [image(mode, seed) for seed, mode in enumerate(modes)] for part, modes in parts.items()}
        spec = save(Path(folder) / "set.npz", packed(images["train"], images["test"]))
        facts, arrays = specs.resolve(spec), read(spec)
        all_gray = set(train + test) <= {"1", "L"}
        assert facts.shape[0] == arrays.train_images.shape[3] == arrays.test_images.shape[3] == (1 if all_gray else 3)
        for found, originals in zip((arrays.train_images, arrays.test_images), images.values(), strict=True):
            for pixels, original in zip(found, originals, strict=True):
                expected = np.asarray(original.convert("L" if all_gray else "RGB"))
                assert np.array_equal(pixels, expected.reshape(pixels.shape))
        # Earlier versions read a set as gray if its first image was: their runs have another identity.
        assert npz.IN_COLOUR in facts.identity or all_gray or train[0] not in ("1", "L")


def test_a_set_that_was_read_as_gray_since_its_first_image_is_has_another_identity_in_colour(tmp_path: Path) -> None:
    spec = save(tmp_path / "set.npz", packed([image("L", 0), image("RGB", 1)], [image("L", 0), image("RGB", 1)]))
    facts = specs.resolve(spec)
    before = f"npz:{npz.file_digest(tmp_path / 'set.npz')}"
    assert facts.identity == f"{before}@rgb"
    assert npz.state(facts.identity, facts.location) == "there"
    with pytest.raises(InputError, match=r"an earlier version read it as gray.*queue it as a new set"):
        load.load(before, facts.location)
    colour = save(tmp_path / "other.npz", packed([image("RGB", 0), image("L", 1)], [image("L", 0), image("RGB", 1)]))
    assert specs.resolve(colour).identity == f"npz:{npz.file_digest(tmp_path / 'other.npz')}"


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (Image.fromarray(np.zeros((4, 4), np.uint16)), r"more than eight bits a channel \(Pillow's mode I;16\)"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), r"more than eight bits a channel \(Pillow's mode F\)"),
        (image("RGB", 0, side=5), "is 5x5, the first is 4x4"),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_an_image_that_a_folder_may_not_hold_is_refused_with_its_index(
    tmp_path: Path, part: str, odd: Image.Image, message: str
) -> None:
    good = [image("RGB", seed) for seed in range(4)]
    parts = {"train": good, "test": good, part: [*good[:3], odd]}
    with pytest.raises(InputError, match=f"image 3 of {part}_bytes.*{message}"):
        specs.resolve(save(tmp_path / "set.npz", packed(**parts, form="TIFF")))


def test_a_truncated_packed_image_is_known_before_anything_is_trained(tmp_path: Path) -> None:
    images = [image("RGB", seed, side=64) for seed in range(2)]
    arrays = packed(images, images)
    arrays["train_bytes"] = arrays["train_bytes"].copy()
    arrays["train_bytes"][arrays["train_offsets"][1] // 2 :][:2000] = 0
    with pytest.raises(InputError, match=r"image 0 of train_bytes is (damaged|no image)"):
        specs.resolve(save(tmp_path / "set.npz", arrays))


def test_kerass_layout_is_read(tmp_path: Path) -> None:
    arrays = gray()
    names = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}
    found = read(save(tmp_path / "set.npz", {names[name]: value for name, value in arrays.items()}))
    assert np.array_equal(found.train_images[..., 0], arrays["train_images"])
    assert np.array_equal(found.test_labels, arrays["test_labels"][:, 0])


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("pixels", "packed"), "it has images twice .*train_images.*train_bytes.*: keep one kind"),
        (("pixels", "keras"), "it has images twice .*train_images.*x_train"),
        ((), "it has no arrays of images: it needs train_images, .* x_train, .*; it holds arr_0"),
    ],
)
def test_a_file_holds_one_kind_of_images(tmp_path: Path, kinds: tuple[str, ...], message: str) -> None:
    plain, images = gray(side=4), [image("RGB", seed) for seed in range(4)]
    all_of_them: dict[str, Arrays] = {
        "pixels": plain,
        "packed": packed(images, images),
        "keras": {"x_train": plain["train_images"], "y_train": plain["train_labels"]},
    }
    arrays: Arrays = {"arr_0": np.zeros(3)}
    for kind in kinds:
        arrays |= all_of_them[kind]
    with pytest.raises(InputError, match=message):
        specs.resolve(save(tmp_path / "set.npz", arrays))


def header(descr: object, shape: object, order: object = False) -> bytes:
    return repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()


def npy(head: bytes, body: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + body


def write(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return f"npz:{path}"


SMALL: dict[str, tuple[str, tuple[int, ...], bytes]] = {
    "train_images": ("|u1", (4, 2, 2), bytes(range(16))),
    "train_labels": ("|u1", (4,), bytes([0, 1, 0, 1])),
    "test_images": ("|u1", (2, 2, 2), bytes(range(8))),
    "test_labels": ("|u1", (2,), bytes([0, 1])),
}
GOOD = {name: npy(header(descr, shape), body) for name, (descr, shape, body) in SMALL.items()}
# Values that a damaged or hostile file may have.
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.integers(-1, 5), max_size=4),
    st.tuples(st.integers(0, 2**70)), st.sampled_from(["|u1", "<i8", ">i4", "<f4", "|O", "|u3", [("a", "<i4")]]),
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)),
)  # fmt: skip


@st.composite
def malformed(draw: st.DrawFn) -> dict[str, bytes]:
    """The arrays of a small valid set; tests damage some of them."""
    members = dict(GOOD)
    for name in draw(st.lists(st.sampled_from(list(GOOD)), unique=True, max_size=3)):
        descr, shape, body = SMALL[name]
        match draw(st.sampled_from(["header", "bytes", "cut", "text", "labels", "gone"])):
            case "header":
                fields = {"descr": descr, "shape": shape, "order": False, draw(st.sampled_from("dso")): draw(ODD)}
                odd = [fields.get(key, fields[full]) for key, full in
                       (("d", "descr"), ("s", "shape"), ("o", "order"))]  # fmt: skip
                members[name] = npy(header(*odd), body, draw(st.integers(0, 4)))
            case "bytes":
                members[name] = draw(st.binary(max_size=40))
            case "cut":
                members[name] = members[name][: draw(st.integers(0, len(members[name])))]
            case "text":
                head = draw(st.sampled_from([b"(" * 300, b"[" * 9000 + b"]" * 9000, b"{}", b"1\x00", b"-" * 9000]))
                members[name] = npy(head, body, 2)
            case "labels":
                members[name] = npy(header(descr, shape), draw(st.binary(min_size=len(body), max_size=len(body))))
            case "gone":
                del members[name]
    return members


@settings(deadline=None, max_examples=300)
@given(members=malformed(), extra=st.binary(max_size=20), place=st.integers(0, 500))
def test_a_malformed_file_is_refused_in_one_line_or_read_as_described(
    members: dict[str, bytes], extra: bytes, place: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spec = write(Path(folder) / "set.npz", members)
        data = bytearray((Path(folder) / "set.npz").read_bytes())
        data[place : place + len(extra)] = extra
        (Path(folder) / "set.npz").write_bytes(data)
        read_or_refused(spec)


@settings(deadline=None, max_examples=150)
@given(
    offsets=st.lists(st.one_of(st.integers(0, 300), st.integers(-(2**63), 2**63 - 1)), max_size=4),
    damage=st.binary(max_size=6),
    place=st.integers(0, 150),
)
def test_malformed_packed_images_are_refused_in_one_line_or_read_as_described(
    offsets: list[int], damage: bytes, place: int
) -> None:
    arrays = packed([image("RGB", 0), image("L", 1)], [image("RGB", 0), image("L", 1)])
    data = bytearray(arrays["train_bytes"].tobytes())
    data[place : place + len(damage)] = damage
    arrays["train_bytes"] = np.frombuffer(bytes(data), np.uint8)
    if offsets:
        arrays["train_offsets"] = np.array(offsets, np.int64)
    with tempfile.TemporaryDirectory() as folder:
        read_or_refused(save(Path(folder) / "set.npz", arrays))


def read_or_refused(spec: str) -> None:
    problem = ""
    try:
        facts = specs.resolve(spec)
        arrays = load.load(facts.identity, facts.location)
    except InputError as error:
        problem = str(error)
    assert "\n" not in problem
    if problem:
        return
    assert len(arrays.train_images) == len(arrays.train_labels) == facts.train_images
    assert len(arrays.test_images) == len(arrays.test_labels) == facts.test_images
    assert set(arrays.train_labels) == set(arrays.test_labels) == set(range(facts.classes))
    seen = load.as_networks_see(arrays.train_images)
    assert (seen.shape[3], *seen.shape[1:3]) == facts.shape


# The same set with encoded images; empty arrays are left out.
PACKED: dict[str, bytes] = {"train_images": b"", "test_images": b""}
for _part, _count in (("train", 4), ("test", 2)):
    PACKED[f"{_part}_bytes"] = npy(header("|u1", (_count,)), bytes(_count))
    PACKED[f"{_part}_offsets"] = npy(header("|u1", (_count + 1,)), bytes(range(_count + 1)))
HUGE = 200 * 2**20  # bytes; 1 MB in the file


def zeros(dtype: str, count: int) -> bytes:
    return npy(header(dtype, (count,)), bytes(count * int(dtype[2:])))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda: {"train_labels": zeros("|u1", HUGE)}, "4 images in train_images but 209715200 labels"),
        (lambda: {"test_labels": zeros("<i8", HUGE // 8)}, "2 images in test_images but 26214400 labels"),
        (lambda: {"test_labels": npy(bytes(HUGE), b"", 2)}, "has a header of 209715200 bytes: allowed are 10000"),
        (
            lambda: {
                "train_images": npy(header("|u1", (HUGE, 1, 1)), bytes(HUGE)),
                "train_labels": zeros("|u1", HUGE),
            },
            "images of 1x1 pixels",
        ),
        (
            lambda: (
                PACKED
                | {"train_bytes": zeros("|u1", HUGE)}
                | {"train_offsets": npy(header("<i8", (5,)), struct.pack("<5q", 0, HUGE - 3, HUGE - 2, HUGE - 1, HUGE))}
            ),
            "image 0 of train_bytes has 209715197 bytes: allowed are",
        ),
        (lambda: PACKED | {"train_offsets": zeros("<i8", HUGE // 8)}, "26214399 images in train_bytes but 4 labels"),
    ],
)
def test_a_small_file_that_unpacks_to_much_is_refused_in_little_memory(
    tmp_path: Path, changed: Callable[[], dict[str, bytes]], message: str
) -> None:
    members = {name: data for name, data in {**GOOD, **changed()}.items() if data}
    spec = write(tmp_path / "set.npz", members)
    del members
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            specs.resolve(spec)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder: name it as folder:"):
        specs.resolve(f"npz:{tmp_path}")


@pytest.mark.parametrize("spec", ["~nobody-of-this-name/set", "a\0b", "\udcff"])
@pytest.mark.parametrize("kind", ["npz", "folder", "stream"])
def test_a_path_that_nothing_can_have_is_refused(kind: str, spec: str) -> None:
    with pytest.raises(InputError, match=r"no file can be named so|home folder of .* is unknown|is not valid Unicode"):
        specs.resolve(f"{kind}:{spec}")
