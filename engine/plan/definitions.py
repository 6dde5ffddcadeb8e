"""What an experiment is: options become a `Definition`, every default explicit and checked. No torch here."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, TypeVar, get_args

import msgspec

from engine.datasets import classes
from engine.datasets.catalog import AUGMENTATIONS, DataSet, first, spec_of, split_part, steps_of
from engine.datasets.specs import resolve
from engine.errors import InputError, Range, chosen, quoted
from engine.machine import devices, processes
from engine.models import catalog as models
from engine.models import trust, user_model
from engine.recipes import (
    BatchNorm,
    Count,
    Epochs,
    Factor,
    Level,
    MaskKind,
    Optimizer,
    Profile,
    Prunable,
    Rate,
    Rewinds,
    Rule,
    Schedule,
    Scope,
    Seed,
    Size,
)
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import SPEC, TicketSource

LEARNING_RATES = {"sgd": 0.1, "adam": 3e-4, "adamw": 3e-4}  # the paper's section 3 and A.1
REWINDS = {"imagenet": 3, "places365": 3}  # epochs of late resetting, by data set (A.1); of all others 1
LEVELS = Range(0, 200)
NUMBERS = {
    "--epochs": Range(1, 100_000),
    "--replicates": Range(1, 1000),
    "--seed": Range(0, 2**62),
    "--batch-size": Range(2, 1_000_000),
    "--prune-rate": Range(above=0, below=1),
    "--validation": Range(0, 0.5),
    "--learning-rate": Range(above=0),
    "--weight-decay": Range(0),
}


# What `from_json` lets in; what a person may ask for is narrower.
Few = Annotated[int, msgspec.Meta(ge=0, le=1000)]
_Choice = TypeVar("_Choice")
Some = Annotated[tuple[_Choice, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """An experiment with every default resolved. Tuples hold alternatives: each combination is a curve."""

    sources: tuple[DataSet, ...]
    targets: tuple[DataSet, ...]
    model: str
    width: Size
    optimizers: Some[Optimizer]  # of the sources' trainings
    target_optimizers: Some[Optimizer]
    learning_rate: Factor | None  # None: the optimizer's own (LEARNING_RATES)
    weight_decay: Factor
    scopes: Some[Scope]
    random: tuple[MaskKind, ...]
    levels: Few
    evaluate: tuple[Level, ...]
    rate: Rate
    rewind: Epochs | None  # None: the data set's own (REWINDS)
    prunable: Prunable
    rewinds: Rewinds
    schedule: Schedule
    epochs: Epochs
    milestones: tuple[Epochs, ...]
    batch_size: Count
    augmentation: str
    validation: Rate
    replicates: Few
    seed: Seed
    profile: Profile
    tickets: tuple[TicketSource, ...] = ()  # sources that are files
    split: Count = 1
    batch_norm: BatchNorm = "part"
    test_images: Count | None = None  # None: all of each data set
    model_folder: str = ""  # where the source of a person's own model lies

    def to_json(self) -> str:
        """What makes two definitions the same: all but where on this machine data and source lie."""
        found: dict[str, Any] = dict(vars(self))
        del found["model_folder"]
        for key in ("sources", "targets"):
            found[key] = [{"name": data.name, "identity": data.identity} for data in found[key]]
        tickets = [asdict(replace(ticket, location="")) for ticket in found.pop("tickets")]
        found |= {"tickets": tickets} if tickets else {}
        return json.dumps(found, sort_keys=True)

    @staticmethod
    def from_json(text: str, data_set: Callable[[str, str], DataSet]) -> "Definition":
        """The definition that `to_json` wrote; `data_set` gives the data set of a name and an identity.

        Raises ValueError for anything else.
        """
        found = decoded(text)
        for key in ("sources", "targets"):
            found[key] = [data_set(data["name"], data["identity"]) for data in found[key]]
        tickets = [TicketSource(**{**t, "shape": tuple(t["shape"])}) for t in found.pop("tickets", ())]
        found["tickets"] = tickets
        for key, value in found.items():
            found[key] = tuple(value) if isinstance(value, list) else value
        return Definition(**found)


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    """A data set in the JSON of a definition."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    identity: Annotated[str, msgspec.Meta(min_length=1)]


class _Ends(msgspec.Struct):
    """What a definition holds otherwise in JSON."""

    sources: list[_Named]
    targets: Annotated[list[_Named], msgspec.Meta(min_length=1)]


