"""Shared code of the engine's benchmarks: images, the speed of a training, and ratios with their spread."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.datasets.load import Arrays
from engine.datasets.pipeline import Data
from engine.models import nets
from engine.pruning import pruner
from engine.recipes import Profile, Rule, Training
from engine.training import graphs, loop, profiles

CPU = torch.device("cpu")
CLASSES = 10
SIDE = 32
TOGETHER_SECONDS = 8.0

Rows = list[dict[str, float]]  # a table: the same columns in each row


def pictures(train: int, test: int) -> Arrays:
    """A number of CIFAR-like images of noise; their content does not affect speed."""
    draw = np.random.default_rng(0)
    return Arrays(
        draw.integers(0, 256, (train, SIDE, SIDE, 3), np.uint8),
        np.arange(train) % CLASSES,
        draw.integers(0, 256, (test, SIDE, SIDE, 3), np.uint8),
        np.arange(test) % CLASSES,
        CLASSES,
    )


def as_npz(path: Path, arrays: Arrays) -> str:
    """The spec of a data set file with these images."""
    parts = {key: getattr(arrays, key) for key in ("train_images", "train_labels", "test_images", "test_labels")}
    np.savez(path, **parts)
    return f"npz:{path}"


def configuration(model: str, batch_size: int, epochs: int = 1, profile: Profile = "fast") -> Training:
    """The paper's training of a model, over this number of epochs."""
    return Training(
        dataset="noise",
        model=model,
        learning_rate=0.1,
        epochs=epochs,
        milestones=(),
        batch_size=batch_size,
        augmentation="crop-flip",
        profile=profile,
        seed=0,
    )


class OurLoop:
    """The engine's training of one model with half of its weights masked, an epoch at a time."""

    def __init__(
        self,
        model: str,
        arrays: Arrays,
        batch_size: int,
        device: torch.device = CPU,
        taking: Callable[[graphs.Step], graphs.Step] | None = None,
        after_batch: Callable[[loop.State], None] = lambda _: None,
        profile: Profile = "fast",
    ) -> None:
        self.wanted = configuration(model, batch_size, epochs=10_000, profile=profile)
        profiles.configure(self.wanted.profile, device)
        self.data = Data(arrays, self.wanted, device)
        self.state = loop.begin(*masked(model), self.wanted, device)
        self.epochs = loop.train(self.state, self.data, self.wanted, after_batch, taking=taking)

    def pace(self) -> float:
        """Images per second of one epoch's training steps."""
        found = next(self.epochs).images_per_second
        assert found is not None
        return found


def side_by_side(
    processes: int, model: str, batch_size: int, steps: int, device: torch.device = CPU, threads: int = 1
) -> float:
    """The total images per second of processes that train at the same time, each a few epochs of `steps`."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    with context.Pool(processes, _remember, (start,)) as pool:
        return sum(pool.starmap(_train_beside, [(model, batch_size, steps, device, threads)] * processes, chunksize=1))


def _remember(start: object) -> None:
    globals()["_start"] = start


def _train_beside(model: str, batch_size: int, steps: int, device: torch.device, threads: int) -> float:
    loop = OurLoop(model, pictures(batch_size * steps, 8), batch_size, device)
    torch.set_num_threads(threads)
    loop.pace()
    globals()["_start"].wait()
    paces, began = [], time.perf_counter()
    while time.perf_counter() - began < TOGETHER_SECONDS:
        paces.append(loop.pace())
    return sum(paces) / len(paces)


def masked(model: str) -> tuple[torch.nn.Module, pruner.Masks]:
    """A fresh network and the mask of half of its prunable weights."""
    net = nets.initialise(network(model), "init", 0)
    return net, pruner.prune(nets.prunable(net), None, Rule(rate=0.5), 1)


def network(model: str) -> torch.nn.Module:
    """A network for these images."""
    return nets.build(model, 1.0, (3, SIDE, SIDE), CLASSES)


def flop(model: str) -> float:
    """Floating-point operations of a forward and a backward pass for one image, as PyTorch counts them."""
    net = network(model)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, 3, SIDE, SIDE)).sum().backward()
    return float(counter.get_total_flops()) / 2


def matrix_rate(device: torch.device, sizes: Sequence[int], seconds: float = 0.3) -> float:
    """The highest rate of bf16 operations per second of a product of square matrices, over some sizes."""
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
        a @ b
        count, began = 0, clock(device)
        while clock(device) - began < seconds:
            a @ b
            count += 1
        best = max(best, count * 2 * size**3 / (clock(device) - began))
    return best


def clock(device: torch.device) -> float:
    """The time in seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def alternating(rounds: int, **timed: Callable[[], float]) -> dict[str, list[float]]:
    """The results of each function in each round, alternating, so that noise affects all of them equally."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, measured in timed.items():
            found[name].append(measured())
    return found


def spread(what: str, values: Sequence[float]) -> dict[str, float]:
    """The median, minimum and maximum of some values."""
    return {what: statistics.median(values), f"{what}, least": min(values), f"{what}, most": max(values)}


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [a / b for a, b in zip(over, under, strict=True)]
