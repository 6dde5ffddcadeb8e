"""Streamed data sets, against images decoded and cropped one by one; and the decoders' processes."""

import dataclasses
import resource
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from engine import streams
from engine.datasets import decoding, folders, specs, streaming
from engine.datasets.feed import Feed, open_feed
from engine.desk.job import Job
from engine.errors import InputError
from engine.recipes import RandomGlobal, Run, Training
from engine.store import database, rows
from engine.tickets import starts
from engine.training import checkpoints, loop, profiles
from engine.workers import run
from tests.conftest import add
from tests.engine.folders import make, truncate
from tests.images import scalar_hash
from tests.trainings import TRAINING
from tests.workers import records, wait_for_epochs, worker_command

CPU = torch.device("cpu")
CROPPED = replace(
    TRAINING, model="resnet20", width=0.25, augmentation="crop-flip", batch_size=16, epochs=2, milestones=(1,)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of several sizes, one of them gray and one CMYK; 42 for training, 15 for testing."""
    found = make(tmp_path_factory.mktemp("photos") / "pets", train=14, test=5, size=(40, 60), ending="jpg")
    for name, mode, size in (("000", "L", (60, 40)), ("001", "CMYK", (60, 40)), ("002", "RGB", (200, 33))):
        file = found / "train" / "cat" / f"{name}.jpg"
        with Image.open(file) as image:
            changed = image.convert(mode).resize(size)
        changed.save(file)
    return found


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    profiles.configure("exact", CPU)
    yield
    torch.use_deterministic_algorithms(False)


def opened(root: Path, configuration: Training = CROPPED, decoders: int = 1, part: str = "", side: int = 32) -> Feed:
    facts = specs.resolve(f"stream:{root}@{side}{part}")
    return open_feed(facts.location, replace(configuration, dataset=facts.identity), CPU, decoders)


def draws(index: int, key: int) -> list[float]:
    return [scalar_hash(index * 41 + number, key) / 2**32 for number in range(41)]


def one_by_one(root: Path, index: int, seed: int, epoch: int) -> Tensor:
    """The training image at `index` as the epoch sees it, from the list of files."""
    numbers = draws(index, streams.key("augment", seed, epoch))
    with Image.open(sorted(root.glob("train/*/*"))[index]) as image:
        pixels = v2.functional.pil_to_tensor(image.convert("RGB"))
    _, tall, wide = pixels.shape
    top, left, height, width = decoding.random_crop(tall, wide, numbers)
    assert 0 <= top <= top + height <= tall
    assert 0 <= left <= left + width <= wide
    cropped = v2.functional.resize(pixels[:, top : top + height, left : left + width], [32, 32], antialias=True)
    return torch.flip(cropped, [2]) if numbers[-1] < 0.5 else cropped


@pytest.mark.parametrize("decoders", [1, 3])
def test_an_epoch_is_the_images_cropped_one_by_one_however_many_decode_them(root: Path, decoders: int) -> None:
    feed = opened(root, decoders=decoders)
    batches = list(feed.epoch(3, 2, 0, 16))
    assert [len(labels) for _, labels in batches] == [16, 16, 10]
    order = streams.permutation(42, streams.key("order", 3, 2)).tolist()
    pixels = torch.cat([pixels for pixels, _ in batches])
    for place, index in enumerate(order):
        assert torch.equal(pixels[place], one_by_one(root, index, 3, 2)), index
    assert torch.cat([labels for _, labels in batches]).tolist() == [index // 14 for index in order]


def test_an_epoch_goes_on_at_any_batch_and_one_left_off_disturbs_nothing(root: Path) -> None:
    feed = opened(root)
    whole = list(feed.epoch(0, 1, 0, 16))
    next(feed.epoch(0, 5, 0, 16))  # and abandon it
    assert not list(feed.epoch(0, 1, 48, 16))  # resumed in the evaluation after an epoch
    for pixels, labels in zip(feed.epoch(0, 1, 16, 16), whole[1:], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(pixels, labels, strict=True))


def test_each_epoch_and_seed_has_crops_of_its_own(root: Path) -> None:
    feed = opened(root)
    seen = {tuple(pixels.sum((1, 2, 3)).sort().values.tolist()) for seed in (0, 1) for epoch in (0, 1)
            for pixels, _ in feed.epoch(seed, epoch, 0, 42)}  # fmt: skip
    assert len(seen) == 4


def test_testing_sees_the_middle_of_the_resized_image(root: Path) -> None:
    feed = opened(root, side=224)
    pixels, labels = next(feed.test.batches(15))
    assert labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    standard = v2.Compose([v2.PILToTensor(), v2.Resize(256, antialias=True), v2.CenterCrop(224)])
    for found, file in zip(pixels, sorted(root.glob("test/*/*")), strict=True):
        with Image.open(file) as image:
            assert torch.equal(found, standard(image.convert("RGB")))


def test_without_augmentation_training_sees_what_testing_does(root: Path) -> None:
    feed = opened(root, replace(CROPPED, augmentation="none"))
    seen = {image.numpy().tobytes() for pixels, _ in feed.epoch(0, 0, 0, 16) for image in pixels}
    assert seen == {image.numpy().tobytes() for pixels, _ in feed.train.batches(16) for image in pixels}


def test_crops_are_distributed_like_those_of_torchvision() -> None:
    torch.manual_seed(0)
    drawn, image = v2.RandomResizedCrop(32), torch.zeros(3, 300, 500)
    reference, found = [], []
    for numbers in decoding.draws_for([*range(4000)], streams.key("augment")):
        made = drawn.make_params([image])
        reference.append([made[key] for key in ("top", "left", "height", "width")])
        found.append(decoding.random_crop(300, 500, numbers))
    quantiles = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    for one, other in zip(*(torch.tensor(crops).double().T for crops in (reference, found)), strict=True):
        assert (one.quantile(quantiles) - other.quantile(quantiles)).abs().max() < 15  # of up to 500 pixels


def test_a_crop_of_an_extreme_image_is_the_largest_that_is_allowed() -> None:
    unlucky = [0.999, 0.5] * 20 + [0.0]
    assert decoding.random_crop(10, 1000, unlucky) == (0, 493, 10, 13)
    assert decoding.random_crop(1000, 10, unlucky) == (493, 0, 13, 10)


def test_random_numbers_are_the_hash_of_the_images_index() -> None:
    assert decoding.draws_for([7, 10**8 - 1], 12345) == [draws(7, 12345), draws(10**8 - 1, 12345)]


def test_halves_and_the_validation_part_divide_the_training_images(root: Path) -> None:
    whole = len(opened(root).train)
    assert [len(opened(root, part=part).train) for part in ("-a", "-b")] == [21, 21]
    feed = opened(root, replace(CROPPED, validation=0.2))
    assert feed.validation is not None
    assert (whole, len(feed.train), len(feed.validation)) == (42, 33, 9)
    held = {image.numpy().tobytes() for pixels, _ in feed.validation.batches(16) for image in pixels}
    kept = {image.numpy().tobytes() for pixels, _ in feed.train.batches(16) for image in pixels}
    assert (len(held), len(kept)) == (9, 33)
    assert not held & kept


def test_mean_and_deviation_are_those_of_the_training_images_and_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = opened(root)
    pixels = torch.cat([pixels for pixels, _ in feed.train.batches(16)]).double()
    normal = feed.normalised(pixels, torch.contiguous_format).double()
    assert normal.mean((0, 2, 3)).abs().max() < 1e-5
    assert (normal.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    monkeypatch.setattr(streaming.Part, "levels", None)  # cannot be computed any more
    again = opened(root)
    assert torch.equal(again.normalised(pixels, torch.contiguous_format).double(), normal)


def test_imagenet_is_normalised_by_the_constants_used_with_it_everywhere(root: Path) -> None:
    pictures, _, _ = folders.verified(*_where(root))
    feed = streaming.Streamed(pictures, 32, replace(CROPPED, dataset="imagenet-b"), CPU, 1)
    gray = feed.normalised(torch.full((1, 3, 2, 2), 127.5), torch.contiguous_format)
    standard = v2.functional.normalize(torch.full((3, 2, 2), 0.5), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(gray[0], standard, atol=1e-5)


def _where(root: Path) -> tuple[str, str]:
    facts = specs.resolve(f"stream:{root}@32")
    return facts.identity, facts.location


def test_a_training_left_off_within_an_epoch_goes_on_to_the_same_bits(root: Path) -> None:
    feed = opened(root)

    def begun() -> loop.State:
        model, masks = starts.start(Run(RandomGlobal(4), CROPPED), feed.shape, 3, lambda *_: b"")
        return loop.begin(model, masks, CROPPED, CPU)

    class Interrupted(Exception):
        pass

    steps = 0

    def interrupt(_: loop.State) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise Interrupted

    alone, halted, resumed = begun(), begun(), begun()
    expected = list(loop.train(alone, feed, CROPPED, lambda _: None))
    with pytest.raises(Interrupted):
        list(loop.train(halted, feed, CROPPED, interrupt))
    checkpoints.unpack(checkpoints.pack(halted, "run", 1, 0.0)).restore(resumed)
    rest = list(loop.train(resumed, opened(root, decoders=2), CROPPED, lambda _: None))
    assert all(torch.equal(one, other) for one, other in
               zip(alone.model.state_dict().values(), resumed.model.state_dict().values(), strict=True))  # fmt: skip
    assert [dataclasses.replace(epoch, images_per_second=None) for epoch in expected] == [
        dataclasses.replace(epoch, images_per_second=None) for epoch in rest
    ]


def test_a_decoder_that_is_killed_is_replaced_and_no_image_is_lost(root: Path) -> None:
    feed = opened(root)
    expected = list(feed.epoch(0, 0, 0, 8))
    found = []
    for batch in feed.epoch(0, 0, 0, 8):
        found.append(batch)
        for process in _decoders(psutil.Process()) if len(found) == 2 else ():
            process.kill()
    assert all(torch.equal(one[0], other[0]) for one, other in zip(found, expected, strict=True))
    assert len(list(feed.epoch(0, 1, 0, 8))) == len(expected)


def test_an_image_that_is_damaged_since_is_named_in_one_line(root: Path, tmp_path: Path) -> None:
    copy = make(tmp_path / "pets", ending="jpg")
    feed = opened(copy)
    truncate(copy / "train" / "dog" / "003.jpg")
    with pytest.raises(InputError, match=r"dog/003.jpg cannot be decoded \(.*\): replace or remove it") as raised:
        list(feed.epoch(0, 0, 0, 8))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, None])
def test_decoders_end_with_their_worker_however_that_ends(root: Path, how: signal.Signals | None) -> None:
    facts = specs.resolve(f"stream:{root}@32")
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.test_streaming", facts.identity, facts.location],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    assert worker.stdin is not None
    assert worker.stdout.readline() == "42\n"
    helpers = psutil.Process(worker.pid).children(recursive=True)
    assert len(_decoders(psutil.Process(worker.pid))) >= 1
    if how is None:
        worker.stdin.write("\n")
        worker.stdin.close()
    else:
        worker.send_signal(how)
    assert worker.wait(120) == (0 if how is None else -how)
    _, alive = psutil.wait_procs(helpers, timeout=60)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)  # init reaps them


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_stopped_or_killed_within_streamed_epochs_leaves_the_same_record(
    root: Path, tmp_path: Path, how: signal.Signals
) -> None:
    small: dict[str, Any] = {"source": [f"stream:{root}@32"], "target": [f"folder:{root}@48"], "model": "resnet20"}
    small |= {"levels": 0, "replicates": 1, "epochs": 4, "batch_size": 4, "random": ["none"]}
    found = []
    for disturbed in (False, True):
        path = tmp_path / str(disturbed) / "experiments.db"
        path.parent.mkdir()
        add(path, "pets", **small)
        for recorded in (1, 5) if disturbed else ():
            worker = subprocess.Popen([*worker_command(path), "--checkpoint-seconds", "0"])
            wait_for_epochs(path, recorded, worker)
            helpers = psutil.Process(worker.pid).children(recursive=True)
            assert helpers
            worker.send_signal(how)
            assert worker.wait(120) == (0 if how is signal.SIGTERM else -how)
            _, alive = psutil.wait_procs(helpers, timeout=60)
            assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
        subprocess.run([*worker_command(path), "--decoders", "2"], check=True)
        found.append(records(path))
    assert found[0] == found[1]
    assert {row[1] for row in found[0]["runs"]} == {"done"}


@pytest.mark.slow
def test_tickets_of_real_photographs_go_to_small_images_and_back(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "imagenette224-mini.tar") as archive:
        wanted = [member for number, member in enumerate(archive.getmembers()) if member.isdir() or number % 12 == 0]
        archive.extractall(tmp_path, members=wanted, filter="data")
    photographs = f"stream:{tmp_path / 'imagenette224-mini'}@64"
    with np.load(shared_data / "svhn.npz") as whole:
        small: dict[str, Any] = {}
        for part, count in (("train", 100), ("test", 50)):
            ends = whole[f"{part}_offsets"][: count + 1]
            small |= {f"{part}_offsets": ends, f"{part}_bytes": whole[f"{part}_bytes"][: ends[-1]]}
            small |= {f"{part}_labels": whole[f"{part}_labels"][:count]}
        np.savez(tmp_path / "svhn.npz", **small)
    path = tmp_path / "experiments.db"
    tiny: dict[str, Any] = {"levels": 1, "replicates": 1, "epochs": 1, "random": ["none"]}
    tiny |= {"model": "resnet18", "width": 0.1, "batch_size": 32}
    ends = photographs, f"npz:{tmp_path / 'svhn.npz'}"
    for name, source, target in (("there", *ends), ("back", *reversed(ends))):
        add(path, name, source=[source], target=[target], **tiny)
    subprocess.run(worker_command(path), check=True)
    with closing(database.reader(path)) as connection:
        assert {row.status for row in rows.experiments(connection)} == {"done"}
        carried = connection.execute("SELECT DISTINCT source, target FROM runs WHERE source <> target").fetchall()
    assert len(carried) == 2


def _decoders(of: psutil.Process) -> list[psutil.Process]:
    """The processes that a fork server has forked."""
    return [child for server in of.children() for child in server.children()]


def _be_a_worker(identity: str, location: str) -> None:
    feed = open_feed(location, replace(CROPPED, dataset=identity), CPU, 2)
    list(feed.epoch(0, 0, 0, 8))
    next(feed.epoch(0, 1, 0, 8))
    print(len(feed.train), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    _be_a_worker(*sys.argv[1:])


@pytest.mark.parametrize("images", [3, 7, 14])
def test_the_test_images_left_are_those_that_are_left_in_memory(root: Path, images: int) -> None:
    limited = replace(CROPPED, test_images=images)
    in_memory = specs.resolve(f"folder:{root}@32")
    kept = open_feed(in_memory.location, replace(limited, dataset=in_memory.identity), CPU, 1)
    every = open_feed(in_memory.location, replace(CROPPED, dataset=in_memory.identity), CPU, 1)
    whole, feed = opened(root), opened(root, limited)

    def tested(feed: Feed) -> list[tuple[bytes, int]]:
        return [
            (image.numpy().tobytes(), int(label))
            for pixels, labels in feed.test.batches(4)
            for image, label in zip(pixels, labels, strict=True)
        ]

    places = [tested(whole).index(image) for image in tested(feed)]
    assert len(places) == len(feed.test) == len(kept.test) == images
    assert [tested(every).index(image) for image in tested(kept)] == places


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "count", "raised"),
    [
        (1024, 1_048_576, 31, 31, None),
        (1024, 1_048_576, 255, 255, 3062),
        (1024, resource.RLIM_INFINITY, 255, 255, 3062),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 255, 255, None),
        (256, 1024, 255, 51, 1024),
        (256, 256, 31, 1, 256),
    ],
)
def test_decoders_are_no_more_than_files_may_be_open_for(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, count: int, raised: int | None
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append(limit))
    assert streaming.room_for(wanted) == count
    assert limits == ([] if raised is None else [(raised, hard)])


def test_each_process_of_a_team_has_its_share_of_the_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    monkeypatch.setattr(run, "open_feed", lambda location, training, device, decoders: opened.append(decoders))
    for decoders, split in ((15, 1), (255, 8), (3, 4)):
        run.Bench(Job("", "", "", {}, "", False), CPU, decoders).data(replace(TRAINING, split=split))
    assert opened == [15, 31, 1]
