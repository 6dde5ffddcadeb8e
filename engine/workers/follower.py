"""A follower: a process that trains a worker's run on a further device, as a rank of `engine.training.team`."""

import argparse
import faulthandler
import os
import signal
import threading
import time
import traceback
from pathlib import Path

import msgspec
import torch

from engine.desk.job import Job
from engine.machine import memory
from engine.training import checkpoints, loop, team
from engine.workers.run import Bench, prepare


def follow(options: argparse.Namespace) -> None:
    """Train the run like its worker, and record nothing."""
    job, device = msgspec.json.decode(options.job, type=Job), torch.device(options.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else what names no device takes room on the worker's
    run = job.run
    data, state, _ = prepare(run, Bench(job, device, options.decoders))
    if job.resumes:  # the worker steps, and so writes the next checkpoint, only when all have joined
        checkpoints.unpack(job.folder.read_checkpoint(run.digest) or b"").restore(state)
    crew = team.join(options.rank, options.size, device, options.meeting)
    if not job.resumes:
        loop.evaluate(state, data, data.test, run.training, lambda _: None, crew)
    for epoch in loop.train(state, data, loop.training_of(run), lambda _: None, crew):
        if loop.has_diverged(epoch, state.model):
            break
    team.leave()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """The command line with which `engine.workers.run` starts followers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", required=True, help="what is trained: JSON of `Job`")
    parser.add_argument("--decoders", type=int, default=1)
    parser.add_argument("--parent", type=int, required=True, help="the pid with whose end this process ends")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--meeting", type=Path, required=True, help="the file in which the processes find each other")
    faulthandler.enable()
    # For the worker, which leaves a checkpoint and then ends this process; a scheduler signals all of a job.
    for stop in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    options = parser.parse_args()
    threading.Thread(target=_end_with, args=(options.parent,), daemon=True).start()
    try:
        follow(options)
    except Exception as error:
        traceback.print_exc()
        # Nothing is torn down: NCCL would wait for the others, who wait for this process.
        os._exit(team.OUT_OF_MEMORY if memory.ran_out(error) else 1)


if __name__ == "__main__":
    main()
