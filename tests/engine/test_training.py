"""The loop, against the algorithm written out plainly."""

import dataclasses
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine import streams
from engine.datasets import load
from engine.datasets.pipeline import Data, EpochPlan
from engine.desk.job import Job
from engine.models import nets
from engine.pruning import pruner
from engine.recipes import Profile, RandomGlobal, Run, Training
from engine.tickets import starts
from engine.training import checkpoints, graphs, loop, profiles
from engine.training.team import Team
from engine.workers.run import Bench
from tests.recording import AsCudaDoes
from tests.trainings import TRAINING

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("exact_on_cpu")
SHORT = replace(TRAINING, width=0.25, epochs=4, milestones=(2, 3))


def data_for(configuration: Training) -> Data:
    return Data(load.load(configuration.dataset, ""), configuration, CPU)


def begun(configuration: Training, level: int = 4) -> loop.State:
    """A random ticket of a level, ready to be trained."""
    model, masks = starts.start(Run(RandomGlobal(level), configuration), (1, 8, 8), 10, lambda *_: b"")
    return loop.begin(model, masks, configuration, CPU)


def ignore(_: loop.State) -> None:
    pass


def plainly(state: loop.State, data: Data, t: Training) -> dict[str, Tensor]:
    """The paper's training written out: forward, backward, mask, and the optimizers' formulas."""
    model, masks = state.model, state.masks
    memory: dict[str, list[Tensor]] = {}
    steps = 0
    for epoch in range(t.epochs):
        order = streams.permutation(len(data.train), streams.key("order", t.seed, epoch))
        rate = t.learning_rate / 10 ** sum(epoch >= m for m in t.milestones)
        model.train()
        for start in range(0, len(order), t.batch_size):
            index = order[start : start + t.batch_size]
            images = (data.train.gather(index).float() - data.mean) / data.std
            loss = nn.functional.cross_entropy(model(images.contiguous()), data.train.labels[index])
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            steps += 1
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    assert parameter.grad is not None
                    gradient = parameter.grad
                    if name in masks:
                        gradient = gradient * masks[name]
                    gradient = gradient.add(parameter, alpha=t.weight_decay)
                    if t.optimizer == "sgd":
                        if name not in memory:
                            memory[name] = [gradient.clone()]
                        else:
                            memory[name][0].mul_(0.9).add_(gradient)
                        parameter.add_(memory[name][0], alpha=-rate)
                    else:
                        if name not in memory:
                            memory[name] = [torch.zeros_like(parameter), torch.zeros_like(parameter)]
                        first, second = memory[name]
                        first.lerp_(gradient, 1 - 0.9)
                        second.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
                        size = rate / (1 - 0.9**steps)
                        denominator = (second.sqrt() / (1 - 0.999**steps) ** 0.5).add_(1e-8)
                        parameter.addcdiv_(first, denominator, value=-size)
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.1), ("adam", 3e-4)])
def test_exact_training_is_bit_equal_to_the_algorithm_written_out(optimizer: str, rate: float) -> None:
    configuration = replace(SHORT, optimizer=optimizer, learning_rate=rate)
    data = data_for(configuration)
    state = begun(configuration)
    epochs = list(loop.train(state, data, configuration, ignore))
    expected = plainly(begun(configuration), data, configuration)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2, 3]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("profile", ["exact", "fast"])
def test_pruned_weights_gradients_and_optimizer_state_are_exactly_zero_after_every_step(
    optimizer: str, profile: Profile
) -> None:
    configuration = replace(SHORT, optimizer=optimizer, learning_rate=0.01, profile=profile, epochs=2, milestones=(1,))
    profiles.configure(profile, CPU)
    state = begun(configuration, level=8)
    steps = 0

    def look(state: loop.State) -> None:
        nonlocal steps
        steps += 1
        for name, mask in state.masks.items():
            weight = state.model.get_parameter(name)
            assert weight.grad is not None
            tensors = [weight, weight.grad]
            tensors += [value for value in state.optimizer.state[weight].values() if value.dim()]
            assert len(tensors) >= 3
            for tensor in tensors:
                assert not tensor[~mask].any()
                assert tensor[mask].any()

    list(loop.train(state, data_for(configuration), configuration, look))
    assert steps == 2 * (10 + 3)  # an evaluation of three batches after each epoch