def decoded(text: str) -> dict[str, Any]:
    """What `Definition.to_json` wrote, checked and as it was written. Raises ValueError for anything else."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if unknown := found.keys() - {field.name for field in fields(Definition)}:
        raise ValueError(f"unknown keys {quoted(sorted(unknown))}")
    msgspec.convert(found, _Ends)
    msgspec.convert({**found, "sources": (), "targets": ()}, Definition)
    if not found["sources"] and not found.get("tickets"):
        raise ValueError("it has no source")
    return found


def define(
    *,
    source: Sequence[str],
    target: Sequence[str] = (),
    model: str | None = None,
    width: float | None = None,
    optimizer: Sequence[str] = (),
    target_optimizer: Sequence[str] = (),
    learning_rate: float | None = None,
    weight_decay: float = 1e-4,
    scope: Sequence[str] = ("global",),
    random: Sequence[str] = ("global",),
    levels: int = 30,
    evaluate: str = "paper",
    prune_rate: float | None = None,
    rewind: int | None = None,
    prunable: str = "conv",
    rewinds: str = "all",
    schedule: str = "restart",
    epochs: int | None = None,
    batch_size: int | None = None,
    images: int | None = None,
    test_images: int | None = None,
    augmentation: str = "standard",
    validation: float = 0.0,
    replicates: int = 6,
    seed: int = 0,
    profile: str | None = None,
    split: int = 1,
    batch_norm: str = "part",
) -> Definition:
    """The definition that these options stand for. Raises InputError for a value that is not allowed.

    Without a target each source is its own. `images` are the most that any data set is trained on, `test_images` the
    most that it is tested on. Model, optimizer, epochs, milestones and batch size default to those of the images' shape
    and the model (`engine.models.catalog`), the profile to what this machine's devices do natively.
    """
    if not source:
        raise InputError("no source: name the data set that tickets are found on with --source, e.g. digits-a")
    tickets = tuple(ticketfiles.source(spec) for spec in source if spec.startswith(SPEC))
    source = [spec for spec in source if not spec.startswith(SPEC)]
    if tickets and not target:
        raise InputError(f"no target: {tickets[0].name} is a ticket, so name what it is trained on with --target")
    sources, targets = _data_sets(*([_part(spec, images) for spec in group] for group in (source, target or source)))
    named = model is not None
    if tickets:
        model = model or tickets[0].model
        width = tickets[0].width if width is None else width
        prune_rate = tickets[0].rate if prune_rate is None else prune_rate
    if not sources:
        levels = max(ticket.level for ticket in tickets)
        evaluate = ",".join(str(ticket.level) for ticket in tickets) if evaluate.casefold() == "paper" else evaluate
    model, folder = model or models.default_for(sources[0].shape), ""
    if user_model.is_own(model):
        found = trust.named(model) if named else user_model.find(model)
        model, folder = found.identity, str(found.folder)
    facts = models.find(model)
    epochs = facts.epochs if epochs is None else epochs
    optimizers = _choices("--optimizer", optimizer or [facts.optimizer], Optimizer)
    return _checked(
        Definition(
            sources=sources,
            tickets=tickets,
            targets=targets,
            model=model,
            width=1.0 if width is None else float(width),
            optimizers=optimizers,
            target_optimizers=_choices("--target-optimizer", target_optimizer, Optimizer) or optimizers,
            learning_rate=learning_rate,
            weight_decay=float(weight_decay),
            scopes=_choices("--scope", scope, Scope),
            random=_random(random),
            levels=levels,
            evaluate=evaluation_levels(evaluate, levels),
            rate=Rule.rate if prune_rate is None else prune_rate,
            rewind=rewind,
            prunable=_choices("--prunable", [prunable], Prunable)[0],
            rewinds=_choices("--rewinds", [rewinds], Rewinds)[0],
            schedule=_choices("--schedule", [schedule], Schedule)[0],
            epochs=epochs,
            milestones=facts.milestones_for(epochs),
            batch_size=facts.batch_size if batch_size is None else batch_size,
            augmentation=chosen("--augmentation", augmentation, AUGMENTATIONS),
            validation=float(validation),
            replicates=replicates,
            seed=seed,
            profile=_choices("--profile", [profile or devices.default_profile()], Profile)[0],
            split=split,
            batch_norm=_choices("--batch-norm", [batch_norm], BatchNorm)[0],
            test_images=test_images,
            model_folder=folder,
        )
    )


def options_of(definition: Definition) -> dict[str, Any]:
    """The options from which `define` makes this definition again; what it has no value of is left out."""
    d = definition
    found: dict[str, Any] = {
        "source": [
            *(spec_of(data.identity, data.location) for data in d.sources),
            *(f"{SPEC}{ticket.location}" for ticket in d.tickets),
        ],
        "target": [spec_of(data.identity, data.location) for data in d.targets],
        "model": d.model,
        "width": d.width,
        "replicates": d.replicates,
        "seed": d.seed,
        "levels": d.levels,
        "evaluate": evaluation_rule(d.evaluate, d.levels),
        "prune_rate": d.rate,
        "scope": list(d.scopes),
        "rewind": d.rewind,
        "random": list(d.random) or ["none"],
        "optimizer": list(d.optimizers),
        "target_optimizer": list(d.target_optimizers),
        "learning_rate": d.learning_rate,
        "weight_decay": d.weight_decay,
        "epochs": d.epochs,
        "batch_size": d.batch_size,
        "profile": d.profile,
        "augmentation": d.augmentation,
        "prunable": d.prunable,
        "rewinds": d.rewinds,
        "schedule": d.schedule,
        "validation": d.validation,
        "split": d.split,
        "batch_norm": d.batch_norm,
        "test_images": d.test_images,
    }
    return {key: value for key, value in found.items() if value is not None}


def extended(
    definition: Definition,
    *,
    source: Sequence[str] = (),
    target: Sequence[str] = (),
    optimizer: Sequence[str] = (),
    target_optimizer: Sequence[str] = (),
    scope: Sequence[str] = (),
    random: Sequence[str] = (),
    levels: int | None = None,
    evaluate: str | None = None,
    replicates: int | None = None,
) -> Definition:
    """`definition` with more: `levels` and `replicates` are the new totals, the lists are added to what is there.

    The levels evaluated grow along where they are those of `paper` or `all`, and new data sets are cut to as many
    images as those that are there (`--images`), unless they say how many. Raises InputError for a value that is not
    allowed, or that takes something away.
    """
    d = definition
    levels = d.levels if levels is None else levels
    replicates = d.replicates if replicates is None else replicates
    for option, new, old in (("--levels", levels, d.levels), ("--replicates", replicates, d.replicates)):
        if new < old:
            raise InputError(f"{option} {new} is less than the {old} that are there: extend only adds")
    if evaluate is None:
        evaluate = evaluation_rule(d.evaluate, d.levels)
    evaluated = evaluation_levels(evaluate, levels)
    if lost := set(d.evaluate) - set(evaluated):
        left_out = ", ".join(map(str, sorted(lost)))
        raise InputError(f"--evaluate {evaluate} leaves out what is evaluated already ({left_out}): extend only adds")
    sources, targets = _data_sets(
        [*d.sources, *(_as_in(d, spec) for spec in source)],
        [*d.targets, *(_as_in(d, spec) for spec in target)],
    )
    return _checked(
        replace(
            d,
            sources=sources,
            targets=targets,
            optimizers=_choices("--optimizer", [*d.optimizers, *optimizer], Optimizer),
            target_optimizers=_choices("--target-optimizer", [*d.target_optimizers, *target_optimizer], Optimizer),
            scopes=_choices("--scope", [*d.scopes, *scope], Scope),
            random=_random([*d.random, *random]),
            levels=levels,
            evaluate=evaluated,
            replicates=replicates,
        )
    )


def _checked(d: Definition) -> Definition:
    """`d`, if it can be trained. Raises InputError where a value is out of range or two do not go together."""
    ticketfiles.check(d.tickets, d.model, d.width, d.rate)
    if d.tickets and not d.sources and set(d.random) - {"global"}:
        raise InputError("--random local and preserved need a data set as --source: a ticket file has no chain here")
    _check_shapes(d)
    _check_numbers(d)
    _check_rewinds(d)
    _check_classes(d)
    images = {data: classes.trained_on(data, d.validation) for data in d.sources + d.targets}
    for data, count in images.items():
        data.augmentation(d.augmentation)
        if count is not None:  # else `engine.workers.run.prepare` looks
            models.check_batches(d.model, count, d.batch_size, data.shape, d.split)
    if user_model.is_own(d.model):
        ends = [models.End.of(data, count, d.batch_size) for data, count in images.items()]
        models.examine(d.model, d.width, tuple(dict.fromkeys(ends)), d.prunable, d.model_folder)
        if files := [ticket.location for ticket in d.tickets if ticket.location]:
            processes.ask("engine.results.ticket_export", "compare", "--folder", d.model_folder, *files)
    return d


def _check_shapes(d: Definition) -> None:
    """Raises InputError where images differ as no ticket can serve, or the model cannot take them."""
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


def _check_numbers(d: Definition) -> None:
    """Raises InputError where a number is out of range."""
    given = {**vars(d), "prune_rate": d.rate}
    for option, allowed in NUMBERS.items():
        if (value := given[option[2:].replace("-", "_")]) is not None:
            allowed.check(option, value)
    if d.test_images is not None:
        for data in d.sources + d.targets:
            why = f"at least one of each class of data set {data.name}"
            Range(data.classes).check("--test-images", d.test_images, why)
    Range(1, d.batch_size // 2).check("--split", d.split, "each device needs two images of a batch")
    if d.batch_norm == "whole" and d.split == 1:
        raise InputError("--batch-norm whole is for batches that are split over devices: say how many with --split")


def _check_classes(d: Definition) -> None:
    """Raises InputError where a part of a data set, or what validation leaves of it, lacks a class.

    Data sets that only the database remembers were checked when they were first queued.
    """
    for data in (data for data in d.sources + d.targets if data.counts):
        counts = classes.of_part(data.counts or (), data.part)
        label, images = min(enumerate(counts), key=lambda one: one[1])
        of = f"class {label} of data set {data.name}"
        if not images:
            raise InputError(f"no training image is left of {of}: take the whole set, or give the class more images")
        if d.validation and images <= classes.held_out(images, d.validation):
            raise InputError(
                f"--validation {d.validation:g} leaves no training image of {of}, which has {images}: leave it out, or"
                " give the class more images"
            )


def _check_rewinds(d: Definition) -> None:
    """Raises InputError where the epoch rewound to is not one that is trained, or nothing is left after it."""
    for data in d.sources + d.targets:
        rewind = rewind_epoch(d, data)
        own = "" if d.rewind is not None else f"; {rewind} is the paper's for {data.name}"
        Range(0, d.epochs).check("--rewind", rewind, f"at most --epochs{own}")
        if d.schedule == "continue" and rewind >= d.epochs:
            raise InputError(
                f"--schedule continue leaves nothing to train: --rewind {rewind} is the last of {d.epochs} epochs"
            )


def evaluation_levels(text: str, levels: int) -> tuple[int, ...]:
    """The levels at which tickets are trained on a target: `paper` (0-6, then every third), `all`, or `0-6,9,12`."""
    LEVELS.check("--levels", levels)
    rule = text.casefold()
    if rule == "paper":
        return tuple(level for level in range(levels + 1) if level <= 6 or level % 3 == 0)
    if rule == "all":
        return tuple(range(levels + 1))
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            low, high = int(first), int(last or first)
        except ValueError:
            low, high = 1, 0
        if low > high:
            raise InputError(f"--evaluate {quoted(text)} is not understood: give paper, all, or levels as in 0-6,9,12")
        if high > levels:
            raise InputError(f"--evaluate {quoted(text)} names levels outside 0 to {levels} (--levels)")
        chosen |= set(range(low, high + 1))
    return tuple(sorted(chosen))


def evaluation_rule(evaluate: Sequence[int], levels: int) -> str:
    """What `evaluation_levels` reads these levels from: `paper` or `all` where they are that, else a list."""
    rules = (rule for rule in ("paper", "all") if evaluation_levels(rule, levels) == tuple(evaluate))
    return next(rules, ",".join(map(str, evaluate)))


def rewind_epoch(d: Definition, data: DataSet) -> int:
    """The epoch that tickets found on `data` are rewound to."""
    return REWINDS.get(split_part(data.identity)[0], 1) if d.rewind is None else d.rewind


def _part(spec: str, images: int | None) -> DataSet:
    """The data set of this name, or no more than its first `images` training images."""
    data = resolve(spec)
    try:
        return data if images is None else first(data, images)
    except InputError as error:
        raise InputError(f"--images {images}: data set {spec!r}: {error}") from None


def _as_in(d: Definition, spec: str) -> DataSet:
    """One more data set of an experiment, cut to the images that its own were cut to, if none of them has more."""
    own = d.sources + d.targets
    cuts = [images for data in own if (images := steps_of(data.part)[1]) is not None]
    most = max(cuts, default=None)
    cut = most is not None and all(data.train_images <= most for data in own)
    says = steps_of(split_part(spec)[1])[1] is not None
    return _part(spec, most if cut and not says else None)


def _data_sets(*groups: Sequence[DataSet]) -> list[tuple[DataSet, ...]]:
    """The data sets of each group, each once, with names told apart where two different files share one."""
    found: dict[str, DataSet] = {}
    for data in (data for group in groups for data in group):
        found.setdefault(data.identity, data)  # the same content from two places is one data set
    names = [data.name for data in found.values()]
    for identity, data in found.items():
        if names.count(data.name) > 1:
            digest = identity.rpartition(":")[2][:8]
            found[identity] = replace(data, name=f"{data.name}@{digest}")
    return [tuple(found[identity] for identity in dict.fromkeys(data.identity for data in group)) for group in groups]


def _random(kinds: Sequence[str]) -> tuple[MaskKind, ...]:
    return tuple(kind for kind in _choices("--random", kinds, MaskKind, extra=("none",)) if kind != "none")


def _choices(option: str, values: Sequence[str], allowed: Any, extra: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """`values` without repetition, each checked against the names that the Literal type `allowed` holds."""
    return tuple(dict.fromkeys(chosen(option, value, get_args(allowed) + extra) for value in values))


def _size(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
