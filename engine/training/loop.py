"""The hot loop: trains one network under a mask."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional as F

from engine import streams
from engine.datasets.feed import Feed, Images
from engine.plan import durations
from engine.plan.optimizers import SCHEDULES
from engine.pruning.pruner import Masks
from engine.recipes import Run, Training
from engine.store.records import Epoch
from engine.training import graphs, optimizers, profiles
from engine.training.team import Team, synchronised

EVALUATION_BATCH = {
    "cuda": 1000,
    "mps": 1000,
    "cpu": 250,
}  # images; what a layer makes of more does not fit a core's cache
SMALL_PIXELS = 32 * 32  # of an image; of larger ones no more are evaluated at once than are trained on
TOP5_CLASSES = 10  # from which top-5 accuracy says something
ALONE = Team()


@dataclass
class State:
    """An unfinished training: all that the next step depends on. `step` counts the finished batches of `epoch`."""

    model: nn.Module
    masks: Masks  # by parameter name; a parameter without one is not pruned
    optimizer: torch.optim.Optimizer
    epoch: int
    step: int
    order: int  # the seed of the order and augmentation of images
    loss_sum: Tensor  # over the images of this epoch so far
    correct: Tensor  # int64, likewise


def begin(
    model: nn.Module, masks: Masks, training: Training, device: torch.device, first_epoch: int = 0, level: int = 0
) -> State:
    """The state before the first step: the model on its device, pruned weights at 0, and a fresh optimizer."""
    model = synchronised(model, training, device)
    model.to(device, memory_format=profiles.memory_format(training.profile))  # type: ignore[call-overload]
    masks = {name: mask.to(device) for name, mask in masks.items()}
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).masked_fill_(~mask, 0.0)
    zero = torch.zeros((), dtype=profiles.sums(device), device=device)
    fused = device if device.type == "cuda" and training.profile == "fast" else None
    optimizer = optimizers.make(training, model, fused)
    return State(model, masks, optimizer, first_epoch, 0, order_seed(training, level), zero, zero.long())


def order_seed(training: Training, level: int) -> int:
    """The seed of the order and augmentation of images at a level."""
    seed = training.seed if training.data_seed is None else training.data_seed
    return streams.key("level", seed, level) if training.reshuffle_levels and level else seed


def learning_rate(training: Training, epoch: int, step: int = 0, steps: int = 1) -> float:
    """The learning rate of step `step` of an epoch with `steps` steps; a pure function.

    During warm-up, which starts at 0, the schedule's rate is multiplied by the finished fraction of the warm-up
    (Frankle and Carbin 2019, appendix I).
    """
    rate = float(SCHEDULES.load(training.lr_schedule)(training, epoch))
    warmup = durations.steps(training.warmup, steps)
    taken = epoch * steps + step
    return rate * (taken / warmup) if taken < warmup else rate


def training_of(run: Run) -> Training:
    """The training of a run: its recipe's, or, for fine-tuning, the same at its last learning rate throughout."""
    if not run.is_fine_tuned:
        return run.training
    t = replace(run.training, warmup=durations.NOTHING)
    return replace(t, learning_rate=learning_rate(t, t.epochs - 1), lr_schedule="constant")


def train(
    state: State,
    data: Feed,
    training: Training,
    after_batch: Callable[[State], None],
    team: Team = ALONE,
    taking: Callable[[graphs.Step], graphs.Step] | None = None,
) -> Iterator[Epoch]:
    """Train from `state` to the last epoch, and yield the record of each epoch.

    A pruned weight, its gradient and its optimizer state are exactly 0 after every step: the weight starts at 0 and
    its gradient is masked, so momentum, decay and Adam's moments have nothing to move. The last, shorter batch is
    trained on like the others. `after_batch` is called after every batch, of training and of evaluation. It may raise
    to stop, which leaves the state after a whole step. Each process of a `team` trains on its share of each batch.
    `taking` decides how steps are taken; its default is `graphs.chosen`.
    """
    size, count = training.batch_size, len(data.train)
    steps = math.ceil(count / size)
    warmup = durations.steps(training.warmup, steps)
    take = (taking or graphs.chosen(training, data.device, team))(_Step(state, data, training, team))
    while state.epoch < training.epochs:
        _set_rate(state.optimizer, learning_rate(training, state.epoch, state.step, steps))
        state.model.train()
        began, first = time.perf_counter(), state.step * size
        for pixels, labels in data.epoch(state.order, state.epoch, first, size, team.share):
            if state.epoch * steps + state.step <= warmup:
                _set_rate(state.optimizer, learning_rate(training, state.epoch, state.step, steps))
            take(pixels, labels, min(size, count - state.step * size))
            state.step += 1
            after_batch(state)
        loss_mean = float(state.loss_sum) / count  # the first time that the host waits for the device
        seconds = time.perf_counter() - began
        held_out = data.validation and evaluate(state, data, data.validation, training, after_batch, team)
        tested = evaluate(state, data, data.test, training, after_batch, team)
        record = Epoch(
            epoch=state.epoch,
            train_loss=_finite(loss_mean),
            train_accuracy=int(state.correct) / count,
            validation_accuracy=held_out.accuracy if held_out else None,
            test_accuracy=tested.accuracy,
            learning_rate=learning_rate(training, state.epoch, steps - 1, steps),
            images_per_second=(count - first) / seconds if first < count else None,
            validation_loss=held_out.loss if held_out else None,
            test_loss=tested.loss,
            test_top5=tested.top5,
        )
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum.zero_()
        state.correct.zero_()
        yield record


