"""Worker processes that tests start, and what their trainings recorded."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGTERM
from typing import Any

from engine.store import database
from tests.waiting import wait_until

# Workers fork from a process that imported torch, as importing takes seconds.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["engine.workers.worker", "sklearn.datasets", "torch._dynamo"])
SLOW = {"levels": 1, "replicates": 1, "epochs": 12, "random": ["none"], "width": 0.5}


def records(path: Path) -> dict[str, Any]:
    """The results of trainings, without times and claims."""
    with closing(database.reader(path)) as connection:
        return {
            table: [tuple(row) for row in connection.execute(query)]
            for table, query in {
                "runs": "SELECT digest, status, attempt, test_accuracy, test_epoch, weights_remaining"
                " FROM runs ORDER BY id",
                "epochs": "SELECT run_id, attempt, epoch, train_loss, train_accuracy, test_accuracy, learning_rate"
                " FROM epochs ORDER BY run_id, attempt, epoch",
                "layers": "SELECT * FROM layers ORDER BY run_id, layer",
                "files": "SELECT * FROM files ORDER BY run_id, kind",  # their rows hold the SHA-256
            }.items()
        }


class Worker:
    """A worker process, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, *arguments: object) -> None:
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115 - as long as this object
        given = list(map(str, arguments)), Path(self._log.name), os.getcwd(), dict(os.environ)
        self._process: BaseProcess = SERVER.Process(target=_work, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it is at work."""
        return self._process.exitcode

    def wait(self, timeout: float = 600) -> int:
        """Wait for its end. Returns the exit code."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"still at work: {self.said()}"
        return code

    def send_signal(self, signal: int) -> None:
        os.kill(self.pid, signal)

    def terminate(self) -> None:
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def said(self) -> str:
        """What it printed, on stdout and stderr."""
        return Path(self._log.name).read_text()


def _work(arguments: list[str], log: Path, folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    be_worker(arguments, log)


def be_worker(arguments: list[str], log: Path) -> None:
    """Do in a forked process what `python -m engine.workers.worker` does; what that prints is appended to `log`."""
    from engine.workers import worker

    with log.open("ab") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    sys.argv = ["engine.workers.worker", *arguments]
    worker.main()


def worker_command(path: Path, device: str = "cpu") -> list[str]:
    """The command of a worker that drains the database at `path`: for one that streams, whose decoders end as Python's
    main process does, not as a forked one."""
    return [sys.executable, "-m", "engine.workers.worker", "--db", str(path), "--device", device, "--drain"]


def start_worker(path: Path, checkpoint_seconds: float) -> Worker:
    """Start a worker that drains the database at `path`."""
    return Worker("--db", path, "--device", "cpu", "--drain", "--checkpoint-seconds", checkpoint_seconds)


def wait_for_epochs(path: Path, recorded: int, worker: "Worker | subprocess.Popen[bytes]") -> None:
    """Wait until a number of epochs are recorded, or the worker has ended."""
    with closing(database.reader(path)) as connection:
        count = "SELECT count(*) FROM epochs"
        wait_until(lambda: connection.execute(count).fetchone()[0] >= recorded or worker.poll() is not None)
