"""Steps of training as CUDA graphs: forward, backward, optimizer and mask are launched at once, not kernel by kernel.

A small network's kernels are over before the host has launched the next; recorded, a step costs one launch. Shapes do
not change between steps, but for the last, shorter batch of an epoch, which is a recording of its own.
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
    """How the steps of a training are taken: recorded on a CUDA device in `fast`, else as they are.

    `exact` records nothing. A model or an optimizer that a person wrote, or a plug-in brings, may decide something in
    Python at every step, which a recording would decide once and for all. Where batches are split, torch overlaps
    sending gradients with the backward pass by itself.
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
    """Take each step as it is written."""
    return step


class Recorder(Protocol):
    """What work can be recorded with: see `Cuda`."""

    possible: bool

    def warm(self, work: Work) -> None: ...
    def record(self, work: Work) -> Work: ...
    def refuse(self, error: Exception) -> None: ...


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which this process records, one for all runs: torch keeps a cuBLAS workspace for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Cuda:
    """Records work on a CUDA device, on a stream of its own. All recordings share their memory: one runs at a time."""

    possible = True  # in this process, until a recording has failed

    def __init__(self, device: torch.device) -> None:
        self.stream, self.pool = _stream(device), torch.cuda.graph_pool_handle()

    def warm(self, work: Work) -> None:
        """Do the work now, on the stream that it is going to be recorded on: libraries keep something for each."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Work) -> Work:
        """What does the work again and again on the tensors that it uses now. Raises RuntimeError if it cannot be."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.stream.device)
        try:
            # Thread-local: the heartbeat's thread may use the device meanwhile.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                work()
        finally:
            torch.cuda.set_stream(current)  # which torch does only where the recording succeeds
        return graph.replay

    def refuse(self, error: Exception) -> None:
        """Record nothing more in this process, and train no other run in it: the allocator may still be recording."""
        Cuda.possible = False
        transient = memory.ran_out(error)
        processes.spend(
            "recording a step may have left the device's memory in disorder",
            processes.RENEWED if transient else processes.UNRECORDED,
        )


class Recorded:
    """Takes steps: the first of each shape as they are, then by recordings. Replaying one does the step's arithmetic.

    The step keeps nothing from one call to the next but in tensors that stay where they are. Where a step cannot be
    recorded all are taken as they are, and the log says why; where that is for lack of memory it is raised.
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
