"""An experiment is a named set of curves; a curve is a set of runs over levels and replicates. No torch here.

`curves` expands a definition into the runs the paper's section 3 would make. Runs that several curves or experiments
share are equal, so their digests are equal and they are trained once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from weakref import WeakValueDictionary

from engine.datasets.catalog import DataSet
from engine.plan.definitions import LEARNING_RATES, Definition, rewind_of
from engine.plan.optimizers import SETTINGS
from engine.recipes import Chain, Head, Imported, Line, RandomGlobal, Rule, Run, Scope, Training
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import TicketSource


@dataclass(frozen=True)
class Point:
    """One place on a curve: the run of one level and one replicate."""

    level: int
    replicate: int
    run: Run


@dataclass(frozen=True)
class Curve:
    """The runs of one (source, target, ticket kind, scope). A curve that knows no source has None there."""

    name: str
    source: DataSet | TicketSource | None
    target: DataSet
    source_optimizer: str | None
    optimizer: str
    scope: str | None
    ticket: str
    points: tuple[Point, ...]


def curves(definition: Definition) -> list[Curve]:
    """The curves of an experiment, chains first. A ticket evaluated on its own source is the chain's own curve."""
    d = definition
    chains_of = cache(partial(_chains, d))  # curves share them, and so the runs that they have made
    found: list[Curve] = []
    for source, optimizer, scope in product(d.sources, d.optimizers, d.scopes):
        chains = chains_of(source, optimizer, scope)
        points = [Point(level, r, chains[r].run(level)) for level, r in _grid(d, range(d.levels + 1))]
        found.append(_curve(d, source, source, optimizer, optimizer, scope, "winning", points))
        if d.connect:
            lines = {(level, r): Line(chains[r], level, d.connect) for level, r in _grid(d, d.evaluate)}
            for number, kind in enumerate(("order-1", "order-2")):
                points = [Point(*place, line.ends[number]) for place, line in lines.items()]
                found.append(_curve(d, source, source, optimizer, optimizer, scope, kind, points))
            points = [Point(*place, Run(line, line.chain.training)) for place, line in lines.items()]
            found.append(_curve(d, source, source, optimizer, optimizer, scope, "line", points))
    for target, optimizer in product(d.targets, d.target_optimizers):
        found += _curves_on(d, target, optimizer, chains_of)
    return found


def runs(found: Iterable[Curve]) -> dict[str, Run]:
    """The runs of curves by their digests, each once. Those that a run needs stand before it."""
    return {point.run.digest: point.run for curve in found for point in curve.points}


def _curves_on(
    d: Definition,
    target: DataSet,
    optimizer: str,
    chains_of: Callable[[DataSet, str, Scope], list[Chain]],
) -> list[Curve]:
    """The curves of one target: its dense network, the tickets of every source, and the random tickets."""
    own = chains_of(target, optimizer, d.scopes[0])
    trainings = [chain.training for chain in own]
    dense = [Point(0, r, own[r].run(0)) for r in range(d.replicates)]
    found = [_curve(d, None, target, None, optimizer, None, "dense", dense)]
    for name, own_tickets in ticketfiles.by_name(d.tickets).items():
        points = [
            Point(ticket.level, r, Run(Imported(ticket.digest, ticket.level, _head(d)), trainings[r]))
            for ticket, r in product(own_tickets, range(d.replicates))
        ]
        words = f"{name} -> {_end(d, target, optimizer)} imported"
        found.append(Curve(words, own_tickets[0], target, None, optimizer, None, "imported", tuple(points)))
    grid = _grid(d, d.evaluate)
    # The mask of a globally permuted ticket says nothing of the source, unless that has an output layer of its own.
    shared = d.prunable == "conv"
    if "global" in d.random and shared and isinstance(d.rate, float):
        points = [Point(level, r, Run(RandomGlobal.at(level, d.rate), trainings[r])) for level, r in grid]
        found.append(_curve(d, None, target, None, optimizer, None, "random-global", points))
    for source, source_optimizer, scope in product(d.sources, d.optimizers, d.scopes):
        chains = chains_of(source, source_optimizer, scope)
        ends = (source, target, source_optimizer, optimizer, scope)
        if (source, source_optimizer) != (target, optimizer):
            points = [Point(level, r, Run(chains[r].ticket(level), trainings[r])) for level, r in grid]
            found.append(_curve(d, *ends, "winning", points))
        for kind in d.random:
            if kind != "global" or not shared:
                points = [Point(level, r, Run(chains[r].random(kind, level), trainings[r])) for level, r in grid]
                found.append(_curve(d, *ends, f"random-{kind}", points))
    return found


