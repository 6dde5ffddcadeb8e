"""Training on a CUDA device: against its matrix rate, replicates in parallel, a plain PyTorch loop, and waits."""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import profiler

from benchmarks.measuring import (
    OurLoop,
    alternating,
    flop,
    matrix_rate,
    pictures,
    ratios,
    side_by_side,
    spread,
)
from benchmarks.training import PlainLoop
from engine.training import graphs, loop

REPLICATES = 6
STEPS = 100  # of an epoch
ROUNDS = 3
PEAK_SIZE = 8192  # of the matrices
BATCHES = (512, 128)  # of VGG19
RESNET_BATCH = 512
PLAIN_BATCH = 128
PLAIN_WORKERS = (0, 4, 8, 16)  # of the plain loop's DataLoader, of which the best counts
WAITS = ("Synchronize", "Memcpy DtoH")  # in the names of the profiler's events


def measure(quick: bool) -> dict[str, float]:
    """All measurements on the first CUDA device; without one, a notice."""
    if not torch.cuda.is_available():
        print("this machine has no CUDA device: nothing was measured", file=sys.stderr)
        return {}
    return measure_on(torch.device("cuda:0"), STEPS // 5 if quick else STEPS, 1 if quick else ROUNDS)


def measure_on(device: torch.device, steps: int, rounds: int, peak_size: int = PEAK_SIZE) -> dict[str, float]:
    """All measurements on a device, with epochs of this number of steps."""
    found: dict[str, float] = {}
    for batch in BATCHES:
        found |= _shares_of_the_peak(device, batch, steps, rounds, peak_size)
    found |= _replicates(device, steps, rounds)
    found |= _against_a_plain_loop(device, steps, rounds)
    return found | {"times that the host waits inside an epoch": float(waits(device, steps))}


def _shares_of_the_peak(device: torch.device, batch: int, steps: int, rounds: int, size: int) -> dict[str, float]:
    """VGG19 alone, and replicates of it in parallel processes, as fractions of the bf16 matrix rate."""
    what, work = f"vgg19, batches of {batch}", flop("vgg19")
    loop = _loop("vgg19", batch, steps, device)
    timed = alternating(
        rounds,
        alone=loop.pace,
        peak=partial(matrix_rate, device, (size,)),
        together=partial(side_by_side, REPLICATES, "vgg19", batch, steps, device),
    )
    flops = {name: [pace * work for pace in timed[name]] for name in ("alone", "together")}
    return {
        **spread(f"{what}, images/s", timed["alone"]),
        **spread(f"{what}, share of the matrix rate", ratios(flops["alone"], timed["peak"])),
        **spread(
            f"{what}, {REPLICATES} side by side, share of the matrix rate", ratios(flops["together"], timed["peak"])
        ),
        **spread("bf16 matrix rate, TFLOP/s", [rate / 1e12 for rate in timed["peak"]]),
    }


def _replicates(device: torch.device, steps: int, rounds: int) -> dict[str, float]:
    """Replicates of ResNet50 in parallel processes, against one after the other without recorded steps."""
    what = "resnet50, against steps taken as they are"
    eager = _loop("resnet50", RESNET_BATCH, steps, device, graphs.as_it_is)
    recorded = _loop("resnet50", RESNET_BATCH, steps, device)
    timed = alternating(
        rounds,
        eager=eager.pace,
        recorded=recorded.pace,
        together=partial(side_by_side, REPLICATES, "resnet50", RESNET_BATCH, steps, device),
    )
    return {
        **spread("resnet50, steps taken as they are, images/s", timed["eager"]),
        **spread(f"{what}: recorded", ratios(timed["recorded"], timed["eager"])),
        **spread(f"{what}: recorded, {REPLICATES} side by side", ratios(timed["together"], timed["eager"])),
    }


def _against_a_plain_loop(device: torch.device, steps: int, rounds: int) -> dict[str, float]:
    arrays = pictures(PLAIN_BATCH * steps, 8)
    images, labels = torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels)
    plain = {str(workers): PlainLoop("vgg19", images, labels, device, workers).pace for workers in PLAIN_WORKERS}
    ours = _loop("vgg19", PLAIN_BATCH, steps, device)
    timed = alternating(rounds, ours=ours.pace, **plain)
    best = [max(timed[workers][place] for workers in plain) for place in range(rounds)]
    return spread("vgg19, against a plain loop", ratios(timed["ours"], best))


def waits(device: torch.device, steps: int) -> int:
    """The number of times that the host waits for the device between the first and last steps of an epoch."""
    watching, end = profiler.profile(), "the end"

    def watch(state: loop.State) -> None:
        if (state.epoch, state.step) == (1, 1):
            watching.start()
        elif (state.epoch, state.step) == (1, steps - 1):
            with profiler.record_function(end):  # to stop watching is to wait
                pass
            watching.stop()

    loop = OurLoop("resnet20", pictures(PLAIN_BATCH * steps, 8), PLAIN_BATCH, device, after_batch=watch)
    loop.pace()
    loop.pace()
    events = watching.events()  # type: ignore[no-untyped-call]
    last = next(event.time_range.start for event in events if event.name == end)
    return sum(any(wait in event.name for wait in WAITS) for event in events if event.time_range.start < last)


def _loop(
    model: str,
    batch: int,
    steps: int,
    device: torch.device,
    taking: Callable[[graphs.Step], graphs.Step] | None = None,
) -> OurLoop:
    """A training with epochs of this number of steps, after a first one that chooses kernels and records steps."""
    loop = OurLoop(model, pictures(batch * steps, 8), batch, device, taking)
    loop.pace()
    return loop
