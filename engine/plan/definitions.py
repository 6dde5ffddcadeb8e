"""What an experiment is: options become a `Definition`, every default explicit and checked. No torch here."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from engine.datasets import classes
from engine.datasets.catalog import DataSet, first, spec_of, split_part, steps_of
from engine.datasets.specs import resolve
from engine.errors import InputError, OptionName, Range, concerning, quoted
from engine.machine import devices, processes
from engine.models import catalog as models
from engine.models import trust, user_model
from engine.plan.options import NONE, OPTIONS, given
from engine.recipes import (
    BatchNorm,
    Count,
    Epochs,
    Factor,
    Level,
    Plugin,
    Profile,
    Prunable,
    Rate,
    Rewinds,
    Rule,
    Schedule,
    Scope,
    Seed,
    Size,
    Training,
)
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import SPEC, TicketSource

LEARNING_RATES = {"sgd": 0.1, "adam": 3e-4, "adamw": 3e-4}  # the paper's section 3 and A.1
REWINDS = {"imagenet": 3, "places365": 3}  # epochs of late resetting, by data set (A.1); of all others 1
DEFINING = {name: option for name, option in OPTIONS.items() if option.defines}
FIELDS = {name: option.field or name for name, option in DEFINING.items() if name not in ("source", "target", "images")}
UNEVALUATED = "no ticket is trained on another data set, and none compared with a random ticket"
OF_CHAINS = ("scope", "criterion", "rewind", "rewinds")  # what says nothing where no chain is trained


class Unused(InputError):
    """An option was given that an experiment does not use."""


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
    optimizers: Some[Plugin]  # of the sources' trainings
    target_optimizers: Some[Plugin]
    learning_rate: Factor | None  # None: the optimizer's own (LEARNING_RATES)
    weight_decay: Factor
    scopes: Some[Scope]
    random: tuple[Plugin, ...]
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
    lr_schedule: Plugin = Training.lr_schedule
    criterion: Plugin = Rule.criterion
    model_folder: str = ""  # where the source of a person's own model lies

    def to_json(self) -> str:
        """What makes two definitions the same: all but where on this machine data and source lie."""
        found: dict[str, Any] = dict(vars(self))
        del found["model_folder"]
        for key in ("sources", "targets"):
            found[key] = [{"name": data.name, "identity": data.identity} for data in found[key]]
        tickets = [asdict(replace(ticket, location="", rule=None)) for ticket in found.pop("tickets")]
        for ticket in tickets:
            del ticket["rule"]
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


def define(requested: Collection[str] | None = None, **options: Any) -> Definition:
    """The definition that options stand for (`engine.plan.options`). Raises InputError for a value that is not allowed.

    Without a target each source is its own. `images` are the most that any data set is trained on, `test_images` the
    most that it is tested on. Model, optimizer, epochs, milestones and batch size default to those of the images' shape
    and the model (`engine.models.catalog`), the profile to what this machine's devices do natively.

    `requested` are the options that are meant for this experiment (None: all): one that it does not use is refused,
    while that of a preset or of a file's [defaults] is left out.
    """
    options = given(options)
    if strange := options.keys() - DEFINING.keys():
        raise TypeError(f"define() takes no option {min(strange)!r}")
    requested = set(options if requested is None else options.keys() & set(requested))
    if "source" not in options:
        source = OptionName("source")
        raise InputError("no source: name the data set that tickets are found on with ", source, ", e.g. digits-a")
    values = {
        name: option.read(options[name]) if name in options else option.default for name, option in DEFINING.items()
    }
    with concerning("source"):
        tickets = tuple(ticketfiles.source(spec) for spec in values["source"] if spec.startswith(SPEC))
    specs = [spec for spec in values["source"] if not spec.startswith(SPEC)]
    if tickets and not values["target"]:
        target = OptionName("target")
        raise InputError(f"no target: {tickets[0].name} is a ticket, so name what it is trained on with ", target)
    ends = {"source": specs, "target": values["target"] or specs}
    sources, targets = _data_sets(*(_parts(name, group, values["images"]) for name, group in ends.items()))
    values["random"] = _random(values["random"])
    if tickets:
        values |= {name: value for name, value in tickets[0].options.items() if name not in options}
    if not sources:
        values |= _of_tickets_alone(tickets, values, requested)
    with concerning("model"):
        model, folder = models.named(values["model"] or models.default_for(sources[0].shape)), ""
        if user_model.is_own(model):
            found = trust.named(model) if "model" in options else user_model.find(model)
            model, folder = found.identity, str(found.folder)
        facts = models.find(model)
    values |= {
        "model": model,
        "epochs": values["epochs"] or facts.epochs,
        "batch_size": values["batch_size"] or facts.batch_size,
        "profile": values["profile"] or devices.default_profile(),
        "optimizer": values["optimizer"] or (facts.optimizer,),
        "evaluate": evaluation_levels(values["evaluate"], values["levels"]),
    }
    values["target_optimizer"] = values["target_optimizer"] or values["optimizer"]
    definition = Definition(
        sources=sources,
        tickets=tickets,
        targets=targets,
        milestones=facts.milestones_for(values["epochs"]),
        model_folder=folder,
        **{field: values[name] for name, field in FIELDS.items()},
    )
    return _without_unused(_checked(definition), requested)


def _of_tickets_alone(
    tickets: Sequence[TicketSource], values: Mapping[str, Any], requested: Collection[str]
) -> dict[str, Any]:
    """The values of the options that ticket files decide where they are the only sources: no chain is trained.

    Raises InputError where one was requested otherwise.
    """
    levels = max(ticket.level for ticket in tickets)
    evaluate = ",".join(str(ticket.level) for ticket in tickets)
    own: dict[str, Any] = {"levels": levels, "evaluate": evaluate}
    if "levels" in requested and values["levels"] != levels:
        raise _not_theirs("levels", values["levels"], levels)
    if "evaluate" in requested and evaluation_levels(values["evaluate"], levels) != evaluation_levels(evaluate, levels):
        raise _not_theirs("evaluate", values["evaluate"], evaluate)
    for name in OF_CHAINS:
        theirs = {getattr(ticket.rule, name) for ticket in tickets}
        asked = set(values[name]) if OPTIONS[name].several else {values[name]}
        if name in requested and asked != theirs:
            raise _not_theirs(name, *(" ".join(sorted(map(str, group))) for group in (asked, theirs)))
        own[name] = values[name] if name in requested else OPTIONS[name].default
    if "optimizer" in requested and values["target_optimizer"] not in (None, values["optimizer"]):
        target, names = OptionName("target_optimizer"), " ".join(values["optimizer"])
        raise _unused("optimizer", names, "no source is trained, and ", target, " says how targets are")
    own["random"] = tuple(kind for kind in values["random"] if kind == "global" and values["prunable"] == "conv")
    if "random" in requested and (lost := [kind for kind in values["random"] if kind not in own["random"]]):
        why = f"their masks prune {values['prunable']}, so only their chain could tell" if lost == ["global"] else ""
        raise InputError(
            OptionName("random"),
            f" {' '.join(lost)} needs a data set as ",
            OptionName("source"),
            f": a ticket file has no chain here{why and '; ' + why}",
        )
    return own


def _not_theirs(option: str, value: object, theirs: object) -> InputError:
    return _unused(option, value, f"the sources are ticket files alone, whose own is {theirs}")


def _unused(option: str, value: object, *why: str) -> InputError:
    """The error for a value of an option that changes nothing in an experiment."""
    return Unused(OptionName(option), f" {value} is not used: ", why, ": leave it out", value=value)


_OF_BATCH_NORM: Sequence[tuple[str, Literal["batch norm", "batch-norm statistics"]]] = (
    ("rewinds", "batch-norm statistics"),
    ("batch_norm", "batch norm"),
)


def _without_unused(d: Definition, requested: Collection[str]) -> Definition:
    """`d` with the defaults of what it does not use. Raises InputError where that was requested."""
    unused: dict[str, Any] = {}
    if not uses_evaluate(d):
        unused["evaluate"] = UNEVALUATED
    for name, what in _OF_BATCH_NORM:
        if getattr(d, name) != OPTIONS[name].default and not _has(d, what):
            unused[name] = f"{d.model.partition('@')[0]} has no {what}"
    for name, why in unused.items():
        if name in requested:
            value = getattr(d, name)
            raise _unused(name, evaluation_rule(value, d.levels) if name == "evaluate" else value, why)
        if name == "evaluate":
            levels = ",".join(str(ticket.level) for ticket in d.tickets) if not d.sources else OPTIONS[name].default
            d = replace(d, evaluate=evaluation_levels(levels, d.levels))
        else:
            d = replace(d, **{name: OPTIONS[name].default})
    return d


def uses_evaluate(d: Definition) -> bool:
    """Whether a curve has the levels that are evaluated: one of a ticket on a target not its own, or of random ones."""
    ends = (set(product(d.sources, d.optimizers)), set(product(d.targets, d.target_optimizers)))
    transfers = len(ends[0] | ends[1]) > 1 and bool(d.sources)
    return transfers or bool(d.random and (d.sources or d.prunable == "conv"))


def options_of(definition: Definition) -> dict[str, Any]:
    """The options from which `define` makes this definition again; what it has no value of is left out."""
    d = definition
    found: dict[str, Any] = {name: getattr(d, field) for name, field in FIELDS.items()} | {
        "source": [
            *(spec_of(data.identity, data.location) for data in d.sources),
            *(f"{SPEC}{ticket.location}" for ticket in d.tickets),
        ],
        "target": [spec_of(data.identity, data.location) for data in d.targets],
        "evaluate": evaluation_rule(d.evaluate, d.levels) if uses_evaluate(d) else None,
        "random": d.random or [NONE],
    }
    if not d.sources:
        found |= {name: None for name in OF_CHAINS if found[name] == OPTIONS[name].default}
        found |= {"optimizer": None} if d.optimizers != d.target_optimizers else {}
    return {
        name: list(found[name]) if option.several else found[name]
        for name, option in DEFINING.items()
        if found.get(name) is not None
    }


def extended(definition: Definition, **more: Any) -> Definition:
    """`definition` with more: `levels` and `replicates` are the new totals, the lists are added to what is there.

    It takes the options with a help text for it, `more` (`engine.plan.options`). The levels evaluated grow along where
    they are those of `paper` or `all`, and new data sets are cut to as many images as those that are there (`images`),
    unless they say how many. Raises InputError for a value that is not allowed, that takes something away, or that
    would not be used.
    """
    d = definition
    added = {name: OPTIONS[name].read(value) for name, value in given(more).items()}
    if strange := [name for name in added if not OPTIONS[name].more]:
        raise TypeError(f"extended() takes no option {strange[0]!r}")
    totals = {name: added.get(name, getattr(d, name)) for name in ("levels", "replicates")}
    for name, new in totals.items():
        if new < (old := getattr(d, name)):
            raise InputError(OptionName(name), f" {new} is less than the {old} that are there: extend only adds")
    if NONE in added.get("random", ()):
        raise _unused("random", NONE, "it adds no random ticket")
    evaluate = added.get("evaluate", evaluation_rule(d.evaluate, d.levels))
    evaluated = evaluation_levels(evaluate, totals["levels"])
    if lost := set(d.evaluate) - set(evaluated):
        left_out = f" {evaluate} leaves out what is evaluated already ({', '.join(map(str, sorted(lost)))})"
        raise InputError(OptionName("evaluate"), left_out, ": extend only adds")
    sources = [*d.sources, *(_as_in(d, spec, "source") for spec in added.get("source", ()))]
    targets = [*d.targets, *(_as_in(d, spec, "target") for spec in added.get("target", ()))]
    joined_sources, joined_targets = _data_sets(sources, targets)
    joined: dict[str, Any] = {
        field: tuple(dict.fromkeys([*getattr(d, field), *added.get(name, ())]))
        for name, field in FIELDS.items()
        if OPTIONS[name].more and OPTIONS[name].several
    }
    changes: dict[str, Any] = {"sources": joined_sources, "targets": joined_targets, "evaluate": evaluated}
    wider = replace(d, **changes, **totals, **joined)
    if not wider.sources:
        _check_wider_tickets(d, wider)
    if "evaluate" in added and not uses_evaluate(wider):
        raise _unused("evaluate", evaluate, UNEVALUATED)
    return _checked(wider)


def _check_wider_tickets(d: Definition, wider: Definition) -> None:
    """Raises InputError where an experiment of ticket files alone gets more of what only a chain has."""
    for name in ("levels", "evaluate", "scope", "optimizer"):
        new, old = (getattr(one, FIELDS[name]) for one in (wider, d))
        if new != old:
            value = " ".join(map(str, new)) if isinstance(new, tuple) else new
            raise _unused(name, value, "the sources are ticket files alone, so no source is trained")
    if lost := [kind for kind in wider.random if kind != "global" or wider.prunable != "conv"]:
        raise _unused("random", " ".join(lost), "the sources are ticket files alone, which have no chain here")


def _checked(d: Definition) -> Definition:
    """`d`, if it can be trained. Raises InputError where two values do not go together, or do not fit the data."""
    ticketfiles.check(d.tickets, model=d.model, width=d.width, prune_rate=d.rate, prunable=d.prunable)
    if d.tickets and d.schedule == "continue":
        why = " does not go with a ticket file, which is trained from the start of the schedule: leave it out"
        raise InputError(OptionName("schedule"), f" {d.schedule}", why)
    _check_shapes(d)
    _check_numbers(d)
    _check_rewinds(d)
    _check_classes(d)
    images = {data: classes.trained_on(data, d.validation) for data in d.sources + d.targets}
    for data, count in images.items():
        if count is not None:  # else `engine.workers.run.prepare` looks
            models.check_batches(d.model, count, d.batch_size, data.shape, d.split)
    if user_model.is_own(d.model):
        _examined(d)
        if files := [ticket.location for ticket in d.tickets if ticket.location]:
            processes.ask("engine.results.ticket_export", "compare", d.model_folder, *files)
    return d


def _examined(d: Definition) -> Any:
    """What building a person's own model tells. Raises InputError where it cannot be trained."""
    images = {data: classes.trained_on(data, d.validation) for data in d.sources + d.targets}
    ends = [models.End.of(data, count, d.batch_size) for data, count in images.items()]
    with concerning("model"):
        return models.examine(d.model, d.width, tuple(dict.fromkeys(ends)), d.prunable, d.model_folder)


