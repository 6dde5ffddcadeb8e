"""CUDA graphs of training steps: one launch runs forward, backward, optimizer and mask.

A small network finishes each kernel before the host has launched the next; a graph needs one launch a step. Shapes
change only at the last, shorter batch of an epoch, which has a graph of its own.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from engine.machine import memory, processes
from engine.machine.plugins import is_plugin
from engine.models import user_model
from engine.recipes import Training
from engine.training.team import Team

Step = Callable[[Tensor, Tensor, int], None]  # images (B, C, H, W) uint8, labels (B,), and of how many that is a part
Work = Callable[[], None]

WARM_UP = 3  # steps of a shape taken as they are: they choose kernels, and leave the optimizer its state


def chosen(training: Training, device: torch.device, team: Team) -> Callable[[Step], Step]:
    """How a training takes its steps: as CUDA graphs on a CUDA device in the profile `fast`, else directly.

    `exact` uses no graphs. Nor do user models and optimizers of plug-ins: their Python code may decide something at
    each step, which a graph would fix at its recording. Split batches use none, because torch overlaps sending
    gradients with the backward pass.
    """
    if (
        device.type == "cuda"
        and training.profile == "fast"
        and team.size == 1
        and not user_model.is_own(training.model)
        and not is_plugin(training.model)
        and not is_plugin(training.optimizer)
    ):
        return lambda step: Recorded(step, Cuda(device))
    return as_it_is


def as_it_is(step: Step) -> Step:
    """Take each step directly."""
    return step


class Recorder(Protocol):
    """Records work that can be repeated; implemented by `Cuda`."""

    possible: bool

    def warm(self, work: Work) -> None: ...
    def record(self, work: Work) -> Work: ...
    def refuse(self, error: Exception) -> None: ...


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The recording stream of this process. All runs share it: torch keeps a cuBLAS workspace for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Cuda:
    """Records work on a CUDA device, on a stream of its own. Recordings share memory, so only one runs at a time."""

    possible = True  # in this process, until a recording has failed

    def __init__(self, device: torch.device) -> None:
        self.stream, self.pool = _stream(device), torch.cuda.graph_pool_handle()

    def warm(self, work: Work) -> None:
        """Do the work now on the recording stream, so that libraries allocate what they keep for that stream."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Work) -> Work:
        """A function that repeats the work on the tensors that it uses now. Raises RuntimeError if recording fails."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.stream.device)
        try:
            # Thread-local: the heartbeat's thread may use the device meanwhile.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                work()
        finally:
            torch.cuda.set_stream(current)  # which torch does only where the recording succeeds
        return graph.replay

    def refuse(self, error: Exception) -> None:
        """Record no more in this process and train no other run in it: the allocator may still be recording."""
        Cuda.possible = False
        transient = memory.ran_out(error)
        processes.spend(
            "recording a step may have left the device's memory in disorder",
            processes.RENEWED if transient else processes.UNRECORDED,
        )


class Recorded:
    """Takes the first steps of each shape directly and later ones by replaying a graph with the same arithmetic.

    A step may keep state between calls only in tensors whose addresses do not change. If a step cannot be recorded,
    all steps are taken directly and the log gives the reason. Raises the error if memory ran out.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step, self.recorder = step, recorder
        self.taken: Counter[torch.Size] = Counter()
        self.recordings: dict[torch.Size, tuple[Tensor, Tensor, Work]] = {}

    def __call__(self, pixels: Tensor, labels: Tensor, whole: int) -> None:
        """Take a step on a batch."""
        shape = pixels.shape
        if shape not in self.recordings and self.recorder.possible and self.taken[shape] >= WARM_UP:
            self._record(pixels, labels, whole)
        if shape in self.recordings:
            own_pixels, own_labels, replay = self.recordings[shape]
            own_pixels.copy_(pixels)
            own_labels.copy_(labels)
            replay()
        else:
            self.taken[shape] += 1
            self.recorder.warm(lambda: self.step(pixels, labels, whole))

    def _record(self, pixels: Tensor, labels: Tensor, whole: int) -> None:
        own_pixels, own_labels = pixels.clone(), labels.clone()
        try:
            replay = self.recorder.record(lambda: self.step(own_pixels, own_labels, whole))
        except RuntimeError as error:
            self.recorder.refuse(error)
            if memory.ran_out(error):
                raise
            processes.say(f"steps are not recorded as CUDA graphs, which is slower: {error}")
        else:
            self.recordings[pixels.shape] = own_pixels, own_labels, replay
