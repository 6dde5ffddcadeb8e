"""The definition of an experiment, with every default resolved. No torch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import structs

from engine.datasets.catalog import DataSet, split_part
from engine.errors import InputError, OptionName, quoted
from engine.recipes import (
    DEFAULT_RULE,
    DEFAULT_TRAINING,
    BatchNorm,
    Betas,
    Count,
    Duration,
    Epochs,
    Factor,
    Granularity,
    Init,
    Keep,
    Level,
    Plugin,
    Profile,
    Prunable,
    PruneAt,
    Rate,
    Rates,
    Retrain,
    Rewind,
    Rewinds,
    Schedule,
    Scope,
    Seed,
    Size,
)
from engine.tickets.ticketfiles import TicketSource

LEARNING_RATES = {"sgd": 0.1, "adam": 3e-4, "adamw": 3e-4}  # the paper's, section 3 and appendix A.1
REWINDS = {"imagenet": 3, "places365": 3}  # epoch of late resetting by data set (appendix A.1); 1 for others
# The ranges that `from_json` accepts; options allow less.
Few = Annotated[int, msgspec.Meta(ge=0, le=1000)]
_Choice = TypeVar("_Choice")
NonEmpty = Annotated[tuple[_Choice, ...], msgspec.Meta(min_length=1)]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment with every default resolved. Tuples hold alternatives: each combination is a curve."""

    sources: tuple[DataSet, ...]
    targets: tuple[DataSet, ...]
    model: str
    width: Size
    optimizers: NonEmpty[Plugin]  # of the sources' trainings
    target_optimizers: NonEmpty[Plugin]
    learning_rate: Factor | None  # None: the optimizer's (`LEARNING_RATES`)
    weight_decay: Factor
    scopes: NonEmpty[Scope]
    random: tuple[Plugin, ...]
    levels: Few
    evaluate: tuple[Level, ...]
    rate: Rates
    rewind: Rewind | None  # None: the data set's (`REWINDS`), or 0 with `prune_at` init
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
    test_images: Count | None = None  # most test images of each data set; None: all
    lr_schedule: Plugin = DEFAULT_TRAINING.lr_schedule
    criterion: Plugin = DEFAULT_RULE.criterion
    momentum: Rate = DEFAULT_TRAINING.momentum
    nesterov: bool = DEFAULT_TRAINING.nesterov
    betas: Betas = DEFAULT_TRAINING.betas
    decay: Size = DEFAULT_TRAINING.decay
    warmup: Duration = DEFAULT_TRAINING.warmup
    label_smoothing: Rate = DEFAULT_TRAINING.label_smoothing
    head: Literal["carry", "fresh", "auto"] = DEFAULT_RULE.head
    init: Init = DEFAULT_TRAINING.init
    data_seed: Seed | None = None  # None: `seed`
    reshuffle_levels: bool = DEFAULT_TRAINING.reshuffle_levels
    connect: Few = 0  # networks on the line between two trainings of each ticket; 0: none
    keep: Keep = "needed"
    prune_at: PruneAt = DEFAULT_RULE.prune_at
    prune_batches: Count = DEFAULT_RULE.prune_batches
    retrain: Retrain = DEFAULT_RULE.retrain
    granularity: Granularity = DEFAULT_RULE.granularity
    model_folder: str = ""  # of a user model's source

    def to_json(self) -> str:
        """The definition without paths on this machine. Equal texts mean equal definitions."""
        values: dict[str, Any] = structs.asdict(self)
        del values["model_folder"]
        for key in ("sources", "targets"):
            values[key] = [{"name": data.name, "identity": data.identity} for data in values[key]]
        tickets = [asdict(replace(ticket, location="", rule=None, classes=None)) for ticket in values.pop("tickets")]
        for ticket in tickets:
            del ticket["rule"], ticket["classes"]
        values |= {"tickets": tickets} if tickets else {}
        return json.dumps(values, sort_keys=True)

    @staticmethod
    def from_json(text: str, data_set: Callable[[str, str], DataSet]) -> "Definition":
        """The definition that `to_json` wrote; `data_set` returns the data set of a name and an identity.

        Raises ValueError for any other text.
        """
        values = decoded(text)
        for key in ("sources", "targets"):
            values[key] = [data_set(data["name"], data["identity"]) for data in values[key]]
        tickets = [TicketSource(**{**t, "shape": tuple(t["shape"])}) for t in values.pop("tickets", ())]
        values["tickets"] = tickets
        for key, value in values.items():
            values[key] = tuple(value) if isinstance(value, list) else value
        return Definition(**values)


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    """A data set in the JSON of a definition."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    identity: Annotated[str, msgspec.Meta(min_length=1)]


class _Ends(msgspec.Struct):
    """The keys of a definition whose JSON differs from the type of the field."""

    sources: list[_Named]
    targets: Annotated[list[_Named], msgspec.Meta(min_length=1)]


def decoded(text: str) -> dict[str, Any]:
    """The JSON that `Definition.to_json` wrote, checked but not converted. Raises ValueError for any other text."""
    try:
        values = msgspec.json.decode(text, type=dict[str, Any])
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if unknown := values.keys() - set(Definition.__struct_fields__):
        raise ValueError(f"unknown keys {quoted(sorted(unknown))}")
    msgspec.convert(values, _Ends)
    msgspec.convert({**values, "sources": (), "targets": ()}, Definition)
    if not values["sources"] and not values.get("tickets"):
        raise ValueError("it has no source")
    return values


def evaluation_levels(text: str, levels: int) -> tuple[int, ...]:
    """The levels at which tickets are trained on a target: `paper` (0-6, then every third), `all`, or `0-6,9,12`.

    Raises InputError for any other text, and for a level above `levels`.
    """
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
    """The text from which `evaluation_levels` reads these levels: `paper` or `all` if it gives them, else a list."""
    rules = (rule for rule in ("paper", "all") if evaluation_levels(rule, levels) == tuple(evaluate))
    return next(rules, ",".join(map(str, evaluate)))


def rewind_of(d: Definition, data: DataSet) -> Rewind:
    """The epoch or number of steps to which tickets found on `data` are rewound."""
    if d.rewind is None and d.prune_at == "init":
        return 0
    return REWINDS.get(split_part(data.identity)[0], 1) if d.rewind is None else d.rewind
