"""One run, from its ticket to its record: build the ticket, train it, record every epoch, prune, save. Section 3."""

import gc
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec
import torch

from engine.datasets.feed import Feed, open_feed
from engine.desk.desk import Desk, Sources
from engine.desk.job import Job
from engine.errors import InputError
from engine.machine import processes
from engine.models import catalog, flops, nets, trust
from engine.plan import durations
from engine.pruning import networks, pruner
from engine.recipes import Chain, Dense, Line, Profile, Rewind, Run, Training, Winning
from engine.store import records
from engine.store.files import LostFile
from engine.store.leases import Claim
from engine.tickets import starts
from engine.training import checkpoints, lines, loop, profiles, team

CPU = torch.device("cpu")
DATA_SETS_KEPT = 2  # a source and a target
CHECKPOINT_SECONDS = 60.0  # at most this much work is lost with a worker


class Stopped(Exception):
    """The worker was asked to stop. The run has a checkpoint and can be claimed again."""


class Missing(Exception):
    """A file that the run needs is lost. The run that made it must be trained again first."""

    def __init__(self, producer: Run, reason: str) -> None:
        super().__init__(reason)
        self.producer = producer


@dataclass
class UnderWay:
    """The present training, for other threads to read."""

    state: loop.State
    images: int  # of an epoch
    batch_size: int

    def __post_init__(self) -> None:
        self.began, self.first = time.monotonic(), self.seen()

    def seen(self) -> int:
        """The number of images processed since the first epoch, with repetitions."""
        return self.state.epoch * self.images + self._this_epoch()

    def _this_epoch(self) -> int:
        return min(self.state.step * self.batch_size, self.images)

    def progress(self) -> dict[str, float | None]:
        """The progress of the training, and the mean loss and accuracy over this epoch so far.

        Reading loss and accuracy waits for the device, but only in the calling thread; training continues.
        """
        seen = self._this_epoch()
        loss = float(self.state.loss_sum) / seen if seen else math.nan
        return {
            "epoch": self.state.epoch,
            "batch": self.state.step,
            "batches": math.ceil(self.images / self.batch_size),
            "loss": loss if math.isfinite(loss) else None,
            "accuracy": int(self.state.correct) / seen if seen else None,
        }


