"""Checks that an experiment can be trained, and that it uses every option that was requested. No torch."""

from collections.abc import Collection, Iterable, Sequence
from itertools import product
from typing import Any, Literal, get_args

from msgspec import structs

from engine.datasets import classes
from engine.datasets.catalog import DataSet
from engine.errors import InputError, OptionName, Range, concerning
from engine.machine import processes
from engine.models import catalog as models
from engine.models import user_model
from engine.plan import durations, number_lists
from engine.plan.definitions import LEARNING_RATES, Definition, evaluation_levels, evaluation_rule, rewind_of
from engine.plan.optimizers import SETTINGS
from engine.plan.options import OPTIONS
from engine.pruning.counts import of_group
from engine.pruning.criteria import OF_TRAINING, sees_images
from engine.recipes import DEFAULT_RULE, Prunable, Rule
from engine.tickets import ticketfiles

RULES = get_args(Prunable)
KEEPING_MASKS = ("preserved", "shuffled", "constant-sign")  # kinds of random tickets that keep a chain's masks
UNEVALUATED = "no ticket is trained on another data set, and none compared with a random ticket"


class Unused(InputError):
    """An option was given that an experiment does not use."""


def not_theirs(option: str, value: object, theirs: object) -> InputError:
    """The error for a value that differs from `theirs`, the value of ticket files that are the only sources."""
    return unused(option, value, f"the sources are ticket files alone, whose own is {theirs}")


def unused(option: str, value: object, *why: str) -> InputError:
    """The error for a value of an option that does not change an experiment, and `why` not."""
    return Unused(OptionName(option), f" {value} is not used: ", why, ": leave it out", value=value)


WITHOUT_MILESTONES = ("cosine", "constant")
_OF_BATCH_NORM: Sequence[tuple[str, Literal["batch norm", "batch-norm statistics"]]] = (
    ("rewinds", "batch-norm statistics"),
    ("batch_norm", "batch norm"),
)


def without_unused(d: Definition, requested: Collection[str]) -> Definition:
    """`d` with all options that it does not use at their defaults. Raises Unused if one of those was requested."""
    why_not: dict[str, Any] = {}
    if not uses_evaluate(d):
        why_not["evaluate"] = UNEVALUATED
    for name, what in _OF_BATCH_NORM:
        if getattr(d, name) != OPTIONS[name].default and not _has(d, what):
            why_not[name] = f"{d.model.partition('@')[0]} has no {what}"
    why_not |= _of_others(d)
    if d.sources and d.prune_batches != DEFAULT_RULE.prune_batches and not sees_images(d.criterion):
        why_not["prune_batches"] = f"criterion {d.criterion} sees no images"
    for name, why in why_not.items():
        if name in requested:
            raise unused(name, _written(d, name), why)
        if name == "evaluate":
            levels = ",".join(str(ticket.level) for ticket in d.tickets) if not d.sources else OPTIONS[name].default
            d = structs.replace(d, evaluate=evaluation_levels(levels, d.levels))
        elif name == "milestones":
            d = structs.replace(d, milestones=models_own(d))
        else:
            d = structs.replace(d, **{name: OPTIONS[name].default})
    return d


def models_own(d: Definition) -> tuple[int, ...]:
    """The milestones of the experiment's model, scaled to its epochs."""
    return models.find(d.model).milestones_for(d.epochs)


