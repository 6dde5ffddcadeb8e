"""A pool of worker processes, one for each device. Nothing here imports torch."""

import os
import subprocess
from pathlib import Path

from engine import devices, processes
from engine.store import database


class Pool:
    """Worker processes, one on each of `places`. Each ends with this process, if it is not stopped before."""

    def __init__(
        self, path: Path, places: list[devices.Device], *, experiment: int | None = None, drain: bool = True
    ) -> None:
        self.log = database.files_folder(path) / "logs" / f"pool-{os.getpid()}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [*processes.python("engine.worker"), "--db", str(path), "--parent", str(os.getpid())]
        command += ["--experiment", str(experiment)] if experiment is not None else []
        command += ["--drain"] if drain else []
        self.processes = [self._start(command, device) for device in places]

    def _start(self, command: list[str], device: devices.Device) -> "subprocess.Popen[bytes]":
        environment = {**processes.environment(), "OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        name = "cpu"
        if device.visible is not None:  # each process sees one card, which it calls cuda:0
            environment["CUDA_VISIBLE_DEVICES"], name = device.visible, "cuda:0"
        command = [*command, "--device", name, "--label", device.name]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def __len__(self) -> int:
        return len(self.processes)

    @property
    def running(self) -> int:
        """How many of the processes have not ended."""
        return sum(process.poll() is None for process in self.processes)

    @property
    def crashed(self) -> list[int]:
        """The exit codes, other than 0, of the processes that have ended."""
        return [process.returncode for process in self.processes if process.poll()]

    def stop(self) -> None:
        """Ask every worker to leave a checkpoint and end, and wait for them, one step of training at the most."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    def kill(self) -> None:
        """End every worker at once: what it did since its last checkpoint is lost."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
