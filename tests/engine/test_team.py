"""Runs whose batches are split over processes: against a split by hand in one process, and with killed processes."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from engine.datasets import load
from engine.datasets.pipeline import Data, shares
from engine.errors import InputError
from engine.machine import processes
from engine.models import nets
from engine.plan import defining
from engine.recipes import RandomGlobal, Run
from engine.store import database, leases
from engine.tickets import starts, tensorfiles
from engine.training import checkpoints, loop, profiles, team
from engine.training.team import Team
from tests.conftest import TINY, add, work_off
from tests.trainings import TRAINING
from tests.workers import Worker, records, wait_for_epochs, worker_command

CPU = torch.device("cpu")
# 629 images in batches of 65, the last of 44: the two parts of a batch are of 32 and 33 images, at the end of 22 each.
SPLIT = replace(TRAINING, width=0.25, epochs=2, milestones=(1,), batch_size=65, learning_rate=0.02, split=2)
RUN = Run(RandomGlobal(4), SPLIT)


def begun() -> tuple[Data, loop.State]:
    profiles.configure("exact", CPU)
    data = Data(load.load("digits-a", ""), SPLIT, CPU)
    model, masks = starts.start(RUN, data.shape, data.classes, lambda run, kind: b"")
    return data, loop.begin(model, masks, SPLIT, CPU)


def train_rank(rank: int, folder: Path, changed_before: bool) -> None:
    """Train one rank to the end, and save its state, its epochs' results, and its checkpoint."""
    data, state = begun()
    if changed_before:  # rank 0 sends its weights to all
        with torch.no_grad():
            state.model.get_parameter("conv1.weight").mul_(0.5)
    crew = team.join(rank, 2, CPU, folder / "meeting")
    epochs = list(loop.train(state, data, SPLIT, lambda _: None, crew))
    about = {"losses": [epoch.train_loss for epoch in epochs], "tests": [epoch.test_accuracy for epoch in epochs]}
    (folder / f"rank{rank}").write_bytes(tensorfiles.pack(state.model.state_dict(), about))
    (folder / f"checkpoint{rank}").write_bytes(checkpoints.pack(state, RUN.digest, 1, 0.0))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    """The results of the two ranks of a team."""
    folder = tmp_path_factory.mktemp("team")
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=train_rank, args=(rank, folder, rank == 1)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
        assert process.exitcode == 0
    return [tensorfiles.unpack((folder / f"rank{rank}").read_bytes()) for rank in (0, 1)]


def by_hand() -> tuple[dict[str, Tensor], list[float]]:
    """The same in one process: parts of a batch are normalised separately, and the first part's statistics kept."""
    data, state = begun()
    model, losses = state.model, []
    for epoch in range(SPLIT.epochs):
        for group in state.optimizer.param_groups:
            group["lr"] = loop.learning_rate(SPLIT, epoch)
        model.train()
        loss_sum = 0.0
        for pixels, labels in data.epoch(SPLIT.seed, epoch, 0, SPLIT.batch_size):
            state.optimizer.zero_grad()
            images, middle = data.normalised(pixels, torch.contiguous_format), len(labels) // 2
            before = {name: buffer.clone() for name, buffer in model.named_buffers()}
            second = F.cross_entropy(model(images[middle:]), labels[middle:], reduction="sum")
            (second / len(labels)).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(before[name])
            first = F.cross_entropy(model(images[:middle]), labels[:middle], reduction="sum")
            (first / len(labels)).backward()  # type: ignore[no-untyped-call]
            for name, mask in state.masks.items():
                gradient = model.get_parameter(name).grad
                assert gradient is not None
                gradient.masked_fill_(~mask, 0.0)
            state.optimizer.step()
            loss_sum += float((first + second).detach())
        losses.append(loss_sum / len(data.train))
    return model.state_dict(), losses


def test_two_ranks_train_as_one_process_does_that_normalises_each_part_of_a_batch_by_itself(
    ranks: list[tuple[dict[str, Tensor], dict[str, Any]]],
) -> None:
    expected, losses = by_hand()
    found, about = ranks[0]
    assert about["losses"] == pytest.approx(losses, rel=1e-4)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_the_mask_is_exact_on_every_rank_and_all_have_the_same_weights(
    ranks: list[tuple[dict[str, Tensor], dict[str, Any]]],
) -> None:
    _, state = begun()
    (first, told), (second, also_told) = ranks
    for name, mask in state.masks.items():
        for weights in (first, second):
            assert not weights[name][~mask].any()
            assert int((weights[name] != 0).sum()) == int(mask.sum())
    parameters = dict(state.model.named_parameters())
    assert all(torch.equal(first[name], second[name]) for name in parameters)
    assert told == also_told  # evaluation is split, with rank 0's statistics