def _of_others(d: Definition) -> dict[str, str]:
    """The reasons why options that differ from their defaults are not used, by option."""
    reasons: dict[str, str] = {}
    used = {*d.target_optimizers, *(d.optimizers if d.sources else ())}
    for name in sorted({name for names in SETTINGS.values() for name in names}):
        theirs = [optimizer for optimizer, names in SETTINGS.items() if name in names]
        if getattr(d, name) != OPTIONS[name].default and not used & set(theirs):
            reasons[name] = f"no network is trained with {' or '.join(theirs)}"
    if d.lr_schedule in WITHOUT_MILESTONES:
        changed = {"milestones": d.milestones != models_own(d), "decay": d.decay != OPTIONS["decay"].default}
        reasons |= {name: f"the learning rate is {d.lr_schedule}" for name, differs in changed.items() if differs}
    elif d.decay != OPTIONS["decay"].default and not d.milestones and d.lr_schedule == "step":
        reasons["decay"] = "the learning rate has no milestone"
    if d.head != DEFAULT_RULE.head and not (d.levels or d.tickets or _transfers(d)):
        reasons["head"] = "no ticket is trained"
    if d.connect and not d.sources:
        reasons["connect"] = "the sources are ticket files alone, which have no chain here"
    if d.reshuffle_levels and not d.levels:
        reasons["reshuffle_levels"] = "no level is above 0"
    return reasons


def _written(d: Definition, name: str) -> object:
    """The value of an option as users write it."""
    value = getattr(d, name)
    if name == "evaluate":
        return evaluation_rule(value, d.levels)
    return number_lists.written(value) if isinstance(value, tuple) else value


def uses_evaluate(d: Definition) -> bool:
    """Whether a curve has the evaluated levels: one of transferred or random tickets, or of lines."""
    return _transfers(d) or bool(d.connect) or bool(d.random and (d.sources or d.prunable == "conv"))


def _transfers(d: Definition) -> bool:
    """Whether a ticket is trained on another data set, or with another optimizer, than it was found."""
    ends = (set(product(d.sources, d.optimizers)), set(product(d.targets, d.target_optimizers)))
    return len(ends[0] | ends[1]) > 1 and bool(d.sources)


def checked(d: Definition) -> Definition:
    """Return `d` if it can be trained. Raises InputError if values do not fit each other or the data."""
    ticketfiles.check(d.tickets, model=d.model, width=d.width, prune_rate=d.rate, prunable=d.prunable)
    if d.tickets and d.schedule == "continue":
        why = " does not go with a ticket file, which is trained from the start of the schedule: leave it out"
        raise InputError(OptionName("schedule"), f" {d.schedule}", why)
    _check_shapes(d)
    _check_pruning(d)
    _check_numbers(d)
    _check_rewinds(d)
    if d.prune_at == "init" and d.criterion in OF_TRAINING:
        why = f" {d.criterion} compares weights before and after training: give "
        raise InputError(OptionName("criterion"), why, OptionName("prune_at"), " end, or another criterion")
    _check_classes(d)
    _check_head(d)
    images = {data: classes.trained_on(data, d.validation) for data in d.sources + d.targets}
    _check_rates(d, images.values())
    for data, count in images.items():
        if count is not None:  # else `engine.workers.run.prepare` checks it
            models.check_batches(d.model, count, d.batch_size, data.shape, d.split)
    if user_model.is_own(d.model):
        _examined(d)
        if files := [ticket.location for ticket in d.tickets if ticket.location]:
            processes.ask(list[bool], "engine.results.ticket_export", "compare", d.model_folder, *files)
    return d


def _examined(d: Definition) -> models.NetworkFacts:
    """The facts of a user model, from building it in a separate process. Raises InputError if it cannot be trained."""
    images = {data: classes.trained_on(data, d.validation) for data in d.sources + d.targets}
    ends = [models.End.of(data, count, d.batch_size) for data, count in images.items()]
    with concerning("model"):
        return models.examine(d.model, d.width, tuple(dict.fromkeys(ends)), d.prunable, d.model_folder, d.init)


def _has(d: Definition, what: Literal["batch norm", "batch-norm statistics"]) -> bool:
    """Whether the network has batch-norm layers, or buffers such as their statistics, which a ticket carries."""
    if not user_model.is_own(d.model):
        return models.find(d.model).batch_norm
    facts = _examined(d)
    return facts.batch_norm if what == "batch norm" else facts.buffers


