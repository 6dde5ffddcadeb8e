"""Batches: order, crops, flips and normalisation, against a plain version image by image."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from engine import streams
from engine.datasets import load
from engine.datasets.pipeline import PADDING, Data, EpochPlan, channel_statistics
from tests.images import arrays, scalar_hash
from tests.trainings import TRAINING

CPU = torch.device("cpu")


def test_the_hash_is_plain_32_bit_arithmetic() -> None:
    values = torch.tensor([0, 1, 2, 12345, 2**31, 2**32 - 1])
    key = streams.key("augment", 0, 3)
    assert streams.hash32(values, key).tolist() == [scalar_hash(v, key) for v in values.tolist()]


def test_streams_never_meet() -> None:
    keys = {streams.key(s, seed, epoch) for s in ("order", "augment") for seed in range(9) for epoch in range(9)}
    assert len(keys) == 2 * 81
    assert streams.key("order", 1, 11) != streams.key("order", 11, 1)


def test_each_epoch_has_its_own_order_of_all_images() -> None:
    data = Data(arrays(), TRAINING, CPU)
    orders = [EpochPlan(data, seed, epoch).order.tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_a_permutation_is_uniform_enough() -> None:
    places = torch.stack([streams.permutation(6, streams.key("order", seed)) for seed in range(3000)])
    counts = torch.stack([(places == value).sum(0) for value in range(6)]).double()
    chi_square = ((counts - 500) ** 2 / 500).sum()
    assert chi_square < 60  # 25 degrees of freedom; the chance of more is below 1e-4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ["none", "crop", "crop-flip"])
def test_batches_are_the_crops_and_flips_written_out(channels: int, augmentation: str) -> None:
    source = arrays(channels)
    training = replace(TRAINING, augmentation=augmentation, seed=3)
    data = Data(source, training, CPU)
    plan = EpochPlan(data, training.seed, 2)
    pixels, labels = data.batch(plan, plan.order[8:24])
    images = np.repeat(source.train_images, 3 // channels, axis=3)
    for place, index in enumerate(plan.order[8:24].tolist()):
        expected = images[index]
        if augmentation != "none":
            noise = scalar_hash(index, streams.key("augment", 3, 2))
            top, left = noise % 9, noise // 9 % 9
            padded = np.pad(expected, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
            expected = padded[top : top + 32, left : left + 32]
            if augmentation == "crop-flip" and noise >> 31:
                expected = expected[:, ::-1]
        assert np.array_equal(pixels[place].permute(1, 2, 0).numpy(), expected)
        assert labels[place] == source.train_labels[index]


def test_crops_and_flips_take_all_their_values() -> None:
    data = Data(arrays(count=2000), replace(TRAINING, augmentation="crop-flip"), CPU)
    plan = EpochPlan(data, 0, 0)
    assert plan.top is not None
    assert plan.left is not None
    assert plan.flip is not None
    assert sorted(set(plan.top.tolist())) == sorted(set(plan.left.tolist())) == list(range(9))
    assert 0.4 < plan.flip.double().mean() < 0.6


def test_the_last_batch_is_shorter_and_nothing_is_dropped() -> None:
    data = Data(arrays(), TRAINING, CPU)
    plan = EpochPlan(data, 0, 0)
    sizes = [len(data.batch(plan, plan.order[start : start + 16])[1]) for start in range(0, 50, 16)]
    assert sizes == [16, 16, 16, 2]


def test_normalisation_is_by_the_training_sets_mean_and_deviation() -> None:
    source = arrays(3)
    data = Data(source, TRAINING, CPU)
    flat = source.train_images.reshape(-1, 3).astype(np.float64)
    mean, std = channel_statistics(torch.from_numpy(source.train_images))
    assert mean.numpy() == pytest.approx(flat.mean(0), rel=1e-6)
    assert std.numpy() == pytest.approx(flat.std(0), rel=1e-6)
    normal = data.normalised(data.train.gather(torch.arange(50)), torch.contiguous_format)
    assert normal.double().mean((0, 2, 3)).abs().max() < 1e-4
    assert (normal.double().std((0, 2, 3)) - 1).abs().max() < 1e-4


def test_padding_to_32_does_not_enter_the_statistics() -> None:
    source = arrays(1, side=28)
    data = Data(source, TRAINING, CPU)
    assert data.shape == (3, 32, 32)
    assert data.mean.flatten().tolist() == pytest.approx([source.train_images.mean()] * 3, rel=1e-6)


def test_a_black_channel_stays_finite() -> None:
    mean, std = channel_statistics(torch.zeros(4, 8, 8, 1, dtype=torch.uint8))
    assert (float(mean), float(std)) == (0.0, 1.0)


def test_validation_images_are_not_trained_on() -> None:
    data = Data(arrays(), replace(TRAINING, validation=0.2), CPU)
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (40, 10)
    seen = {image.numpy().tobytes() for image in data.train.gather(torch.arange(40))}
    held = {image.numpy().tobytes() for image in data.validation.gather(torch.arange(10))}
    assert not seen & held


@pytest.mark.parametrize("images", [5, 7, 9])
def test_only_the_first_test_images_are_tested_on_and_training_is_the_same(images: int) -> None:
    source, limited = arrays(), replace(TRAINING, test_images=images)
    whole, data = Data(source, TRAINING, CPU), Data(source, limited, CPU)
    chosen = torch.from_numpy(load.first(source.test_labels, images))
    assert torch.equal(data.test.labels, whole.test.labels[chosen])
    assert torch.equal(data.test.gather(torch.arange(images)), whole.test.gather(chosen))
    assert set(data.test.labels.tolist()) == set(range(5))
    assert torch.equal(data.train.pixels, whole.train.pixels)
    assert torch.equal(data.mean, whole.mean)