@dataclass
class Bench:
    """A device, the desk that its runs come from, and the data sets that it used last."""

    desk: Sources
    device: torch.device
    decoders: int = 1  # processes that decode images beside it, where they are streamed; of a whole team
    _data: dict[tuple[object, ...], Feed] = field(default_factory=dict, init=False)
    _read: set[tuple[str, str]] = field(default_factory=set, init=False)  # the files of this run, by run and kind

    def read(self, run: Run, kind: str) -> bytes:
        """The content of a file of `kind` of another run (see `tickets.start`). Raises Missing if it is lost."""
        self._read.add((run.digest, kind))
        try:
            return self.desk.read(run.digest, kind)
        except LostFile as error:
            if kind == "ticket":
                raise InputError(f"{error}, and no run here can make it again: queue the experiment again") from None
            raise Missing(run, str(error)) from None

    def place(self, profile: Profile) -> torch.device:
        """Where a run of this profile trains: an Apple GPU, which has no float64 and other rounding, is for `fast`."""
        return CPU if self.device.type == "mps" and profile == "exact" else self.device

    @property
    def prunes_on(self) -> torch.device:
        """Where masks are found: on the device, if it has float64."""
        return CPU if self.device.type == "mps" else self.device

    def data(self, configuration: Training, on: torch.device | None = None) -> Feed:
        """The data set of a training, kept for the next runs on it: where they train, or on another device."""
        c, device = configuration, on or self.place(configuration.profile)
        key = (c.dataset, c.augmentation, c.validation, c.test_images, device)
        if key not in self._data:
            location = self.desk.location(c.dataset)
            while len(self._data) >= DATA_SETS_KEPT:
                del self._data[next(iter(self._data))]
            self._data[key] = open_feed(location, c, device, max(1, self.decoders // c.split))
        return self._data[key]

    def free_memory(self) -> None:
        """Release the data sets kept on the device for the next run."""
        self._data.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass
class RunContext(Bench):
    """The device and the desk with which a worker trains its runs."""

    desk: Desk
    label: str = "cpu"  # what the device is called in the records
    stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    caught: Callable[[Claim, Exception], None] = lambda claim, error: None  # in a call that never returns: see `team`
    under_way: UnderWay | None = field(default=None, init=False)

    @property
    def seconds_between(self) -> float:
        """The least time between two checkpoints of a run."""
        return max(self.checkpoint_seconds, self.desk.checkpoint_seconds)


def execute(claim: Claim, context: RunContext) -> None:
    """Train a claimed run and record its result. Raises Stopped, StaleClaim, Untrusted, or the error that ended it."""
    run, desk = claim.run, context.desk
    device = context.place(run.training.profile)
    if run.chain is not None and run.ticket.level == 1:
        _prune_first(claim, context, run.chain)
    data, state, (whole, by_weight) = prepare(run, context)
    steps = math.ceil(len(data.train) / run.training.batch_size)
    attempt, spent = _resume(state, claim, context, steps)
    kept = pruner.remaining(state.masks)
    rules = nets.rules(state.model)
    layers = [
        records.Layer(name, kept[name], mask.numel(), rules[name], by_weight.get(name))
        for name, mask in state.masks.items()
    ]
    environment = {
        **profiles.environment(run.training.profile, device),
        "device": context.label if device == context.device else str(device),
    }
    desk.begin(claim, attempt, environment, layers, whole)

    if isinstance(run.ticket, Line):
        _connect(claim, context, run.ticket, data, state, _Clock(claim, attempt, spent, context, steps))
        return
    context.under_way = UnderWay(state, len(data.train), run.training.batch_size)
    clock = _Clock(claim, attempt, spent, context, steps)
    if isinstance(run.ticket, Dense) and run.ticket.rewind == state.epoch == state.step == 0:
        desk.keep(claim, "rewind", starts.pack_state(state.model))
    resumes = bool(state.epoch > run.first_epoch or state.step)
    caught, diverged = partial(context.caught, claim), None
    with team.lead(_followers(run, context, resumes), run.training.split, device, caught) as crew:
        clock.crew = crew
        if not resumes:
            untrained = loop.evaluate(state, data, data.test, run.training, clock.after_batch, crew)
            desk.untrained(claim, untrained.accuracy)
        for epoch in loop.train(state, data, loop.training_of(run), clock.after_batch, crew):
            desk.epoch(claim, attempt, epoch)
            if loop.has_diverged(epoch, state.model):
                diverged = epoch.epoch
                break
            if isinstance(run.ticket, Dense) and run.ticket.rewind == epoch.epoch + 1:
                desk.keep(claim, "rewind", starts.pack_state(state.model))
    if diverged is not None:
        desk.diverged(claim, diverged, clock.seconds())
    else:
        _prune(claim, context, state)
        read_at = _reading(desk.epochs(claim, attempt), run.training)
        memory = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
        desk.done(claim, read_at.test_accuracy, read_at.epoch, clock.seconds(), memory)
    desk.drop_checkpoint(claim)


def _connect(claim: Claim, context: RunContext, line: Line, data: Feed, state: loop.State, clock: "_Clock") -> None:
    """Evaluate the line between the ends of two trainings. The run's accuracy is the least on the line."""
    desk, training = context.desk, line.chain.training
    first, second = (starts.unpack_state(context.read(end, "final")) for end in line.ends)
    found = list(lines.along(state, data, training, (first, second), line.points, clock.after_batch))
    desk.line(claim, found)
    desk.done(claim, min(one.test_accuracy for one in found), None, clock.seconds(), None)
    desk.drop_checkpoint(claim)


def prepare(run: Run, bench: Bench) -> tuple[Feed, loop.State, tuple[int, dict[str, int]]]:
    """The data of a run, the state before its first step, on the device, and its FLOPs (`engine.models.flops`)."""
    device = bench.place(run.training.profile)
    bench._read.clear()
    profiles.configure(run.training.profile, device)
    if device.type == "cuda":  # what this run will have reserved is measured, not what others left
        gc.collect()  # importing torch's compiler keeps the frames of the run that needed it first
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    data, t = bench.data(run.training), run.training
    catalog.check_batches(t.model, len(data.train), t.batch_size, data.shape, t.split)
    folder = bench.desk.model_folder(run.training.model)
    trust.require(run.training.model, folder)
    model, masks = starts.start(run, data.shape, data.classes, bench.read, folder)
    counted = flops.count(model, data.shape)
    return data, loop.begin(model, masks, loop.training_of(run), device, run.first_epoch, run.ticket.level), counted


def _followers(run: Run, context: RunContext, resumes: bool) -> list[str]:
    """The command that starts the followers of a split run (`engine.workers.follower`)."""
    if run.training.split == 1:
        return []
    desk, t = context.desk, run.training
    files = {f"{digest} {kind}": desk.kept(digest, kind) or "" for digest, kind in context._read}
    work = Job(
        run.to_json(), desk.location(t.dataset), desk.model_folder(t.model), files, str(desk.folder.path), resumes
    )
    command = [*processes.python("engine.workers.follower"), "--job", msgspec.json.encode(work).decode()]
    return [*command, "--parent", str(os.getpid()), "--decoders", str(context.decoders)]


def _is_past(rewind: Rewind, epoch: int, step: int, steps: int) -> bool:
    """Whether a state has reached the rewind point; an epoch has `steps` steps."""
    return rewind <= epoch if isinstance(rewind, int) else durations.steps(rewind, steps) <= epoch * steps + step


def _resume(state: loop.State, claim: Claim, context: RunContext, steps: int) -> tuple[int, float]:
    """Resume from the checkpoint of the last attempt if it can be used, else begin another attempt.

    A checkpoint must be undamaged (else the log names it) and of the same masks, and the database must hold all epochs
    before it. Epochs may be missing after a power cut, or if someone deleted the database but not its files. Masks may
    differ if a lost mask was made again on another device. In `exact`, device and versions must be the same too.
    """
    run, desk, begin_again = claim.run, context.desk, (claim.attempt + 1, 0.0)
    try:
        data = desk.read_checkpoint(claim) if claim.attempt else None
        if data is None:
            return begin_again
        left = checkpoints.unpack(data)
    except (InputError, LostFile) as damage:
        processes.say(f"run {run.digest} starts over: {damage}")
        return begin_again
    where = profiles.where(run.training.profile, context.place(run.training.profile))
    if where and left.where not in ("", where):  # earlier versions did not say
        processes.say(f"run {run.digest} starts over: it was trained on {left.where}, this is {where}")
        return begin_again
    recorded = {epoch.epoch for epoch in desk.epochs(claim, claim.attempt)}
    complete = recorded >= set(range(run.first_epoch, left.epoch))
    if isinstance(run.ticket, Dense) and _is_past(run.ticket.rewind, left.epoch, left.step, steps):
        complete &= desk.kept(run.digest, "rewind") is not None
    if not complete or (left.digest, left.attempt) != (run.digest, claim.attempt) or not left.fits(state.masks):
        return begin_again
    left.restore(state)
    return claim.attempt, left.seconds


@dataclass
class _Clock:
    """Measures the time of a run and saves its checkpoints."""

    claim: Claim
    attempt: int
    spent: float
    context: RunContext
    steps: int  # of an epoch
    crew: team.Team = loop.ALONE

    def __post_init__(self) -> None:
        self.began = self.saved = time.monotonic()
        rewind = getattr(self.claim.run.ticket, "rewind", None)  # epochs: see `execute`
        self.rewind = durations.steps(rewind, self.steps) if isinstance(rewind, str) else 0

    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.began

    def after_batch(self, state: loop.State) -> None:
        """Keep the state at the rewind point, save a checkpoint if one is due, and stop if the worker was asked to.

        Raises RankLost or MemoryError if another process that trains the run has failed.
        """
        self.crew.check()
        if self.rewind and self.rewind == state.epoch * self.steps + state.step:
            self.context.desk.keep(self.claim, "rewind", starts.pack_state(state.model))
            self.rewind = 0
        stop = self.context.stop()
        if stop or time.monotonic() - self.saved >= self.context.seconds_between:
            run = self.claim.run
            where = profiles.where(run.training.profile, self.context.place(run.training.profile))
            data = checkpoints.pack(state, run.digest, self.attempt, self.seconds(), where)
            self.context.desk.write_checkpoint(self.claim, data)
            self.saved = time.monotonic()
        if stop:
            raise Stopped


def _prune(claim: Claim, context: RunContext, state: loop.State) -> None:
    """Store the final weights if they are wanted, and the next level's mask if the run is a link of its chain."""
    run = claim.run
    goes_on = run.is_link and run.chain is not None and run.chain.rule.retrain != "rewind"
    if isinstance(run.ticket, Dense) or goes_on or context.desk.keeps_final(claim):
        context.desk.keep(claim, "final", starts.pack_state(state.model))
    if isinstance(run.ticket, Winning) and run.is_link:
        chain, level, on = run.ticket.chain, run.ticket.level + 1, context.prunes_on
        names = nets.prunable(state.model, chain.rule.prunable)
        weights = {name: state.model.get_parameter(name).to(on) for name in names}
        masks = {name: mask.to(on) for name, mask in state.masks.items()}
        look = partial(_network, context, chain)
        mask = starts.mask_after(chain, level, weights, masks, context.read, state.model.state_dict, look)
        context.desk.keep(claim, "mask", mask)


def _prune_first(claim: Claim, context: RunContext, chain: Chain) -> None:
    """Store the mask of level 1 of a chain, if no earlier run did.

    If another run stores one meanwhile, that mask counts: on another device a criterion may find a different mask.
    """
    desk, (producer, kind) = context.desk, chain.mask_of(1)
    stored = desk.kept(producer.digest, kind)
    if not desk.is_whole(stored):
        layers = desk.layers(producer.digest, chain.rule.prunable)
        mask = starts.first_mask(chain, layers, context.read, partial(_network, context, chain))
        desk.keep(claim, kind, mask, producer.digest, stored)


def _network(
    context: RunContext, chain: Chain, state: Mapping[str, torch.Tensor], layers: Iterable[str]
) -> networks.Network:
    """A network of a chain in a state, with the batches for its criterion: the first of the chain's training."""
    t, device = chain.training, context.prunes_on
    profiles.configure(t.profile, device)
    data = context.data(t, device)
    folder = context.desk.model_folder(t.model)
    trust.require(t.model, folder)
    model = nets.build(t.model, t.width, data.shape, data.classes, folder)
    model.load_state_dict(state)
    order = loop.order_seed(t, 0)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        every = itertools.chain.from_iterable(data.epoch(order, epoch, 0, t.batch_size) for epoch in itertools.count())
        for pixels, labels in itertools.islice(every, chain.rule.prune_batches):
            yield data.normalised(pixels, torch.contiguous_format), labels

    return networks.Network(model.to(device), layers, data.shape, batches)


def _reading(epochs: list[records.Epoch], configuration: Training) -> records.Epoch:
    """The epoch whose test accuracy counts for the run: the last, or the one with the best validation accuracy."""
    if configuration.validation:
        return max(epochs, key=lambda epoch: (epoch.validation_accuracy or 0.0, -epoch.epoch))
    return epochs[-1]