def _check_shapes(d: Definition) -> None:
    """Raise InputError if one ticket cannot fit all images, or the model cannot take them."""
    (first, *_), pooled = d.sources + d.tickets, models.find(d.model).pooled
    for other in d.sources + d.tickets + d.targets:
        if other.shape[0] != first.shape[0] or (other.shape != first.shape and not pooled):
            why = (
                f"{d.model} does not end in a global average pool, so its ticket fits only images of the size"
                if not pooled
                else "a ticket fits only images of as many channels as those"
            )
            raise InputError(
                f"images of {first.name} are {_size(first.shape)} but those of {other.name} {_size(other.shape)}"
                f" (channels x height x width, as networks see them): {why} it was found on"
            )
        models.check(d.model, d.width, other.shape)


def _check_pruning(d: Definition) -> None:
    """Raise InputError if the model has no prunable layer, or options of pruning contradict each other."""
    own, prunable = models.find(d.model).prunable, OptionName("prunable")
    if RULES.index(d.prunable) < RULES.index(own):
        raise InputError(prunable, f" {d.prunable} prunes no hidden layer of {d.model}: give {own}")
    if d.retrain != DEFAULT_RULE.retrain and d.prune_at == "init":
        why = f" {d.retrain} keeps the weights of training: give "
        raise InputError(OptionName("retrain"), why, OptionName("prune_at"), " end, or retrain rewind")
    _check_granularity(d)
    shares = [scope for scope in d.scopes if scope in ("erk", "uniform+")]
    if shares and isinstance(d.rate, str):
        why = f" {d.rate} does not go with "
        raise InputError(OptionName("prune_rate"), why, OptionName("scope"), f" {shares[0]}: give one rate")


def _check_granularity(d: Definition) -> None:
    """Raise InputError if the granularity contradicts another option of pruning."""
    name, rule = OptionName("granularity"), Rule(rate=d.rate, granularity=d.granularity)
    if d.granularity == DEFAULT_RULE.granularity:
        return
    if d.granularity == "filter" and d.prunable != "conv":
        raise InputError(name, " filter prunes convolutions: give ", OptionName("prunable"), " conv")
    for scope in d.scopes:
        if scope in ("erk", "uniform+") or (rule.pattern and scope != "global"):
            raise InputError(OptionName("scope"), f" {scope} does not go with ", name, f" {d.granularity}: give global")
    if others := [kind for kind in d.random if kind not in KEEPING_MASKS]:
        why = f" {others[0]} does not keep the structure of "
        raise InputError(OptionName("random"), why, name, f" {d.granularity}: give {' or '.join(KEEPING_MASKS)}")
    if rule.pattern:
        (few, many), levels = rule.pattern, OptionName("levels")
        if isinstance(d.rate, str):
            raise InputError(OptionName("prune_rate"), f" {d.rate} does not go with ", name, ": give one rate")
        last = next((level for level in range(d.levels) if of_group(rule, level) == few), None)
        if last is not None:
            why = f" {d.levels} is more than {last}, at which {few} of {many} weights remain: give {last} or fewer"
            raise InputError(levels, why)


