"""The curves and runs of an experiment. No torch.

An experiment is a named set of curves; a curve is a set of runs over levels and replicates. `curves` expands a
definition to the runs of the paper's section 3. Runs that several curves or experiments share have equal digests and
are trained once.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import product
from weakref import WeakValueDictionary

import msgspec

from engine.datasets.catalog import DataSet
from engine.plan.definitions import LEARNING_RATES, Definition, rewind_of
from engine.plan.optimizers import SETTINGS
from engine.recipes import Chain, Head, Imported, Line, RandomGlobal, Rule, Run, Scope, Training
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import TicketSource


class Point(msgspec.Struct, frozen=True):
    """A point of a curve: the run of one level and replicate."""

    level: int
    replicate: int
    run: Run


class Curve(msgspec.Struct, frozen=True):
    """The runs of one (source, target, kind of ticket, scope). `source` is None for curves that depend on none."""

    name: str
    source: DataSet | TicketSource | None
    target: DataSet
    source_optimizer: str | None
    optimizer: str
    scope: str | None
    ticket: str
    points: tuple[Point, ...]


def curves(definition: Definition) -> list[Curve]:
    """The curves of an experiment, chains first. A ticket evaluated on its source is on the chain's curve."""
    d = definition
    chains_of = cache(partial(_chains, d))  # curves share the chains, and with them their runs
    every: list[Curve] = []
    for source, optimizer, scope in product(d.sources, d.optimizers, d.scopes):
        chains = chains_of(source, optimizer, scope)
        points = [Point(level, r, chains[r].run(level)) for level, r in _grid(d, range(d.levels + 1))]
        every.append(_curve(d, source, source, optimizer, optimizer, scope, "winning", points))
        if d.connect:
            lines = {(level, r): Line(chains[r], level, d.connect) for level, r in _grid(d, d.evaluate)}
            for number, kind in enumerate(("order-1", "order-2")):
                points = [Point(level, r, line.ends[number]) for (level, r), line in lines.items()]
                every.append(_curve(d, source, source, optimizer, optimizer, scope, kind, points))
            points = [Point(level, r, Run(line, line.chain.training)) for (level, r), line in lines.items()]
            every.append(_curve(d, source, source, optimizer, optimizer, scope, "line", points))
    for target, optimizer in product(d.targets, d.target_optimizers):
        every += _curves_on(d, target, optimizer, chains_of)
    return every


def runs(planned: Iterable[Curve]) -> dict[str, Run]:
    """The runs of curves by digest. A run comes after the runs that it needs."""
    return {point.run.digest: point.run for curve in planned for point in curve.points}


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
    on_target = [_curve(d, None, target, None, optimizer, None, "dense", dense)]
    for name, of_source in ticketfiles.by_name(d.tickets).items():
        points = [
            Point(ticket.level, r, Run(Imported(ticket.digest, ticket.level, _head(d)), trainings[r]))
            for ticket, r in product(of_source, range(d.replicates))
        ]
        words = f"{name} -> {_end(d, target, optimizer)} imported"
        on_target.append(Curve(words, of_source[0], target, None, optimizer, None, "imported", tuple(points)))
    grid = _grid(d, d.evaluate)
    # A globally permuted mask depends on its source only if the source's output layer is prunable.
    shared = d.prunable == "conv"
    if "global" in d.random and shared and isinstance(d.rate, float):
        points = [Point(level, r, Run(RandomGlobal.at(level, d.rate), trainings[r])) for level, r in grid]
        on_target.append(_curve(d, None, target, None, optimizer, None, "random-global", points))
    for source, source_optimizer, scope in product(d.sources, d.optimizers, d.scopes):
        chains = chains_of(source, source_optimizer, scope)
        ends = (source, target, source_optimizer, optimizer, scope)
        if (source, source_optimizer) != (target, optimizer):
            points = [Point(level, r, Run(chains[r].ticket(level), trainings[r])) for level, r in grid]
            on_target.append(_curve(d, *ends, "winning", points))
        for kind in d.random:
            if kind != "global" or not shared:
                points = [Point(level, r, Run(chains[r].random(kind, level), trainings[r])) for level, r in grid]
                on_target.append(_curve(d, *ends, f"random-{kind}", points))
    return on_target


def _grid(d: Definition, levels: Sequence[int]) -> list[tuple[int, int]]:
    return list(product(levels, range(d.replicates)))


def _chains(d: Definition, source: DataSet, optimizer: str, scope: Scope) -> list[Chain]:
    """The chains of all replicates. Replicate r has the seed `seed` + r, for sources and targets."""
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
    """The rule's setting of the output layer: `carry` is `auto`, after a check that class counts agree."""
    return "fresh" if d.head == "fresh" else "auto"


def _chain(training: Training, rule: Rule) -> Chain:
    """The chain of a training and a rule, one object for all experiments, so that its runs' digests are cached."""
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
    """A curve with the shortest name that is unique in its experiment."""
    words = [_end(d, source, source_optimizer), "->"] if source else []
    words += [_end(d, target, optimizer), ticket]
    words += [scope] if scope and (scope != "global" or len(d.scopes) > 1) else []
    return Curve(" ".join(words), source, target, source_optimizer, optimizer, scope, ticket, tuple(points))


def _end(d: Definition, data: DataSet, used: str | None) -> str:
    several = len(set(d.optimizers + d.target_optimizers)) > 1
    return f"{data.name} ({used})" if several else data.name
