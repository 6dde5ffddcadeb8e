"""Streamed photographs: the speed of decoding, and the growth of memory over epochs."""

import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import torch
from PIL import Image

from engine.datasets import decoding
from engine.datasets.streaming import Decoders, Part, Piece, Source, decoded

HEIGHT, WIDTH, QUALITY = 375, 500, 92  # ImageNet's most frequent size; about 100 KB an image, near its mean
SIDE, BATCH = 224, 64
PHOTOGRAPHS = 256
EPOCHS = 8
WARM_UP = 3  # epochs, after which what is kept once has been allocated
MIB = 2**20


def measure(quick: bool) -> dict[str, float]:
    """Images per second of one core, then of one and two decoders with a worker; memory over some epochs."""
    count = PHOTOGRAPHS // 5 if quick else PHOTOGRAPHS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = sum(_photograph(root / f"{number}.jpg", number) for number in range(count)) / count
        found = {"photographs": count, "KB a photograph": size / 1000}
        for what, key in (("training", 1), ("testing", None)):
            pieces = list(_part(root, count, 1).pieces(torch.split(torch.arange(count), BATCH), key))
            ours, pillow = [], []
            decoded(pieces[0])
            for piece in pieces:  # in turns, as the machine's pace changes
                ours.append(_seconds(piece))
                with patch.object(decoding, "_photograph", return_value=None):
                    pillow.append(_seconds(piece))
            found[f"{what}, images a second and core"] = count / sum(ours)
            found[f"{what}, times the pace with Pillow alone"] = sum(pillow) / sum(ours)
        for decoders in (1, 2):
            found |= _through(_part(root, count, decoders), decoders)
        return found


def _seconds(piece: Piece) -> float:
    """Processor time to decode a piece with one thread, as a decoder does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.process_time()
    decoded(piece)
    took = time.process_time() - began
    torch.set_num_threads(threads)
    return took


def _through(part: Part, decoders: int) -> dict[str, float]:
    """Images per second at a worker that does nothing else, and the growth of memory."""
    for number in range(WARM_UP):
        _epoch(part, number)
    before, mine, began = _resident(), time.process_time(), time.perf_counter()
    for number in range(EPOCHS):
        _epoch(part, number)
    seconds, images = time.perf_counter() - began, EPOCHS * len(part)
    of = f"of {decoders} decoder{'s' if decoders > 1 else ''}"
    return {
        f"images a second {of}": images / seconds,
        f"worker's own microseconds an image, {of}": (time.process_time() - mine) / images * 1e6,
        f"resident memory {of} and the worker after {EPOCHS} epochs, MiB more": (_resident() - before) / MIB,
    }


def _epoch(part: Part, number: int) -> None:
    for _ in part.served(torch.split(torch.randperm(len(part)), BATCH), number):
        pass


def _resident() -> int:
    me = psutil.Process()
    return sum(process.memory_info().rss for process in (me, *me.children(recursive=True)))


def _part(root: Path, count: int, decoders: int) -> Part:
    source = Source(root, SIDE, True, torch.device("cpu"), Decoders(decoders))
    return Part(source, np.array([f"{number}.jpg".encode() for number in range(count)]), np.zeros(count, np.int64))


def _photograph(file: Path, seed: int) -> int:
    """Write images of smooth colours with grain, which compress like photographs; returns their number of bytes."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    grain = draw.normal(0, 14, (HEIGHT, WIDTH, 1)).astype(np.float32)
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, quality=QUALITY)
    return file.stat().st_size
