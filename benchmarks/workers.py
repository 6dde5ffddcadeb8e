"""A worker: the fractions of its time inside training steps and runs, and its memory."""

import os
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measuring import as_npz, pictures, spread
from engine.machine import processes
from engine.plan.defining import define
from engine.store import adding, database

BATCH = 128
ROUNDS = 3  # of the demonstration
RESNET_EPOCHS = 12  # some minutes, so that starting counts little, as in a training to the end
MEMORY_SECONDS = 60.0  # of a training of VGG19: its memory is at its full height after a few batches
ALONE = {"levels": 0, "random": ["none"], "replicates": 1, "profile": "fast", "batch_size": BATCH}


def measure(quick: bool) -> dict[str, float]:
    """Fractions for the demonstration and a ResNet-20 run, and the memory of VGG19 on CIFAR-10's sizes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = _noise(folder / "few.npz", 2_500 if quick else 12_500)
        all_ = _noise(folder / "all.npz", 50_000)
        digits = {
            "source": ["digits-a"],
            "target": ["digits-b"],
            "levels": 3 if quick else 30,
            "replicates": 1,
            "profile": "exact",
        }
        resnet = {"source": [few], "model": "resnet20", "epochs": 1 if quick else RESNET_EPOCHS, **ALONE}
        vgg = {"source": [all_], "model": "vgg19", "epochs": 1, **ALONE}
        found: dict[str, float] = {}
        wanted: dict[str, tuple[dict[str, Any], int]] = {"digits": (digits, ROUNDS), "resnet20": (resnet, 1)}
        for what, (options, rounds) in wanted.items():
            shares = [_shares(folder / f"{what}-{number}.db", options) for number in range(1 if quick else rounds)]
            in_steps, in_runs = zip(*shares, strict=True)
            found |= spread(f"{what}, share of a worker's life in training steps", in_steps)
            found |= spread(f"{what}, share of it in runs, evaluation included", in_runs)
        seconds = MEMORY_SECONDS / 4 if quick else MEMORY_SECONDS
        memory = _life(folder / "vgg.db", vgg, seconds)[1] / 2**20
        return {**found, "vgg19 on 60,000 images, peak MiB": memory}


def _noise(path: Path, train: int) -> str:
    """A data set file of noise in CIFAR-10's shape, with a fifth as many test images as training images."""
    return as_npz(path, pictures(train, train // 5))


def _shares(path: Path, options: dict[str, Any]) -> tuple[float, float]:
    """The fractions of a worker's time inside steps and inside runs, while it trains all of an experiment."""
    life, _ = _life(path, options)
    with closing(database.reader(path)) as connection:
        steps, runs = connection.execute(
            """
            SELECT sum(d.train_images / x.images_per_second), (SELECT sum(seconds) FROM runs)
            FROM epochs x JOIN runs r ON r.id = x.run_id JOIN datasets d ON d.identity = r.target_dataset
            """
        ).fetchone()
    return steps / life, runs / life


def _life(path: Path, options: dict[str, Any], most: float | None = None) -> tuple[float, int]:
    """The seconds from the start to the end of a worker that trains all of an experiment, and its peak bytes.

    After `most` seconds it is asked to stop.
    """
    with closing(database.writer(path)) as connection:
        adding.add(connection, "all", define(**options), "benchmark")
    began = time.perf_counter()
    command = [*processes.python("engine.workers.worker"), "--db", str(path), "--device", "cpu", "--drain"]
    worker = subprocess.Popen(command, env=processes.environment())
    if most is not None:
        threading.Timer(most, worker.terminate).start()
    _, status, usage = os.wait4(worker.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the worker failed"
    return time.perf_counter() - began, usage.ru_maxrss * 1024
