"""Comparison with OpenLTH (https://github.com/facebookresearch/open_lth): speed, a chain of three levels, one prune.

OpenLTH runs from a folder that the user gives, in separate processes; none of its code is copied. Both sides train the
same images in the same batches, with the same augmentation, optimizer and number of threads, alternating. Seconds are
processor time, which other programs affect little.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import OurLoop, alternating, as_npz, pictures, ratios, spread
from engine.datasets import load
from engine.datasets.load import Arrays
from engine.datasets.npz import file_digest
from engine.errors import InputError
from engine.machine import processes
from engine.plan import defining
from engine.pruning import pruner
from engine.recipes import Profile, Rule
from engine.store import adding, database

BATCH = 128
MODELS = {"resnet20": "cifar_resnet_20", "vgg19": "cifar_vgg_19"}
STEPS = {"resnet20": 12, "vgg19": 3}  # in an epoch, so that one takes some seconds
CHAIN = "resnet20"
LEVELS, EPOCHS, RATE = 3, 2, 0.2
ROUNDS = 5


def measure(
    quick: bool, open_lth: Path | None = None, images: Path | None = None, threads: int = 1
) -> dict[str, float]:
    """Ratios of speed and of the time of a chain, and the masks of one prune of VGG19; empty without `open_lth`.

    `images` is CIFAR-10 as an npz file (None: noise); `threads` is the number of threads of each side.
    """
    if open_lth is None:
        print("peers: give --open-lth PATH, a clone of https://github.com/facebookresearch/open_lth", file=sys.stderr)
        return {}
    if not (open_lth / "open_lth.py").is_file():
        raise InputError(f"--open-lth {open_lth} is no clone of open_lth: open_lth.py is not in it")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that train
    rounds, parts = (1, 4) if quick else (ROUNDS, 1)
    found: dict[str, float] = {"threads": threads}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, steps in STEPS.items():
            arrays = _arrays(images, BATCH * max(1, steps // parts), 8)  # which are tested on, within the time
            timed = alternating(
                rounds,
                exact=partial(_apart, our_pace, model, arrays, "exact"),
                fast=partial(_apart, our_pace, model, arrays, "fast"),
                theirs=partial(_apart, their_pace, open_lth, folder, model, arrays),
            )
            found |= spread(f"{model}, images/s of open_lth", timed["theirs"])
            for profile in ("exact", "fast"):
                found |= spread(f"{model}, images/s in {profile}", timed[profile])
                found |= spread(f"{model}, {profile} over open_lth", ratios(timed[profile], timed["theirs"]))
        arrays = _arrays(images, BATCH * (2 if quick else 20), 128 if quick else 1000)
        number = iter(range(rounds))
        timed = alternating(
            rounds,
            ours=lambda: _seconds(our_chain, folder / f"ours{next(number)}", arrays),
            theirs=lambda: _seconds(_apart, their_chain, open_lth, Path(tempfile.mkdtemp(dir=folder)), arrays),
        )
    for side, seconds in timed.items():
        found |= spread(f"{CHAIN}, chain of {LEVELS} levels, seconds of {side}", seconds)
    found |= spread(f"{CHAIN}, chain, time of open_lth over ours", ratios(timed["theirs"], timed["ours"]))
    pruned: dict[str, float] = _apart(one_prune, open_lth)
    return found | pruned


def _arrays(images: Path | None, train: int, test: int) -> Arrays:
    """The first images of a file, or noise of their shape."""
    if images is None:
        return pictures(train, test)
    found = load.load(f"npz:{file_digest(images)}", str(images))
    return Arrays(
        found.train_images[:train],
        found.train_labels[:train],
        found.test_images[:test],
        found.test_labels[:test],
        found.classes,
    )


def _apart(task: Callable[..., Any], *arguments: object) -> Any:
    """The result of a task in a separate process, unaffected by other tasks' threads, kernels and modules."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(task, arguments)


def _seconds(task: Callable[..., Any], *arguments: object) -> float:
    """Processor time of the processes that a task starts and waits for."""
    began = _of_children()
    task(*arguments)
    return _of_children() - began


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def our_pace(model: str, arrays: Arrays, profile: Profile) -> float:
    """Images per second of an epoch of training, after one that chooses kernels."""
    loop = OurLoop(model, arrays, BATCH, profile=profile)
    loop.pace()
    began = time.process_time()
    loop.pace()
    return len(arrays.train_images) / (time.process_time() - began)


def our_chain(path: Path, arrays: Arrays) -> None:
    """Queue a chain in a new database, and let a worker train it."""
    path.mkdir()
    definition = defining.define(
        source=[as_npz(path / "images.npz", arrays)],
        model=CHAIN,
        levels=LEVELS,
        prune_rate=RATE,
        epochs=EPOCHS,
        rewind=0,
        batch_size=BATCH,
        replicates=1,
        random=["none"],
        profile="exact",
    )
    with closing(database.writer(path / "chain.db")) as connection:
        adding.add(connection, "chain", definition, "benchmark")
    command = [*processes.python("engine.workers.worker"), "--db", str(path / "chain.db"), "--device", "cpu", "--drain"]
    subprocess.run(command, env=processes.environment(), check=True, stdout=subprocess.DEVNULL)


