"""Options to a `Definition`, and a `Definition` to options. No torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from engine.datasets.catalog import DataSet, first, split_part, steps_of
from engine.datasets.specs import resolve
from engine.errors import InputError, OptionName, concerning
from engine.machine import devices
from engine.models import catalog as models
from engine.models import trust, user_model
from engine.plan import number_lists, rates
from engine.plan.checks import UNEVALUATED, checked, models_own, not_theirs, unused, uses_evaluate, without_unused
from engine.plan.definitions import Definition, evaluation_levels, evaluation_rule
from engine.plan.options import DEFINING, FIELDS, NONE, OPTIONS, given
from engine.recipes import DEFAULT_RULE
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import SPEC, TicketSource

# Options that have no effect if no chain is trained.
OF_CHAINS = (
    "scope", "criterion", "prune_at", "prune_batches", "rewind", "rewinds", "retrain", "granularity"
)  # fmt: skip


def define(requested: Collection[str] | None = None, **options: Any) -> Definition:
    """The definition that options (`engine.plan.options`) describe. Raises InputError for a value that is not allowed.

    Without a target, each source is its own target. The model defaults by the images' shape; optimizer, epochs,
    milestones and batch size default to the model's (`engine.models.catalog`); the profile to the one that this
    machine's devices support natively.

    `requested` are the options that the user gave for this experiment (None: all). Unused is raised for one of these
    that the experiment does not use; other unused options, of a preset or a file's [defaults], are left out.
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
    if values["granularity"] != DEFAULT_RULE.granularity and "random" not in options:
        values["random"] = ("preserved",)  # keeps the structure of filters or N:M
    if tickets:
        values |= {name: value for name, value in tickets[0].options.items() if name not in options}
    if not sources:
        values |= _of_tickets_alone(tickets, values, requested)
    with concerning("model"):
        model, folder = models.named(values["model"] or models.default_for(sources[0].shape)), ""
        if user_model.is_own(model):
            own = trust.named(model) if "model" in options else user_model.find(model)
            model, folder = own.identity, str(own.folder)
        facts = models.find(model)
    values |= {
        "model": model,
        "epochs": values["epochs"] or facts.epochs,
        "batch_size": values["batch_size"] or facts.batch_size,
        "profile": values["profile"] or devices.default_profile(),
        "optimizer": values["optimizer"] or (facts.optimizer,),
        "data_seed": None if values["data_seed"] == values["seed"] else values["data_seed"],
        "init": facts.init if values["init"] == "paper" else values["init"],
        "prunable": values["prunable"] or facts.prunable,
        "evaluate": evaluation_levels(values["evaluate"], values["levels"]),
    }
    values["prune_rate"] = rates.used(OptionName("prune_rate"), values["prune_rate"], values["prunable"])
    values["target_optimizer"] = values["target_optimizer"] or values["optimizer"]
    if values["milestones"] is None:
        values["milestones"] = facts.milestones_for(values["epochs"])
    definition = Definition(
        sources=sources,
        tickets=tickets,
        targets=targets,
        model_folder=folder,
        **{field: values[name] for name, field in FIELDS.items()},
    )
    return without_unused(checked(definition), requested)


def _of_tickets_alone(
    tickets: Sequence[TicketSource], values: Mapping[str, Any], requested: Collection[str]
) -> dict[str, Any]:
    """The values of options that ticket files decide if they are the only sources, so that no chain is trained.

    Raises InputError if another value was requested.
    """
    levels = max(ticket.level for ticket in tickets)
    evaluate = ",".join(str(ticket.level) for ticket in tickets)
    own: dict[str, Any] = {"levels": levels, "evaluate": evaluate}
    if "levels" in requested and values["levels"] != levels:
        raise not_theirs("levels", values["levels"], levels)
    if "evaluate" in requested and evaluation_levels(values["evaluate"], levels) != evaluation_levels(evaluate, levels):
        raise not_theirs("evaluate", values["evaluate"], evaluate)
    for name in OF_CHAINS:
        theirs = {getattr(ticket.rule, name) for ticket in tickets}
        asked = set(values[name]) if OPTIONS[name].several else {values[name]}
        if name in requested and asked != theirs:
            raise not_theirs(name, *(" ".join(sorted(map(str, group))) for group in (asked, theirs)))
        own[name] = values[name] if name in requested else OPTIONS[name].default
    if "optimizer" in requested and values["target_optimizer"] not in (None, values["optimizer"]):
        target, names = OptionName("target_optimizer"), " ".join(values["optimizer"])
        raise unused("optimizer", names, "no source is trained, and ", target, " says how targets are")
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