def test_the_schedule_is_a_function_of_the_epoch() -> None:
    vgg19 = replace(TRAINING, epochs=160, milestones=(80, 120))
    rates = [loop.learning_rate(vgg19, epoch) for epoch in (0, 79, 80, 119, 120, 159)]
    assert rates == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


def test_the_recorded_figures_are_those_of_the_epoch() -> None:
    configuration = replace(SHORT, epochs=2, milestones=(1,))
    data, state = data_for(configuration), begun(configuration)
    first, second = loop.train(state, data, configuration, ignore)
    state.model.eval()
    with torch.no_grad():
        logits = state.model(((data.test.gather(torch.arange(540)).float() - data.mean) / data.std).contiguous())
    assert second.test_accuracy == int((logits.argmax(1) == data.test.labels).sum()) / 540
    assert (first.learning_rate, second.learning_rate) == (0.1, 0.01)
    assert first.train_loss is not None
    assert second.train_loss is not None
    assert 0 < second.train_loss < first.train_loss
    assert 0 < first.train_accuracy < second.train_accuracy <= 1
    assert second.images_per_second is not None


def test_every_image_is_trained_on_once_an_epoch_the_last_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = replace(SHORT, batch_size=100, epochs=1, milestones=())
    data, sizes = data_for(configuration), []
    original = data.batch

    def counted(plan: EpochPlan, index: Tensor) -> tuple[Tensor, Tensor]:
        found = original(plan, index)
        sizes.append(len(found[1]))
        return found

    monkeypatch.setattr(data, "batch", counted)
    list(loop.train(begun(configuration), data, configuration, ignore))
    assert sizes == [100] * 6 + [29]


def test_a_loss_that_is_not_finite_is_recorded_as_none() -> None:
    configuration = replace(SHORT, learning_rate=1e30, epochs=1, milestones=())
    state = begun(configuration)
    (epoch,) = loop.train(state, data_for(configuration), configuration, ignore)
    assert epoch.train_loss is None
    assert loop.has_diverged(epoch, state.model)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("profile", ["exact", "fast"])
@pytest.mark.parametrize(
    "at", [7, 10, 11, 13, 17, 52]
)  # within an epoch, at its end (10 steps), in its evaluation (3 batches) and after it, later, at the very end
def test_a_checkpoint_goes_on_to_the_same_bits(optimizer: str, profile: Profile, at: int) -> None:
    configuration = replace(SHORT, optimizer=optimizer, learning_rate=0.01, profile=profile)
    profiles.configure(profile, CPU)
    data = data_for(configuration)
    alone = begun(configuration)
    expected = list(loop.train(alone, data, configuration, ignore))

    steps = 0

    def interrupt(_: loop.State) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            raise Interrupted

    halted = begun(configuration)
    with pytest.raises(Interrupted):
        list(loop.train(halted, data, configuration, interrupt))
    left = checkpoints.unpack(checkpoints.pack(halted, "run", 1, 2.5))
    assert (left.digest, left.attempt, left.seconds) == ("run", 1, 2.5)
    resumed = begun(configuration)
    left.restore(resumed)
    rest = list(loop.train(resumed, data, configuration, ignore))
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for one, other in zip(expected[-len(rest) :], rest, strict=True):
        assert dataclasses.replace(one, images_per_second=None) == dataclasses.replace(other, images_per_second=None)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_recorded_steps_come_to_the_same_bits_the_shorter_batch_too(optimizer: str) -> None:
    configuration = replace(SHORT, optimizer=optimizer, learning_rate=0.01, augmentation="crop-flip", epochs=6)
    data, recorder = data_for(configuration), AsCudaDoes()
    one, other = begun(configuration), begun(configuration)
    expected = list(loop.train(one, data, configuration, ignore))
    found = list(loop.train(other, data, configuration, ignore, taking=lambda step: graphs.Recorded(step, recorder)))
    assert [dataclasses.replace(epoch, images_per_second=None) for epoch in found] == [
        dataclasses.replace(epoch, images_per_second=None) for epoch in expected
    ]
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    # Ten batches an epoch, the last of them shorter: each shape was warmed up, and recorded once.
    assert (recorder.warmed, recorder.recorded) == (2 * graphs.WARM_UP, 2)
    assert recorder.replayed == 6 * 10 - recorder.warmed


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    class Refuses(AsCudaDoes):
        def record(self, work: graphs.Work) -> graphs.Work:
            raise RuntimeError("operation not permitted when stream is capturing")

    configuration = replace(SHORT, epochs=2, milestones=(1,))
    data, recorder = data_for(configuration), Refuses()
    one, other = begun(configuration), begun(configuration)
    list(loop.train(one, data, configuration, ignore))
    list(loop.train(other, data, configuration, ignore, taking=lambda step: graphs.Recorded(step, recorder)))
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    said = capsys.readouterr().out
    assert said.count("not permitted when stream is capturing") == said.count("\n") == 1