class _Step:
    """One step of training: forward, backward, mask, optimizer. It changes only tensors, and those in place."""

    def __init__(self, state: State, data: Feed, training: Training, team: Team) -> None:
        self.state, self.data, self.training, self.team = state, data, training, team
        self.replica = team.replica(state.model, data.device)
        self.layout = profiles.memory_format(training.profile)
        pruned = [(state.model.get_parameter(name), mask) for name, mask in state.masks.items()]
        # Laid out like the gradients.
        self.factors = [(weight, torch.empty_like(weight).copy_(mask)) for weight, mask in pruned]

    def __call__(self, pixels: Tensor, labels: Tensor, whole: int) -> None:
        """Train on images (B, C, H, W) uint8 with labels (B,), a part of a batch of `whole` images."""
        state, team = self.state, self.team
        state.optimizer.zero_grad()
        with profiles.autocast(self.training.profile, self.data.device):
            logits = self.replica(self.data.normalised(pixels, self.layout))
            loss = F.cross_entropy(logits, labels, label_smoothing=self.training.label_smoothing)
        team.weighed(loss, len(labels), whole).backward()  # type: ignore[no-untyped-call]
        for weight, factor in self.factors:
            assert weight.grad is not None
            weight.grad.mul_(factor)
        state.optimizer.step()
        loss_sum, correct = team.total(loss.detach() * len(labels), (logits.detach().argmax(1) == labels).sum())
        state.loss_sum += loss_sum
        state.correct += correct


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class Evaluation(NamedTuple):
    """The result of classifying images: the fraction classified correctly, and the mean cross-entropy.

    `loss` uses no label smoothing and is None if it is not finite. `top5` is the fraction of images whose label is
    among the five highest logits, with ties going to the lower class; None for fewer than ten classes.
    """

    accuracy: float
    loss: float | None
    top5: float | None


@torch.no_grad()
def evaluate(
    state: State,
    data: Feed,
    images: Images,
    training: Training,
    after_batch: Callable[[State], None],
    team: Team = ALONE,
) -> Evaluation:
    """Classify `images` in evaluation mode. `after_batch` is called after every batch and may raise to stop."""
    model, layout = state.model.eval(), profiles.memory_format(training.profile)
    zero = torch.zeros((), dtype=torch.int64, device=data.device)
    correct, among5, loss_sum = zero, zero, zero.to(profiles.sums(data.device))
    _, height, width = data.shape
    size = EVALUATION_BATCH[data.device.type]
    if height * width > SMALL_PIXELS:
        size = min(size, training.batch_size)
    team.agree(model)
    for pixels, labels in images.batches(size, team.share):
        with profiles.autocast(training.profile, data.device):
            logits = model(data.normalised(pixels, layout))
        loss_sum = loss_sum + F.cross_entropy(logits.float(), labels, reduction="sum")
        correct = correct + (logits.argmax(1) == labels).sum()
        if data.classes >= TOP5_CLASSES:
            among5 = among5 + (_rank(logits, labels) < 5).sum()
        after_batch(state)
    count = len(images)
    right, five, loss = (float(total) / count for total in team.total(correct, among5, loss_sum))
    return Evaluation(right, _finite(loss), five if data.classes >= TOP5_CLASSES else None)


def _rank(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of classes ranked before each image's label (B,), by logits (B, C); ties go to the lower class."""
    own, index = logits.gather(1, labels[:, None]), torch.arange(logits.shape[1], device=logits.device)
    return ((logits > own) | ((logits == own) & (index < labels[:, None]))).sum(1)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def has_diverged(epoch: Epoch, model: nn.Module) -> bool:
    """Whether the loss of an epoch, or a parameter after it, is not finite. All processes of a team agree."""
    return epoch.train_loss is None or not all(bool(torch.isfinite(value).all()) for value in model.parameters())