def options_of(definition: Definition) -> dict[str, Any]:
    """The options from which `define` makes this definition again; unused ones are left out."""
    d = definition
    values: dict[str, Any] = {name: getattr(d, field) for name, field in FIELDS.items()} | {
        "source": [
            *(data.spec for data in d.sources),
            *(f"{SPEC}{ticket.location}" for ticket in d.tickets),
        ],
        "target": [data.spec for data in d.targets],
        "evaluate": evaluation_rule(d.evaluate, d.levels) if uses_evaluate(d) else None,
        "random": d.random or [NONE],
        "milestones": number_lists.written(d.milestones) if d.milestones != models_own(d) else None,
        "betas": number_lists.written(d.betas),
    }
    if not d.sources:
        values |= {name: None for name in OF_CHAINS if values[name] == OPTIONS[name].default}
        values |= {"optimizer": None} if d.optimizers != d.target_optimizers else {}
    return {
        name: list(values[name]) if option.several else values[name]
        for name, option in DEFINING.items()
        if values.get(name) is not None
    }


def extended(definition: Definition, **more: Any) -> Definition:
    """`definition` with more: `levels` and `replicates` are new totals, lists are added to the present ones.

    It takes the options of `engine.plan.options` that have a text `more`. The evaluated levels grow if they follow
    `paper` or `all`. New data sets are cut to the number of images of the present ones (`images`) unless their specs
    give a number. Raises InputError for a value that is not allowed, removes something, or would not be used.
    """
    d = definition
    added = {name: OPTIONS[name].read(value) for name, value in given(more).items()}
    if strange := [name for name in added if not OPTIONS[name].more]:
        raise TypeError(f"extended() takes no option {strange[0]!r}")
    totals = {name: added.get(name, getattr(d, name)) for name in ("levels", "replicates")}
    for name, new in totals.items():
        if new < (old := getattr(d, name)):
            raise InputError(OptionName(name), f" {new} is less than the {old} that are there: extend only adds")
    connect = added.get("connect", d.connect)
    if d.connect not in (0, connect):
        raise InputError(OptionName("connect"), f" {connect} is not the {d.connect} that are there: extend only adds")
    if NONE in added.get("random", ()):
        raise unused("random", NONE, "it adds no random ticket")
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
    changes: dict[str, Any] = {
        "sources": joined_sources,
        "targets": joined_targets,
        "evaluate": evaluated,
        "connect": connect,
    }
    wider = structs.replace(d, **changes, **totals, **joined)
    if not wider.sources:
        _check_wider_tickets(d, wider)
    if "evaluate" in added and not uses_evaluate(wider):
        raise unused("evaluate", evaluate, UNEVALUATED)
    return checked(wider)


def _check_wider_tickets(d: Definition, wider: Definition) -> None:
    """Raise InputError if options that only chains use are extended in an experiment of ticket files alone."""
    for name in ("levels", "evaluate", "scope", "optimizer"):
        new, old = (getattr(one, FIELDS[name]) for one in (wider, d))
        if new != old:
            value = " ".join(map(str, new)) if isinstance(new, tuple) else new
            raise unused(name, value, "the sources are ticket files alone, so no source is trained")
    if lost := [kind for kind in wider.random if kind != "global" or wider.prunable != "conv"]:
        raise unused("random", " ".join(lost), "the sources are ticket files alone, which have no chain here")


def _parts(option: str, specs: Sequence[str], images: int | None) -> list[DataSet]:
    """The data sets of these specs, each cut to its first `images` training images."""
    parts = []
    for spec in specs:
        with concerning(option):
            data = resolve(spec)
        try:
            parts.append(data if images is None else first(data, images))
        except InputError as error:
            raise InputError(OptionName("images"), f" {images}: data set {spec!r}: ", error) from None
    return parts


def _as_in(d: Definition, spec: str, option: str) -> DataSet:
    """A further data set of an experiment, cut to the number of images to which all its present ones were cut."""
    own = d.sources + d.targets
    cuts = [images for data in own if (images := steps_of(data.part)[1]) is not None]
    most = max(cuts, default=None)
    cut = most is not None and all(data.train_images <= most for data in own)
    says = steps_of(split_part(spec)[1])[1] is not None
    return _parts(option, [spec], most if cut and not says else None)[0]


def _data_sets(*groups: Sequence[DataSet]) -> list[tuple[DataSet, ...]]:
    """The distinct data sets of each group. If different files share a name, the names get a suffix of the digest."""
    known: dict[str, DataSet] = {}
    for data in (data for group in groups for data in group):
        known.setdefault(data.identity, data)  # two paths with the same content are one data set
    names = [data.name for data in known.values()]
    for identity, data in known.items():
        if names.count(data.name) > 1:
            digest = identity.rpartition(":")[2][:8]
            known[identity] = replace(data, name=f"{data.name}@{digest}")
    return [tuple(known[identity] for identity in dict.fromkeys(data.identity for data in group)) for group in groups]


def _random(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds of random tickets. Raises InputError if `none` is given with others."""
    if NONE in kinds and len(kinds) > 1:
        others = " ".join(kind for kind in kinds if kind != NONE)
        raise InputError(OptionName("random"), f" {NONE} contradicts {others}: give one of them")
    return tuple(kind for kind in kinds if kind != NONE)