def _grid(d: Definition, levels: Sequence[int]) -> list[tuple[int, int]]:
    return list(product(levels, range(d.replicates)))


def _chains(d: Definition, source: DataSet, optimizer: str, scope: Scope) -> list[Chain]:
    """The chains of all replicates: replicate r uses seed `seed` + r, for sources and targets alike."""
    rule = Rule(
        rate=d.rate,
        scope=scope,
        rewind=rewind_of(d, source),
        prunable=d.prunable,
        rewinds=d.rewinds,
        schedule=d.schedule,
        criterion=d.criterion,
        prune_at=d.prune_at,
        prune_batches=d.prune_batches,
        retrain=d.retrain,
        granularity=d.granularity,
        head=_head(d),
    )
    return [_chain(_training(d, source, optimizer, r), rule) for r in range(d.replicates)]


def _head(d: Definition) -> Head:
    """What a run does with the output layer: `carry` only promises that class counts agree."""
    return "fresh" if d.head == "fresh" else "auto"


def _chain(training: Training, rule: Rule) -> Chain:
    """The chain of a training and a rule, one for all experiments: its runs keep their digests."""
    return _living.get((training, rule)) or _living.setdefault((training, rule), Chain(training, rule))


_living: WeakValueDictionary[tuple[Training, Rule], Chain] = WeakValueDictionary()


def _training(d: Definition, data: DataSet, optimizer: str, replicate: int) -> Training:
    return Training(
        dataset=data.identity,
        model=d.model,
        width=d.width,
        optimizer=optimizer,
        learning_rate=LEARNING_RATES[optimizer] if d.learning_rate is None else float(d.learning_rate),
        weight_decay=d.weight_decay,
        epochs=d.epochs,
        milestones=d.milestones,
        batch_size=d.batch_size,
        augmentation=data.augmentation(d.augmentation),
        validation=d.validation,
        profile=d.profile,
        seed=d.seed + replicate,
        data_seed=None if d.data_seed is None else d.data_seed + replicate,
        reshuffle_levels=d.reshuffle_levels,
        split=d.split,
        batch_norm=d.batch_norm,
        lr_schedule=d.lr_schedule,
        decay=d.decay,
        warmup=d.warmup,
        label_smoothing=d.label_smoothing,
        init=d.init,
        **{name: getattr(d, name) for name in SETTINGS.get(optimizer, ())},
        test_images=d.test_images if d.test_images is not None and d.test_images < data.test_images else None,
    )


def _curve(
    d: Definition,
    source: DataSet | None,
    target: DataSet,
    source_optimizer: str | None,
    optimizer: str,
    scope: str | None,
    ticket: str,
    points: list[Point],
) -> Curve:
    """A curve with a name that is unique within its experiment and says no more than it must."""
    words = [_end(d, source, source_optimizer), "->"] if source else []
    words += [_end(d, target, optimizer), ticket]
    words += [scope] if scope and (scope != "global" or len(d.scopes) > 1) else []
    return Curve(" ".join(words), source, target, source_optimizer, optimizer, scope, ticket, tuple(points))


def _end(d: Definition, data: DataSet, used: str | None) -> str:
    several = len(set(d.optimizers + d.target_optimizers)) > 1
    return f"{data.name} ({used})" if several else data.name