def _has(d: Definition, what: Literal["batch norm", "batch-norm statistics"]) -> bool:
    """Whether the network has layers of batch norm, or anything but weights that a ticket carries."""
    if not user_model.is_own(d.model):
        return models.find(d.model).batch_norm
    return bool(_examined(d)["batch_norm" if what == "batch norm" else "buffers"])


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
    """Raises InputError where a number does not fit the data, or another."""
    if d.test_images is not None:
        for data in d.sources + d.targets:
            why = f"at least one of each class of data set {data.name}"
            Range(data.classes).check(OptionName("test_images"), d.test_images, why)
    split = OptionName("split")
    Range(1, d.batch_size // 2).check(split, d.split, "each device needs two images of a batch")
    if d.batch_norm == "whole" and d.split == 1:
        why = " whole is for batches that are split over devices: say how many with "
        raise InputError(OptionName("batch_norm"), why, split)
    others = [name for name in d.optimizers + d.target_optimizers if name not in LEARNING_RATES]
    if others and d.learning_rate is None:
        raise InputError(f"optimizer {others[0]!r} has no learning rate of its own: give ", OptionName("learning_rate"))


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
            why = f" {d.validation:g} leaves no training image of {of}, which has {images}"
            raise InputError(OptionName("validation"), why, ": leave it out, or give the class more images")


def _check_rewinds(d: Definition) -> None:
    """Raises InputError where the epoch rewound to is not one that is trained, or nothing is left after it."""
    name, epochs = OptionName("rewind"), OptionName("epochs")
    for data in d.sources + d.targets:
        rewind = rewind_epoch(d, data)
        own = "" if d.rewind is not None else f"; {rewind} is the paper's for {data.name}"
        Range(0, d.epochs).check(name, rewind, "at most ", epochs, own)
        if d.schedule == "continue" and rewind >= d.epochs:
            why = " continue leaves nothing to train: "
            raise InputError(OptionName("schedule"), why, name, f" {rewind} is the last of {d.epochs} epochs")


def evaluation_levels(text: str, levels: int) -> tuple[int, ...]:
    """The levels at which tickets are trained on a target: `paper` (0-6, then every third), `all`, or `0-6,9,12`."""
    name = OptionName("evaluate")
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
            raise InputError(name, f" {quoted(text)} is not understood: give paper, all, or levels as in 0-6,9,12")
        if high > levels:
            why = f" {quoted(text)} names levels outside 0 to {levels} ("
            raise InputError(name, why, OptionName("levels"), ")")
        chosen |= set(range(low, high + 1))
    return tuple(sorted(chosen))


def evaluation_rule(evaluate: Sequence[int], levels: int) -> str:
    """What `evaluation_levels` reads these levels from: `paper` or `all` where they are that, else a list."""
    rules = (rule for rule in ("paper", "all") if evaluation_levels(rule, levels) == tuple(evaluate))
    return next(rules, ",".join(map(str, evaluate)))


def rewind_epoch(d: Definition, data: DataSet) -> int:
    """The epoch that tickets found on `data` are rewound to."""
    return REWINDS.get(split_part(data.identity)[0], 1) if d.rewind is None else d.rewind


def _parts(option: str, specs: Sequence[str], images: int | None) -> list[DataSet]:
    """The data sets of these names, or no more than their first `images` training images."""
    found = []
    for spec in specs:
        with concerning(option):
            data = resolve(spec)
        try:
            found.append(data if images is None else first(data, images))
        except InputError as error:
            raise InputError(OptionName("images"), f" {images}: data set {spec!r}: ", error) from None
    return found


def _as_in(d: Definition, spec: str, option: str) -> DataSet:
    """One more data set of an experiment, cut to the images that its own were cut to, if none of them has more."""
    own = d.sources + d.targets
    cuts = [images for data in own if (images := steps_of(data.part)[1]) is not None]
    most = max(cuts, default=None)
    cut = most is not None and all(data.train_images <= most for data in own)
    says = steps_of(split_part(spec)[1])[1] is not None
    return _parts(option, [spec], most if cut and not says else None)[0]


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


def _random(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds of random tickets. Raises InputError where none is beside others."""
    if NONE in kinds and len(kinds) > 1:
        others = " ".join(kind for kind in kinds if kind != NONE)
        raise InputError(OptionName("random"), f" {NONE} contradicts {others}: give one of them")
    return tuple(kind for kind in kinds if kind != NONE)


def _size(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