def test_only_fast_training_on_one_cuda_device_is_recorded_and_not_what_a_person_wrote() -> None:
    fast, cuda = replace(TRAINING, profile="fast"), torch.device("cuda")
    assert graphs.chosen(fast, CPU, Team()) is graphs.as_it_is
    assert graphs.chosen(replace(fast, profile="exact"), cuda, Team()) is graphs.as_it_is
    assert graphs.chosen(replace(fast, model="nets:small@0123"), cuda, Team()) is graphs.as_it_is
    assert graphs.chosen(replace(fast, model="tiny@models==1.0"), cuda, Team()) is graphs.as_it_is
    assert graphs.chosen(replace(fast, optimizer="lion@optimizers==1.0"), cuda, Team()) is graphs.as_it_is
    assert graphs.chosen(fast, cuda, Team(0, 2)) is graphs.as_it_is
    assert graphs.chosen(fast, cuda, Team()) is not graphs.as_it_is


def test_fast_keeps_state_in_float32_and_learns_like_exact() -> None:
    results = {}
    for profile in ("exact", "fast"):
        configuration = replace(TRAINING, profile=profile, epochs=6, milestones=(3, 4))
        profiles.configure(configuration.profile, CPU)
        state = begun(configuration, level=2)
        results[profile] = list(loop.train(state, data_for(configuration), configuration, ignore))[-1]
        tensors = [*state.model.parameters(), *(s["momentum_buffer"] for s in state.optimizer.state.values())]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert abs(results["fast"].test_accuracy - results["exact"].test_accuracy) < 0.05


def test_only_the_prunable_weights_have_masks() -> None:
    state = begun(SHORT)
    assert set(state.masks) == set(nets.prunable(state.model))
    assert pruner.remaining(state.masks)["conv1.weight"] < state.model.get_parameter("conv1.weight").numel()


@pytest.mark.parametrize("images", [10, 37, 300, 539])
def test_accuracy_is_that_over_exactly_the_first_test_images(images: int) -> None:
    limited = replace(SHORT, epochs=2, milestones=(1,), test_images=images)
    arrays, data, state = load.load(limited.dataset, ""), data_for(limited), begun(limited)
    *_, last = loop.train(state, data, limited, ignore)
    state.model.eval()
    right = []
    for index in load.first(arrays.test_labels, images):  # image by image
        pixels = torch.from_numpy(arrays.test_images[index : index + 1]).permute(0, 3, 1, 2)
        with torch.no_grad():
            guess = state.model((pixels.float() - data.mean) / data.std).argmax(1)
        right.append(int(guess) == arrays.test_labels[index])
    assert len(right) == len(data.test) == images
    assert last.test_accuracy == sum(right) / images


def test_an_apple_gpu_is_for_fast_alone_in_float32_and_never_asked_for_float64() -> None:
    apple = torch.device("mps")
    bench = Bench(Job("", "", "", {}, "", False), apple)
    assert bench.place("fast") == apple
    assert bench.place("exact") == bench.prunes_on == CPU
    assert Bench(Job("", "", "", {}, "", False), CPU).prunes_on == CPU
    assert isinstance(profiles.autocast("fast", apple), nullcontext)
    assert profiles.environment("fast", apple)["dtype"] == "float32"
    assert loop.EVALUATION_BATCH["mps"]


class NoFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuse operations that Apple's GPUs lack."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        assert all(one.dtype != torch.float64 for one in tree_leaves(made) if isinstance(one, Tensor)), function
        return made


def test_training_and_evaluating_need_no_float64_but_for_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "sums", lambda device: torch.float32)
    training = replace(SHORT, augmentation="crop-flip", epochs=1, milestones=())
    data, state = data_for(training), begun(training)
    with NoFloat64():  # type: ignore[no-untyped-call]
        loop.evaluate(state, data, data.test, training, ignore)
        assert len(list(loop.train(state, data, training, ignore))) == 1
