"""Tests on a CUDA device. `pytest -m gpu` runs only these; without a device they are skipped."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from benchmarks.gpu import waits
from engine import streams
from engine.datasets import load, specs
from engine.datasets.feed import open_feed
from engine.datasets.pipeline import Data, EpochPlan
from engine.models import catalog
from engine.pruning import pruner
from engine.recipes import Profile, RandomGlobal, Rule, Run, Scope
from engine.store import database, rows
from engine.tickets import starts
from engine.training import checkpoints, graphs, loop, profiles
from engine.training.team import Team
from tests.conftest import add, work_off
from tests.engine.folders import make
from tests.images import arrays
from tests.trainings import TRAINING, weights

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
GPU = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def process_settings() -> Iterator[None]:
    yield
    profiles.configure("fast", torch.device("cpu"))


def test_order_and_augmentation_are_the_same_bits_as_on_the_cpu() -> None:
    assert torch.equal(
        streams.permutation(5000, streams.key("x"), GPU).cpu(), streams.permutation(5000, streams.key("x"))
    )
    configuration = replace(TRAINING, augmentation="crop-flip")
    batches = []
    for device in (GPU, torch.device("cpu")):
        data = Data(arrays(), configuration, device)
        plan = EpochPlan(data, 0, 3)
        batches.append([part.cpu() for part in data.batch(plan, plan.order[:32])])
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_streamed_batches_are_the_same_bits_as_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts = specs.resolve(f"stream:{make(tmp_path / 'pets', ending='jpg')}@32")
    configuration = replace(TRAINING, dataset=facts.identity, augmentation="crop-flip")
    batches = []
    for device in (GPU, torch.device("cpu")):
        feed = open_feed(facts.location, configuration, device, 2)
        batches.append([part for batch in feed.epoch(0, 3, 0, 8) for part in batch])
        assert all(part.device == device for part in batches[-1])
    assert all(torch.equal(one.cpu(), other) for one, other in zip(*batches, strict=True))


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("ties", [False, True])
def test_masks_are_the_same_as_on_the_cpu(scope: Scope, ties: bool) -> None:
    for level in (1, 5, 20):
        on_cpu = pruner.prune(weights(level, ties), None, Rule(scope=scope), level)
        there = {name: value.to(GPU) for name, value in weights(level, ties).items()}
        on_gpu = pruner.prune(there, None, Rule(scope=scope), level)
        assert all(on_gpu[name].is_cuda and torch.equal(on_gpu[name].cpu(), mask) for name, mask in on_cpu.items())


@pytest.mark.parametrize("model", catalog.MODELS)
@pytest.mark.parametrize("profile", ["exact", "fast"])
def test_pruned_weights_stay_zero_and_exact_repeats_its_bits(model: str, profile: Profile) -> None:
    configuration = replace(
        TRAINING, model=model, width=0.5, epochs=2, milestones=(1,), profile=profile, batch_size=16, augmentation="crop"
    )
    profiles.configure(profile, GPU)
    data, finals = Data(arrays(), configuration, GPU), []
    for _ in range(2):
        net, masks = starts.start(Run(RandomGlobal(5), configuration), data.shape, 5, lambda *_: b"")
        state = loop.begin(net, masks, configuration, GPU)
        list(loop.train(state, data, configuration, lambda _: None))
        for name, mask in state.masks.items():
            assert not state.model.get_parameter(name)[~mask].any()
        finals.append([parameter.detach().clone() for parameter in state.model.parameters()])
    if profile == "exact":
        assert all(torch.equal(one, other) for one, other in zip(*finals, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("model", ["vgg-digits", "resnet20"])
def test_recorded_steps_come_to_the_same_bits_as_steps_taken_as_they_are(model: str, optimizer: str) -> None:
    configuration = replace(
        TRAINING, model=model, optimizer=optimizer, learning_rate=0.01, profile="fast", epochs=6, milestones=(4,)
    )
    profiles.configure("fast", GPU)
    torch.backends.cudnn.benchmark = False  # it may choose other kernels the second time
    torch.use_deterministic_algorithms(True)
    data = Data(load.load("digits-a", ""), configuration, GPU)
    results = []
    for taking in (graphs.as_it_is, graphs.chosen(configuration, GPU, Team())):
        net, masks = starts.start(Run(RandomGlobal(5), configuration), data.shape, 10, lambda *_: b"")
        state = loop.begin(net, masks, configuration, GPU)
        epochs = list(loop.train(state, data, configuration, lambda _: None, taking=taking))
        results.append(([epoch.train_loss for epoch in epochs], state))
    (losses, plain), (recorded_losses, recorded) = results
    assert losses == recorded_losses
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, recorded.model.state_dict()[name]), name
    for name, mask in recorded.masks.items():
        weight = recorded.model.get_parameter(name)
        assert not weight[~mask].any()
        assert not any(value[~mask].any() for value in recorded.optimizer.state[weight].values() if value.dim())


def test_steps_are_recorded_and_a_training_goes_on_from_its_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    configuration = replace(TRAINING, profile="fast", epochs=6, milestones=(4,))
    profiles.configure("fast", GPU)
    data = Data(load.load("digits-a", ""), configuration, GPU)

    def begun() -> loop.State:
        net, masks = starts.start(Run(RandomGlobal(5), configuration), data.shape, 10, lambda *_: b"")
        return loop.begin(net, masks, configuration, GPU)

    recorded = []

    def taking(step: graphs.Step) -> graphs.Step:
        recorded.append(graphs.Recorded(step, graphs.Cuda(GPU)))
        return recorded[-1]

    state, left = begun(), b""
    for epoch in loop.train(state, data, configuration, lambda _: None, taking=taking):
        if epoch.epoch == 3:
            left = checkpoints.pack(state, "run", 1, 0.0)
    assert len(recorded[0].recordings) == 2  # a whole batch, and the shorter last one
    assert "not recorded" not in capsys.readouterr().out
    resumed = begun()
    checkpoints.unpack(left).restore(resumed)
    (*_, last) = loop.train(resumed, data, configuration, lambda _: None, taking=taking)
    assert abs(last.test_accuracy - epoch.test_accuracy) < 0.05
    assert {float(group["lr"]) for group in resumed.optimizer.param_groups} == {pytest.approx(0.01)}


def test_training_steps_do_not_wait_for_the_device() -> None:
    configuration = replace(TRAINING, profile="fast", epochs=6, milestones=())
    profiles.configure("fast", GPU)
    data = Data(load.load("digits-a", ""), configuration, GPU)
    net, masks = starts.start(Run(RandomGlobal(5), configuration), (1, 8, 8), 10, lambda *_: b"")
    state = loop.begin(net, masks, configuration, GPU)
    steps = 0

    def watch(state: loop.State) -> None:  # steps before the end of the first and last epoch must not wait
        nonlocal steps
        steps += 1
        torch.cuda.set_sync_debug_mode("error" if state.epoch in (0, 5) and state.step < 10 else "default")

    try:
        list(loop.train(state, data, configuration, watch))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps == 6 * 11  # the last step of each epoch evaluates


def test_a_profiler_sees_no_wait_between_the_first_step_of_an_epoch_and_the_last() -> None:
    assert waits(GPU, 12) == 0


def test_the_memory_of_a_run_is_what_it_had_reserved(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "tiny", profile="fast", levels=1, random=["none"])
    work_off(path, device="cuda:0")
    with closing(database.reader(path)) as connection:
        taken = [row[0] for row in connection.execute("SELECT device_memory FROM runs")]
    assert min(taken) >= 2 * 2**20  # the allocator's smallest request
    assert max(taken) < 1.5 * min(taken)  # also in processes that trained before


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_run_on_two_cards_ends_and_its_process_goes_on_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "tiny", profile="fast", split=2)
    assert "trains nothing more" not in work_off(path, device="cuda:0", split=2)
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[0].status == "done"


def test_an_experiment_runs_to_the_end_on_the_device(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "tiny", profile="fast", random=["global", "local", "preserved"])
    work_off(path, device="cuda:0")
    with closing(database.reader(path)) as connection:
        assert rows.experiments(connection)[0].status == "done"
        assert {tuple(row) for row in connection.execute("SELECT device, dtype FROM runs")} == {("cuda:0", "bfloat16")}
