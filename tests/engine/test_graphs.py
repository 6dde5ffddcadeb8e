"""Failures of recording steps, with simulated CUDA calls except in tests that need a device."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.machine import processes
from engine.store import database
from engine.training import graphs
from engine.workers import heartbeat, worker
from tests.conftest import add, work_off

CUDA = torch.device("cuda:0")


class Driver:
    """A simulation of the CUDA calls of recording. As in torch, a failed capture's stream stays the current one."""

    def __init__(self) -> None:
        self.streams: list[SimpleNamespace] = []
        self.current: object = "the default stream"
        self.fails: Exception | None = None  # raised at the end of a capture

    def stream(self, device: torch.device) -> SimpleNamespace:
        self.streams.append(SimpleNamespace(device=device))
        return self.streams[-1]

    @contextmanager
    def graph(self, graph: object, pool: object, stream: object, **_: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        if self.fails:
            raise self.fails
        self.current = before

    def set_stream(self, stream: object) -> None:
        self.current = stream


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    driver = Driver()
    monkeypatch.setattr(processes, "_spent", [])
    monkeypatch.setattr(graphs.Cuda, "possible", True)
    for name, made_up in {
        "Stream": driver.stream,
        "graph": driver.graph,
        "set_stream": driver.set_stream,
        "current_stream": lambda device: driver.current,
        "graph_pool_handle": object,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
    }.items():
        monkeypatch.setattr(torch.cuda, name, made_up)
    graphs._stream.cache_clear()
    yield driver
    graphs._stream.cache_clear()


def test_all_runs_of_a_process_record_on_one_stream_of_a_device(driver: Driver) -> None:
    recorders = [graphs.Cuda(CUDA) for _ in range(40)]
    assert len(driver.streams) == 1
    assert len({id(recorder.pool) for recorder in recorders}) == 40  # torch keeps a pool until its recordings are gone
    graphs.Cuda(torch.device("cuda:1"))
    assert len(driver.streams) == 2


FAILURES = [
    (RuntimeError("operation not permitted when stream is capturing"), processes.UNRECORDED),
    (torch.AcceleratorError("CUDA error: out of memory"), processes.RENEWED),  # instantiating the graph
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."), processes.RENEWED),
]


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=str)
def test_a_failed_recording_restores_the_stream_and_the_process_records_and_claims_nothing_more(
    driver: Driver, error: Exception, code: int
) -> None:
    taken: list[int] = []
    recorded = graphs.Recorded(lambda pixels, labels, whole: taken.append(len(pixels)), graphs.Cuda(CUDA))
    recorded.recorder.warm = lambda work: work()  # type: ignore[method-assign]
    batch, shorter, driver.fails = torch.zeros(4, 1, 2, 2), torch.zeros(3, 1, 2, 2), error

    def steps(pixels: torch.Tensor, count: int) -> None:
        for _ in range(count):
            recorded(pixels, torch.zeros(len(pixels)), len(pixels))

    steps(batch, graphs.WARM_UP)
    if code == processes.RENEWED:
        with pytest.raises(type(error)):
            steps(batch, 1)
    else:
        steps(batch, 1)
    assert driver.current == "the default stream"
    assert processes.spent() == code
    driver.fails = None
    steps(shorter, graphs.WARM_UP + 2)
    assert not recorded.recordings
    assert not graphs.Cuda(CUDA).possible
    assert taken[-5:] == [3] * 5


@pytest.mark.slow
def test_a_worker_trains_its_run_to_the_end_without_recordings_and_makes_way(tmp_path: Path) -> None:
    path, undisturbed = tmp_path / "experiments.db", tmp_path / "undisturbed.db"
    for place in (path, undisturbed):
        add(place, "one", levels=0, replicates=2, random=["none"], target=["digits-a"], profile="fast")
    work_off(undisturbed)
    lines = [
        "import torch",
        "from engine.training import graphs; from engine.workers import worker",
        "class Refuses(graphs.Cuda):",
    ]
    lines += ["  def __init__(self): pass", "  def warm(self, work): work()"]
    lines += ["  def record(self, work): raise RuntimeError('no graphs here')"]
    lines += ["graphs.chosen = lambda *_: lambda step: graphs.Recorded(step, Refuses())", "worker.main()"]
    command = [sys.executable, "-c", "\n".join(lines), "--db", str(path), "--device", "cpu", "--drain"]
    said = [
        subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        for more in ([], ["--unrecorded"])
    ]
    assert [done.returncode for done in said] == [processes.UNRECORDED, 0]
    assert "which is slower: no graphs here" in said[0].stdout
    assert "no graphs" not in said[1].stdout
    results = []
    for place in (path, undisturbed):
        with closing(database.reader(place)) as connection:
            query = "SELECT digest, status, attempt, test_accuracy FROM runs ORDER BY digest"
            results.append([tuple(row) for row in connection.execute(query)])
    assert results[0] == results[1]
    assert {row[1:3] for row in results[0]} == {("done", 1)}


def test_a_process_that_is_spent_does_not_wait_for_a_heartbeat_that_its_device_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=0, replicates=1, random=["none"])
    monkeypatch.setattr(processes, "_spent", [processes.RENEWED])
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(worker, "SPENT_SECONDS", 0.1)
    held, over = threading.Event(), threading.Event()

    def tell(*_: object) -> None:
        held.set()
        over.wait(60)

    monkeypatch.setattr(heartbeat.Heartbeat, "_tell", tell)
    spent = worker.begun(worker.parser().parse_args(["--db", str(path), "--device", "cpu"]))
    spent.heart.start()
    assert held.wait(120)
    monkeypatch.setattr(spent.heart, "start", lambda: None)
    spent.work()
    assert spent.heart.is_alive()
    over.set()
    spent.heart.join()
    spent.desk.close()


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@gpu
def test_many_recorders_take_no_more_memory_than_one() -> None:
    left = torch.randn(512, 512, device=CUDA)

    def work() -> None:
        torch.mm(left, left)

    taken = []
    for _ in range(33):
        recorder = graphs.Cuda(CUDA)
        recorder.warm(work)
        recorder.record(work)()
        torch.cuda.synchronize()
        taken.append(torch.cuda.memory_allocated())
    assert taken[1] == taken[-1]


@pytest.mark.gpu
@gpu
def test_a_capture_that_fails_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs.Cuda, "possible", True)
    before, value = torch.cuda.current_stream(), torch.ones((), device=CUDA)
    with pytest.raises(RuntimeError):
        graphs.Cuda(CUDA).record(lambda: print(float(value)))  # this waits for the device
    assert torch.cuda.current_stream() == before
