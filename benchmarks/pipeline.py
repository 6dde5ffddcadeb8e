"""Batches for training on one CPU core: cockpit's against torchvision's transforms in a DataLoader."""

import time
from functools import partial

import torch
from torch.utils.data import DataLoader

from benchmarks.measuring import CPU, alternating, configuration, pictures, ratios, spread
from benchmarks.training import BATCH, Transformed
from engine.datasets.pipeline import Data, EpochPlan

IMAGES = 20_000
ROUNDS = 5


def measure(quick: bool) -> dict[str, float]:
    """Images per second, cropped, flipped and normalised, of both, and their ratio."""
    torch.set_num_threads(1)
    arrays = pictures(IMAGES // 5 if quick else IMAGES, 8)
    data = Data(arrays, configuration("resnet20", BATCH), CPU)
    loader = DataLoader(
        Transformed(torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels)), BATCH, shuffle=True
    )
    timed = alternating(
        2 if quick else ROUNDS,
        gathered=partial(_pace, lambda: _gather(data, uint8=True), len(data.train)),
        ours=partial(_pace, lambda: _gather(data, uint8=False), len(data.train)),
        loader=partial(_pace, lambda: all(True for _ in loader), len(data.train)),
    )
    return {
        **spread("cropped and flipped as uint8, images/s", timed["gathered"]),
        **spread("and normalised, images/s", timed["ours"]),
        **spread("DataLoader with torchvision's transforms, images/s", timed["loader"]),
        **spread("ours against the DataLoader", ratios(timed["ours"], timed["loader"])),
    }


def _pace(feed: object, images: int) -> float:
    assert callable(feed)
    began = time.perf_counter()
    feed()
    return images / (time.perf_counter() - began)


def _gather(data: Data, uint8: bool) -> None:
    plan = EpochPlan(data, 0, 0)
    for start in range(0, len(data.train), BATCH):
        pixels, _ = data.batch(plan, plan.order[start : start + BATCH])
        if not uint8:
            data.normalised(pixels, torch.channels_last)
