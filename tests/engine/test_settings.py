"""The settings of a training against torch: optimizers, schedules with warm-up, label smoothing."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import nn, optim

from engine import streams
from engine.datasets import load
from engine.datasets.pipeline import Data
from engine.plan import durations
from engine.plan.defining import define
from engine.plan.experiments import curves
from engine.recipes import RandomGlobal, Run, Training
from engine.tickets import starts
from engine.training import graphs, loop
from tests.conftest import TINY
from tests.recording import AsCudaDoes
from tests.trainings import TRAINING

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("exact_on_cpu")
SHORT = replace(TRAINING, width=0.25, epochs=3, milestones=(2,))
STEPS = 9  # an epoch of digits-a in batches of 100
Make = Callable[[Any], optim.Optimizer]
CASES: dict[str, tuple[dict[str, Any], Make]] = {
    "momentum": ({"momentum": 0.7}, lambda p: optim.SGD(p, 0.05, 0.7, weight_decay=1e-4)),
    "none": ({"momentum": 0.0}, lambda p: optim.SGD(p, 0.05, 0.0, weight_decay=1e-4)),
    "nesterov": ({"nesterov": True}, lambda p: optim.SGD(p, 0.05, 0.9, weight_decay=1e-4, nesterov=True)),
    "adam": ({"optimizer": "adam", "betas": (0.8, 0.9)}, lambda p: optim.Adam(p, 0.05, (0.8, 0.9), weight_decay=1e-4)),
    "adamw": (
        {"optimizer": "adamw", "betas": (0.5, 0.9)},
        lambda p: optim.AdamW(p, 0.05, (0.5, 0.9), weight_decay=1e-4),
    ),
    "smoothed": ({"label_smoothing": 0.2}, lambda p: optim.SGD(p, 0.05, 0.9, weight_decay=1e-4)),
    "other order": ({"data_seed": 12}, lambda p: optim.SGD(p, 0.05, 0.9, weight_decay=1e-4)),
    "order of its level": ({"reshuffle_levels": True}, lambda p: optim.SGD(p, 0.05, 0.9, weight_decay=1e-4)),
    "warm": ({"warmup": "7it"}, lambda p: optim.SGD(p, 0.05, 0.9, weight_decay=1e-4)),
    "decay": ({"decay": 0.5, "warmup": "1ep"}, lambda p: optim.SGD(p, 0.05, 0.9, weight_decay=1e-4)),
}


def ignore(_: loop.State) -> None:
    pass


def begun(t: Training) -> loop.State:
    model, masks = starts.start(Run(RandomGlobal(4), t), (1, 8, 8), 10, lambda *_: b"")
    return loop.begin(model, masks, t, CPU, level=4)


def by_torch(t: Training, data: Data, make: Make) -> tuple[nn.Module, float]:
    """The same training with torch's optimizer, scheduler and loss; returns the last epoch's mean loss."""
    state = begun(t)
    optimizer = make(state.model.parameters())
    steps = -(-len(data.train) // t.batch_size)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(rates(t, steps)[step] / t.learning_rate))
    criterion = nn.CrossEntropyLoss(label_smoothing=t.label_smoothing)
    state.model.train()
    seed = t.seed if t.data_seed is None else t.data_seed
    if t.reshuffle_levels:
        seed = int.from_bytes(hashlib.sha256(f"level/{seed}/4".encode()).digest()[:8], "little") // 2
    for epoch in range(t.epochs):
        order = streams.permutation(len(data.train), streams.key("order", seed, epoch))
        loss_sum = 0.0
        for index in torch.split(order, t.batch_size):
            images = (data.train.gather(index).float() - data.mean) / data.std
            loss = criterion(state.model(images.contiguous()), data.train.labels[index])
            optimizer.zero_grad()
            loss.backward()
            for name, mask in state.masks.items():
                gradient = state.model.get_parameter(name).grad
                assert gradient is not None
                gradient.masked_fill_(~mask, 0.0)
            optimizer.step()
            schedule.step()
            loss_sum += float(loss.detach()) * len(index)
    return state.model, loss_sum / len(data.train)


def rates(t: Training, steps: int) -> list[float]:
    """The learning rate of each step, and of one more, by the formulas of the documentation."""
    found = []
    for step in range(t.epochs * steps + 1):
        drops = sum(step // steps >= milestone for milestone in t.milestones)
        warmup = int(t.warmup[:-2]) * (steps if t.warmup.endswith("ep") else 1)
        found.append(t.learning_rate * t.decay**drops * min(1.0, step / warmup if warmup else 1.0))
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_setting_trains_as_torchs_own_does(case: str) -> None:
    settings, make = CASES[case]
    t = replace(SHORT, learning_rate=0.05, **settings)
    data = Data(load.load(t.dataset, ""), t, CPU)
    others = replace(SHORT, learning_rate=0.05, optimizer=t.optimizer)
    state, plain = begun(t), begun(others)
    epochs = list(loop.train(state, data, t, ignore))
    model, loss = by_torch(t, data, make)
    assert epochs[-1].train_loss == pytest.approx(loss, rel=1e-3)
    for name, value in model.state_dict().items():
        assert torch.allclose(state.model.state_dict()[name].float(), value.float(), rtol=1e-3, atol=1e-4), name
    list(loop.train(plain, data, others, ignore))
    assert any(
        not torch.equal(one, two) for one, two in zip(state.model.parameters(), plain.model.parameters(), strict=True)
    )
    recorder, replayed = AsCudaDoes(), begun(t)
    list(loop.train(replayed, data, t, ignore, taking=lambda step: graphs.Recorded(step, recorder)))
    assert recorder.replayed
    for name, value in replayed.model.state_dict().items():
        assert torch.equal(value, state.model.state_dict()[name]), name


@pytest.mark.parametrize("decay", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("warmup", ["0ep", "12it", "3ep"])
def test_the_rate_of_a_step_is_that_of_torchs_schedulers(decay: float, warmup: str) -> None:
    t = replace(TRAINING, epochs=8, milestones=(2, 5), decay=decay, warmup=warmup)
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), t.learning_rate)
    drops = optim.lr_scheduler.MultiStepLR(optimizer, [2 * STEPS, 5 * STEPS], decay)
    steps = durations.steps(warmup, STEPS)
    for step in range(8 * STEPS):
        theirs = drops.get_last_lr()[0] * (min(1.0, step / steps) if steps else 1.0)
        assert loop.learning_rate(t, *divmod(step, STEPS), STEPS) == pytest.approx(theirs, rel=1e-14)
        optimizer.step()
        drops.step()


def test_warming_up_alone_is_torchs_linear_scheduler() -> None:
    t = replace(TRAINING, epochs=4, milestones=(), warmup="20it")
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), t.learning_rate)
    theirs = optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20))
    for step in range(4 * STEPS):
        assert loop.learning_rate(t, *divmod(step, STEPS), STEPS) == theirs.get_last_lr()[0]
        optimizer.step()
        theirs.step()


def test_the_rate_reaches_a_tensor_on_the_device() -> None:
    """The learning rate as a tensor, as for a fused optimizer in a recorded step."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = optim.SGD([parameter], torch.tensor(0.1))
    rate = optimizer.param_groups[0]["lr"]
    loop._set_rate(optimizer, 0.025)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("text", "canonical", "steps"), [("5", "5ep", 45), ("1EP", "1ep", 9), (" 500 it", "500it", 500), ("0it", "0ep", 0)]
)
def test_a_duration_has_one_form(text: str, canonical: str, steps: int) -> None:
    assert durations.read("warmup", text) == canonical
    assert durations.steps(canonical, STEPS) == steps


def test_a_setting_is_part_of_those_runs_alone_whose_optimizer_uses_it() -> None:
    base: dict[str, Any] = {**TINY, "optimizer": ["sgd", "adam"], "target_optimizer": ["sgd", "adam"]}
    plain, other = ({p.run for c in curves(define(**o)) for p in c.points} for o in (base, {**base, "momentum": 0.5}))
    assert {run.training.momentum for run in other if run.training.optimizer == "adam"} == {0.9}
    assert {run.training.momentum for run in other if run.training.optimizer == "sgd"} == {0.5}
    assert plain & other == {
        run
        for run in plain
        if run.training.optimizer == "adam" and (not run.chain or run.chain.training.optimizer == "adam")
    }
    assert all(Run.from_json(run.to_json()) == run for run in other)