def _check_numbers(d: Definition) -> None:
    """Raise InputError if a number does not fit the data or another option."""
    if d.test_images is not None:
        for data in d.sources + d.targets:
            why = f"at least one of each class of data set {data.name}"
            Range(data.classes).check(OptionName("test_images"), d.test_images, why)
    if d.connect in (1, 2):
        why = f" {d.connect} leaves no network between the ends: give 3 or more, or 0 for none"
        raise InputError(OptionName("connect"), why)
    split = OptionName("split")
    Range(1, d.batch_size // 2).check(split, d.split, "each device needs two images of a batch")
    if d.batch_norm == "whole" and d.split == 1:
        why = " whole is for batches that are split over devices: say how many with "
        raise InputError(OptionName("batch_norm"), why, split)
    others = [name for name in d.optimizers + d.target_optimizers if name not in LEARNING_RATES]
    if others and d.learning_rate is None:
        raise InputError(f"optimizer {others[0]!r} has no learning rate of its own: give ", OptionName("learning_rate"))


def _check_rates(d: Definition, images: Iterable[int | None]) -> None:
    """Raise InputError if options of the learning rate or momentum contradict each other or never take effect."""
    epochs = OptionName("epochs")
    if d.nesterov and not d.momentum:
        raise InputError(OptionName("nesterov"), " needs momentum: give ", OptionName("momentum"), " above 0")
    if d.milestones != models_own(d) and d.milestones and d.milestones[-1] >= d.epochs:
        why = f" {number_lists.written(d.milestones)} names an epoch that is not trained: give less than "
        raise InputError(OptionName("milestones"), why, epochs, f" {d.epochs}")
    for count in images:
        # If the number of images is not known yet, an epoch has at least one step.
        of_an_epoch = 1 if count is None else -(-count // d.batch_size)
        whole = d.epochs * of_an_epoch
        if durations.steps(d.warmup, of_an_epoch) >= whole and (count is not None or d.warmup.endswith("ep")):
            never, most = f" {d.warmup} never ends: give less than ", f" {d.epochs} ({whole} steps)"
            raise InputError(OptionName("warmup"), never, epochs, most)


def _check_classes(d: Definition) -> None:
    """Raise InputError if a part of a data set has no training image of a class, or none after validation.

    Data sets whose facts come from the database were checked when they were first queued.
    """
    for data in (data for data in d.sources + d.targets if data.counts):
        counts = classes.of_part(data.counts or (), data.part)
        label, images = min(enumerate(counts), key=lambda one: one[1])
        of = f"class {label} of data set {data.name}"
        if not images:
            raise InputError(f"no training image is left of {of}: take the whole set, or give the class more images")
        if d.validation and images <= classes.held_out(images, d.validation):
            why = f" {d.validation:g} leaves no training image of {of}, which has {images}"
            raise InputError(OptionName("validation"), why, ": leave it out, or give the class more images")


def _check_head(d: Definition) -> None:
    """Raise InputError if the output layer must be carried to a data set with another number of classes."""
    for one, target in product(d.sources + d.tickets, d.targets):
        if d.head == "carry" and one.classes not in (None, target.classes):
            why = f" carry is impossible: {one.name} has {one.classes} classes, {target.name} {target.classes}: give "
            raise InputError(OptionName("head"), why, "auto or fresh")


def _check_rewinds(d: Definition) -> None:
    """Raise InputError if the rewind point is not within the training, or leaves nothing to train."""
    name, epochs = OptionName("rewind"), OptionName("epochs")
    for data in d.sources + d.targets:
        rewind = rewind_of(d, data)
        if isinstance(rewind, str):
            _check_steps(d, data, rewind)
            continue
        own = "" if d.rewind is not None else f"; {rewind} is the paper's for {data.name}"
        Range(0, d.epochs).check(name, rewind, "at most ", epochs, own)
        if d.schedule == "continue" and rewind >= d.epochs:
            why = " continue leaves nothing to train: "
            raise InputError(OptionName("schedule"), why, name, f" {rewind} is the last of {d.epochs} epochs")


def _check_steps(d: Definition, data: DataSet, rewind: str) -> None:
    """Raise InputError if the rewind step is not within the training, or training would start within an epoch."""
    name, images = OptionName("rewind"), classes.trained_on(data, d.validation)
    if d.schedule == "continue":
        why = f" continue starts with a whole epoch, not after {rewind}: give "
        raise InputError(OptionName("schedule"), why, name, " in epochs")
    if images is not None and int(rewind[:-2]) > (most := d.epochs * -(-images // d.batch_size)):
        raise InputError(name, f" {rewind} is out of range: {data.name} is trained for {most} steps")


def _size(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
