"""A team: several processes that train one network, each on its share of every batch.

torch's DistributedDataParallel averages the gradients. With a team of one process, all functions here do nothing.
"""

import faulthandler
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch import distributed as dist

from engine.datasets.pipeline import Share
from engine.errors import InputError, OptionName
from engine.machine import memory, processes
from engine.recipes import Training

PATIENCE = timedelta(minutes=10)  # that a process waits for the others: no step and no checkpoint takes so long
PARTING_SECONDS = 60.0  # in which all have left the group: NCCL's processes wait there for each other
GRACE_SECONDS = 15.0  # in which rank 0 should have noticed by itself that another process has ended
OUT_OF_MEMORY = 77  # how a rank says with its exit code that its device had no memory left


class RankLost(Exception):
    """A process of the team ended too early. The run can resume from its checkpoint."""


@dataclass(frozen=True)
class Team:
    """One of the `size` processes of a team. Rank 0 records and saves, and its batch-norm statistics count."""

    rank: int = 0
    size: int = 1
    led: Sequence["subprocess.Popen[bytes]"] = field(default=(), compare=False, repr=False)  # by rank 0: the others

    def check(self) -> None:
        """Raise RankLost if another process of the team has failed, MemoryError if it ran out of memory.

        Only rank 0 can tell. NCCL reports no failure of another process and waits for it forever.
        """
        for number, process in enumerate(self.led, 1):
            ended = process.poll()
            if ended == OUT_OF_MEMORY:
                raise MemoryError(f"rank {number} of the team ran out of memory")
            if ended:
                raise RankLost(f"rank {number} of the team ended with {ended}")

    def replica(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in training in place of `model`; gives rank 0's state to all processes.

        Batch norm normalises the share of each process separately (but see `synchronised`). Before each step all
        processes take over rank 0's batch-norm statistics.
        """
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, [device] if device.type == "cuda" else None)

    @property
    def share(self) -> Share:
        """The share of this process in each batch (`engine.datasets.pipeline.shares`)."""
        return self.rank, self.size

    def weighed(self, loss: Tensor, part: int, whole: int) -> Tensor:
        """The mean loss over a share, weighted so that the team's mean is the mean over the whole batch."""
        return loss if self.size == 1 else loss * (part * self.size / whole)

    def total(self, *counts: Tensor) -> tuple[Tensor, ...]:
        """Each scalar summed over the team."""
        if self.size == 1:
            return counts
        sums = torch.stack([count.double() for count in counts])
        dist.all_reduce(sums)
        return tuple(total.to(count.dtype) for count, total in zip(counts, sums, strict=True))

    def agree(self, model: nn.Module) -> None:
        """Give rank 0's batch-norm statistics to all processes, for an evaluation that is split too."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def synchronised(model: nn.Module, training: Training, device: torch.device) -> nn.Module:
    """The model with batch norm over whole batches, if the training asks for it. Raises InputError on a CPU."""
    if training.batch_norm == "part":
        return model
    if device.type != "cuda":
        why = " whole needs CUDA devices: torch synchronises batch norm nowhere else"
        raise InputError(OptionName("batch_norm"), why)
    found: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return found


def join(rank: int, size: int, device: torch.device, meeting: Path) -> Team:
    """Become a rank of a team whose processes find each other through a file. Blocks until all have joined."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())  # all are on this machine
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, f"file://{meeting}", PATIENCE, size, rank)
    return Team(rank, size)


def leave() -> None:
    """Leave the process group. Each process of the team must call this before it ends."""
    dist.destroy_process_group()


@contextmanager
def lead(
    command: Sequence[str], size: int, device: torch.device, caught: Callable[[Exception], object] = lambda error: None
) -> Iterator[Team]:
    """A context in which this process is rank 0 of a team; it starts the other ranks with `command`.

    At its end all processes leave the group and the other ranks end. Raises RankLost if one ended too early,
    MemoryError if it ran out of memory. After any error this process should train no more (`processes.spend`), because
    leaving a group whose members are gone may never return. If this process hangs in such a call, another thread calls
    `caught` with the reason and ends the process; the pool replaces it.
    """
    if size == 1:
        yield Team()
        return
    with TemporaryDirectory(prefix="cockpit-") as folder:
        meeting, over = Path(folder) / "meeting", threading.Event()
        ranks: list[subprocess.Popen[bytes]] = []
        crew = Team(0, size, ranks)
        try:
            for rank in range(1, size):
                ranks.append(_start(command, rank, size, device, meeting))
            threading.Thread(target=_watch, args=(crew, over, caught), daemon=True).start()
            join(0, size, device, meeting)
            yield crew
            over.set()
            _part()
        except BaseException as error:
            processes.spend("the training on several devices was interrupted")
            if isinstance(error, RuntimeError) and not memory.ran_out(error):
                _say_who_ended(crew, error)
            raise
        finally:
            over.set()
            for process in ranks:
                process.kill()
                process.wait()


def _part() -> None:
    """Leave the group together with the others. The training counts even if this fails or never returns."""
    left = threading.Event()

    def part() -> None:
        leave()
        left.set()

    parting = threading.Thread(target=part, daemon=True)
    # For a call that holds Python's lock meanwhile, so that no thread of Python's notices.
    faulthandler.dump_traceback_later(2 * PARTING_SECONDS, exit=True, file=2)
    parting.start()
    parting.join(PARTING_SECONDS)
    faulthandler.cancel_dump_traceback_later()
    if not left.is_set():
        processes.spend(f"the processes of the team did not part within {PARTING_SECONDS:g} s")


def _start(
    command: Sequence[str], rank: int, size: int, device: torch.device, meeting: Path
) -> "subprocess.Popen[bytes]":
    own = f"cuda:{rank}" if device.type == "cuda" else device.type
    about = ["--rank", str(rank), "--size", str(size), "--device", own, "--meeting", str(meeting)]
    return subprocess.Popen([*command, *about], stdin=subprocess.DEVNULL, env=processes.environment())


def _watch(crew: Team, over: threading.Event, caught: Callable[[Exception], object]) -> None:
    """End this process if another of the team has failed and this one hangs."""
    while not over.wait(0.5):
        try:
            crew.check()
        except (RankLost, MemoryError) as error:
            if not over.wait(GRACE_SECONDS):
                processes.say(f"{error}; this process waits for it and ends too")
                code = 1
                try:
                    caught(error)
                    code = processes.RENEWED
                finally:
                    os._exit(code)
            return


def _say_who_ended(crew: Team, error: RuntimeError) -> None:
    """Raise RankLost or MemoryError if the end of another process made this one fail."""
    deadline = time.monotonic() + 5.0  # a connection is gone before its process is
    while time.monotonic() < deadline:
        try:
            crew.check()
        except (RankLost, MemoryError) as lost:
            raise lost from error
        time.sleep(0.1)


def _loopback() -> str:
    """The name of the loopback network interface."""
    import psutil

    found = psutil.net_if_addrs().items()
    return str(next(name for name, addresses in found if any(one.address == "127.0.0.1" for one in addresses)))