def their_pace(open_lth: Path, folder: Path, model: str, arrays: Arrays) -> float:
    """Images per second of the second epoch of its training loop."""
    with Peer(open_lth, folder, arrays) as peer:
        wanted = peer.wanted(model, epochs=1)
        net = peer("models.registry").get(wanted.model_hparams, outputs=arrays.classes)
        loader = peer("datasets.registry").get(wanted.dataset_hparams, train=True)
        for _ in range(2):
            began = time.process_time()
            peer("training.train").train(wanted.training_hparams, net, loader, tempfile.mkdtemp(dir=folder))
            seconds = time.process_time() - began
    return len(arrays.train_images) / seconds


def their_chain(open_lth: Path, folder: Path, arrays: Arrays) -> None:
    """Its `lottery` command: train, prune, rewind to the initialisation, repeat."""
    with Peer(open_lth, folder, arrays) as peer:
        desc = peer.wanted(CHAIN, EPOCHS)
        peer("lottery.runner").LotteryRunner(replicate=1, levels=LEVELS, desc=desc, verbose=False).run()


def one_prune(open_lth: Path) -> dict[str, float]:
    """The weights that each side keeps of the convolutions of one VGG19, and the overlap of the masks."""
    torch.manual_seed(0)
    with Peer(open_lth, Path(), pictures(1, 1)) as peer:
        wanted = peer.wanted("vgg19", epochs=1)
        net = peer("models.registry").get(wanted.model_hparams, outputs=10)
        left = peer("pruning.registry").get(wanted.pruning_hparams)(net, None)
    weights = {name: value for name, value in net.state_dict().items() if value.dim() == 4}
    ours = pruner.prune(weights, None, Rule(rate=RATE), 1)
    kept = {name: left[name].bool() for name in weights}
    both, either = (
        sum(int(combine(ours[name], kept[name]).sum()) for name in weights)
        for combine in (torch.logical_and, torch.logical_or)
    )
    return {
        "vgg19, prunable weights": sum(value.numel() for value in weights.values()),
        "vgg19, left by one prune": sum(int(mask.sum()) for mask in ours.values()),
        "vgg19, left by one prune of open_lth": sum(int(mask.sum()) for mask in kept.values()),
        "vgg19, overlap of the masks": both / either,
    }


class Peer:
    """open_lth in this process: its modules by name, its results in `folder`, its CIFAR-10 the images given."""

    def __init__(self, path: Path, folder: Path, arrays: Arrays) -> None:
        sys.path.insert(0, str(path))
        # It was written for torch 1.4 and numpy 1: what it names and one process on a CPU does not need is put there.
        np.product = np.prod  # type: ignore[attr-defined]
        torch.nn.parallel.DistributedDataParallel = type("Unused", (torch.nn.Module,), {})  # type: ignore[assignment,misc]
        self.folder, self.arrays = folder, arrays

    def __call__(self, module: str) -> Any:
        return import_module(module)

    def __enter__(self) -> "Peer":
        local, cifar10 = self("platforms.local"), self("datasets.cifar10")
        folder, arrays = str(self.folder), self.arrays
        local.Platform.root = local.Platform.dataset_root = folder
        transforms = self("torchvision.transforms")
        augment = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, 4)]
        train = arrays.train_images, np.asarray(arrays.train_labels)
        test = arrays.test_images, np.asarray(arrays.test_labels)
        cifar10.Dataset.num_train_examples = staticmethod(lambda: len(train[1]))
        cifar10.Dataset.num_test_examples = staticmethod(lambda: len(test[1]))
        cifar10.Dataset.get_train_set = staticmethod(
            lambda use_augmentation: cifar10.Dataset(*train, augment if use_augmentation else [])
        )
        cifar10.Dataset.get_test_set = staticmethod(lambda: cifar10.Dataset(*test))
        self("platforms.platform")._PLATFORM = local.Platform()
        return self

    def __exit__(self, *_: object) -> None:
        self("platforms.platform")._PLATFORM = None

    def wanted(self, model: str, epochs: int) -> Any:
        """Its defaults for a model, on the CPU for this number of epochs at a constant learning rate."""
        found = self("models.registry").get_default_hparams(MODELS[model])
        found.dataset_hparams.batch_size = BATCH
        found.training_hparams.training_steps = f"{epochs}ep"
        found.training_hparams.milestone_steps = found.training_hparams.gamma = None
        found.pruning_hparams.pruning_fraction = RATE
        return found