def test_shares_of_a_batch_are_all_of_it_once() -> None:
    order = torch.arange(66)
    parts = [list(shares(order, 65, Team(rank, 4).share)) for rank in range(4)]
    assert [[len(part) for part in own] for own in parts] == [
        [16],
        [16],
        [16],
        [17, 1],
    ]  # each rank has a part of every batch
    assert torch.equal(torch.cat([part for own in parts for part in own]), order)


def test_a_split_run_is_another_run_and_one_that_is_not_says_nothing_of_it() -> None:
    assert RUN.digest != Run(RUN.ticket, replace(SPLIT, split=1)).digest
    assert "split" not in Run(RUN.ticket, replace(SPLIT, split=1)).to_json()
    assert Run.from_json(RUN.to_json()) == RUN


def a_rank(*lines: str) -> list[str]:
    """The command of a rank that joins the team and then runs this code instead of training."""
    begin = (
        "import sys; from pathlib import Path",
        "import torch, torch.distributed as dist",
        "from engine.training import team",
    )
    about = "dict(zip(sys.argv[1::2], sys.argv[2::2]))"
    join = f"o = {about}; team.join(int(o['--rank']), int(o['--size']), torch.device('cpu'), Path(o['--meeting']))"
    return [sys.executable, "-c", "\n".join((*begin, join, *lines))]


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes that this process would have as a worker."""
    monkeypatch.setattr(processes, "_spent", [])
    return processes._spent


@pytest.mark.parametrize("size", [2, 3])
def test_a_team_is_left_while_all_its_processes_live(
    spent: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    destroy = distributed.destroy_process_group

    def together() -> None:  # as in NCCL, leaving waits for all others
        distributed.barrier()
        destroy()

    monkeypatch.setattr(distributed, "destroy_process_group", together)
    left = f"Path({str(tmp_path)!r}, o['--rank']).touch()"
    with team.lead(a_rank("dist.barrier(); team.leave()", left, "import time; time.sleep(60)"), size, CPU) as crew:
        crew.check()
    assert not spent
    assert not distributed.is_initialized()
    assert all(rank.poll() is not None for rank in crew.led)


def test_a_group_that_is_never_left_costs_no_result(
    spent: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave = team.leave
    monkeypatch.setattr(team, "PARTING_SECONDS", 0.3)
    monkeypatch.setattr(team, "leave", lambda: time.sleep(3600))
    with team.lead(a_rank("import time; time.sleep(60)"), 2, CPU) as crew:
        pass
    assert spent == [processes.RENEWED]
    assert "the processes of the team did not part within 0.3 s" in capsys.readouterr().out
    assert all(rank.poll() is not None for rank in crew.led)
    leave()


def check_for(seconds: float, crew: Team) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        crew.check()
        time.sleep(0.05)


ENDS = [(team.OUT_OF_MEMORY, MemoryError), (1, team.RankLost), (-9, team.RankLost)]


@pytest.mark.parametrize(("code", "error"), ENDS)
def test_between_batches_it_is_seen_that_a_rank_has_failed(spent: list[int], code: int, error: type[Exception]) -> None:
    end = f"os._exit({code})" if code > 0 else f"os.kill(os.getpid(), {-code})"
    with pytest.raises(error, match=r"rank 1 of the team"), team.lead(a_rank(f"import os; {end}"), 2, CPU) as crew:
        check_for(60, crew)
    assert spent
    distributed.destroy_process_group()


def test_ranks_that_were_started_end_where_there_is_no_memory_for_the_next(
    spent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = team._start
    started: list[subprocess.Popen[bytes]] = []

    def only_one(*arguments: Any) -> "subprocess.Popen[bytes]":
        if started:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(team, "_start", only_one)
    with pytest.raises(OSError, match="allocate"), team.lead(a_rank(), 3, CPU):
        pass
    assert [process.poll() is not None for process in started] == [True]


def wait_for_ever(folder: Path, code: int) -> None:
    """Rank 0 of a team whose other rank ends before it joins, so that joining never returns."""
    team.GRACE_SECONDS = 0.2
    ends = [sys.executable, "-c", f"raise SystemExit({code})"]
    with team.lead(ends, 2, CPU, lambda error: (folder / "caught").write_text(type(error).__name__)):
        pass


@pytest.mark.parametrize(
    ("code", "error", "recorded"),
    [(team.OUT_OF_MEMORY, "MemoryError", True), (1, "RankLost", True), (1, "RankLost", False)],
)
def test_a_process_that_is_caught_in_a_call_says_why_and_makes_way(
    tmp_path: Path, code: int, error: str, recorded: bool
) -> None:
    folder = tmp_path if recorded else tmp_path / "missing"  # not writable
    process = multiprocessing.get_context("spawn").Process(target=wait_for_ever, args=(folder, code))
    process.start()
    process.join(60)
    assert process.exitcode == (processes.RENEWED if recorded else 1)  # without a record it counts as a crash
    if recorded:
        assert (tmp_path / "caught").read_text() == error


@pytest.mark.slow
def test_a_split_run_that_diverges_ends_on_all_devices(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "split", split=2, **{**WANTED, "learning_rate": 1e30})
    assert "trains nothing more" not in work_off(path, split=2)
    with closing(database.reader(path)) as connection:
        assert [row[0] for row in connection.execute("SELECT status FROM runs")] == ["diverged"]


def out_of_memory(path: Path) -> list[tuple[Any, ...]]:
    with closing(database.reader(path)) as connection:
        rows = connection.execute("SELECT a.outcome, r.alone FROM attempts a JOIN runs r ON r.id = a.run_id").fetchall()
        return [tuple(row) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("caught", [False, True])
def test_a_follower_without_memory_has_its_run_tried_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caught: bool
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "split", split=2, **WANTED)
    lines = [
        "import sys",
        "from engine.training import team",
        "from engine.workers import run, worker",
        "team.GRACE_SECONDS = 0.2",
    ]
    ends = a_rank(f"sys.exit({team.OUT_OF_MEMORY})")
    if caught:  # in joining, rank 0 waits for a rank that has ended
        ends = [sys.executable, "-c", f"raise SystemExit({team.OUT_OF_MEMORY})"]
    lines += [f"run._followers = lambda *_: {ends!r}", "worker.main()"]
    command = [sys.executable, "-c", "\n".join(lines), "--db", str(path), "--device", "cpu", "--drain", "--split", "2"]
    assert subprocess.run(command, check=False).returncode == processes.RENEWED
    assert out_of_memory(path) == [("out-of-memory", 1)]


WANTED: dict[str, Any] = {"levels": 0, "replicates": 1, "epochs": 10, "random": ["none"], "target": ["digits-a"]}


def test_only_a_worker_of_as_many_devices_claims_a_split_run(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "whole", **WANTED)
    add(path, "split", split=2, **WANTED)
    with closing(database.writer(path)) as connection:
        worker = connection.execute("INSERT INTO workers (pid, host, device) VALUES (1, 'x', 'cpu')").lastrowid
        assert worker is not None
        assert leases.splits(connection) == {1, 2}
        assert leases.claim(connection, worker, split=3) is None
        claimed = [leases.claim(connection, worker, split=split) for split in (2, 1)]
        assert [claim.run.training.split for claim in claimed if claim] == [2, 1]
        assert leases.claim(connection, worker) is None
        assert leases.unfinished(connection, split=2)
        assert not leases.unfinished(connection, split=3)


two_cards = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
on_each = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, two_cards])])


@pytest.mark.slow
@on_each
def test_a_killed_rank_ends_the_attempt_and_the_run_resumes_to_the_same_bits(tmp_path: Path, device: str) -> None:
    undisturbed, path = tmp_path / "undisturbed.db", tmp_path / "experiments.db"
    for place in (undisturbed, path):
        add(place, "split", split=2, **WANTED)
    work_off(undisturbed, device=device, split=2)
    worker = Worker("--db", path, "--device", device, "--drain", "--split", 2, "--checkpoint-seconds", 0)
    wait_for_epochs(path, 3, worker)
    (follower,) = psutil.Process(worker.pid).children()
    assert "engine.workers.follower" in follower.cmdline()
    follower.send_signal(signal.SIGKILL)
    assert worker.wait(120) == processes.RENEWED  # its pool replaces it
    work_off(path, device=device, split=2)
    assert records(path) == records(undisturbed)
    with closing(database.reader(path)) as connection:
        rows = connection.execute("SELECT attempt, outcome FROM attempts ORDER BY claim").fetchall()
        assert [tuple(row) for row in rows] == [(1, "lost"), (1, "done")]


@pytest.mark.slow
@on_each
def test_a_signal_to_all_processes_of_a_team_leaves_a_checkpoint(tmp_path: Path, device: str) -> None:
    path = tmp_path / "experiments.db"
    add(path, "split", split=2, **WANTED)
    worker = subprocess.Popen([*worker_command(path, device), "--split", "2"], start_new_session=True)
    wait_for_epochs(path, 1, worker)
    os.killpg(worker.pid, signal.SIGTERM)  # Slurm and systemd signal the group
    assert worker.wait(120) == 0
    work_off(path, device=device, split=2)
    with closing(database.reader(path)) as connection:
        rows = connection.execute("SELECT attempt, outcome FROM attempts ORDER BY claim").fetchall()
        assert [tuple(row) for row in rows] == [(1, "stopped"), (1, "done")]


@pytest.mark.slow
def test_followers_end_with_their_worker(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "split", split=2, **WANTED)
    worker = Worker("--db", path, "--device", "cpu", "--drain", "--split", 2)
    wait_for_epochs(path, 1, worker)
    (follower,) = psutil.Process(worker.pid).children()
    worker.kill()
    worker.wait()
    psutil.wait_procs([follower], timeout=120)
    assert not follower.is_running()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": 0}, "split 0 is out of range"),
        ({"split": 33}, r"split 33 is out of range \(1 to 32\)"),
        ({"batch_norm": "whole"}, "say how many with split"),
        ({"split": 8, "batch_size": 69}, "leaves a last batch of 8, too few images to be split over 8 devices"),
    ],
)
def test_what_cannot_be_split_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        defining.define(**{**TINY, "batch_size": 64, **options})


def test_synchronised_batch_norm_needs_cuda() -> None:
    with pytest.raises(InputError, match="needs CUDA devices"):
        team.synchronised(nn.BatchNorm2d(3), replace(SPLIT, batch_norm="whole"), CPU)


def synchronise(rank: int, folder: Path) -> None:
    """A step of synchronised batch norm on half a batch; both ranks share the card, which NCCL does not do."""
    torch.cuda.set_device(0)
    device = torch.device("cuda:0")
    distributed.init_process_group("gloo", f"file://{folder / 'meeting'}", world_size=2, rank=rank)
    model = two_layers(device)
    model = team.synchronised(model, replace(SPLIT, batch_norm="whole"), device)
    crew = Team(rank, 2)
    replica = crew.replica(model, device)
    pixels, labels = batch(device)
    (own,) = shares(torch.arange(len(labels)), len(labels), crew.share)
    loss = F.cross_entropy(replica(pixels[own]), labels[own])
    crew.weighed(loss, len(own), len(labels)).backward()  # type: ignore[no-untyped-call]
    found = model.state_dict() | {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    (folder / f"rank{rank}").write_bytes(tensorfiles.pack(found, {}))
    distributed.destroy_process_group()


def two_layers(device: torch.device) -> nn.Module:
    return nets.initialise(nets.build("vgg-digits", 0.25, (1, 8, 8), 10), "init", 0).to(device).train()


def batch(device: torch.device) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(31, 1, 8, 8, generator=draw).to(device), torch.randint(10, (31,), generator=draw).to(device)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_synchronised_batch_norm_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    profiles.configure("exact", torch.device("cuda:0"))
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=synchronise, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in both:
        process.start()
    model = two_layers(torch.device("cuda:0"))
    pixels, labels = batch(torch.device("cuda:0"))
    F.cross_entropy(model(pixels), labels).backward()  # type: ignore[no-untyped-call]
    for process in both:
        process.join(300)
        assert process.exitcode == 0
    expected = model.state_dict() | {f"{n}.grad": p.grad for n, p in model.named_parameters() if p.grad is not None}
    for rank in (0, 1):
        found, _ = tensorfiles.unpack((tmp_path / f"rank{rank}").read_bytes())
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value.cpu(), rtol=1e-3, atol=1e-5)
