"""Whole filters and N:M patterns against sorting them in Python, with exact counts at each of 30 levels."""

from functools import partial
from typing import Any

import pytest
import torch

from engine.errors import InputError
from engine.models import nets
from engine.plan import rates
from engine.plan.defining import define
from engine.plan.experiments import curves
from engine.pruning import counts, pruner
from engine.recipes import Chain, Rule, Run, Scope, Winning
from engine.tickets import starts, ticketfiles
from tests import trainings
from tests.conftest import TINY
from tests.trainings import TRAINING

SHAPES = {"first": (8, 3, 3, 3), "second": (12, 8, 3, 3), "third": (7, 12, 1, 1)}
LEVELS = range(1, 31)
layers = partial(trainings.weights, shapes=SHAPES, dtype=torch.float64)


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("ties", [False, True])
def test_filters_of_the_highest_mean_magnitude_stay(scope: Scope, ties: bool) -> None:
    rule, masks = Rule(scope=scope, granularity="filter"), None
    alive = {name: set(range(shape[0])) for name, shape in SHAPES.items()}
    names = list(SHAPES)
    pools = [names] if scope == "global" else [[name] for name in names]
    for level in LEVELS:
        weights = layers(level, ties)
        masks = pruner.prune(weights, masks, rule, level)
        for pool in pools:
            places = [
                (-float(weights[name][i].abs().flatten().mean()), names.index(name), i)
                for name in pool
                for i in alive[name]
            ]
            keep = round(sum(SHAPES[name][0] for name in pool) * 0.8**level)
            kept = sorted(places)[:keep]
            assert len(kept) == keep
            for name in pool:
                alive[name] = {i for _, n, i in kept if names[n] == name}
        for name, mask in masks.items():
            whole = mask.flatten(1)
            assert torch.equal(whole.any(1), whole.all(1)), "a filter is pruned as one"
            assert set(whole.any(1).nonzero().flatten().tolist()) == alive[name]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("pattern", "rate"), [("2:4", 0.2), ("2:4", 0.5), ("1:4", 0.2), ("3:4", 0.25)])
def test_the_largest_of_each_m_along_input_channels_stay(pattern: str, rate: float, ties: bool) -> None:
    rule, masks = Rule(granularity=pattern, rate=rate), None
    few, many = map(int, pattern.split(":"))
    for level in LEVELS:
        weights, before = layers(level, ties), masks
        masks = pruner.prune(weights, before, rule, level)
        keep = max(few, round(many * (1 - rate) ** level))
        assert bool(masks["first"].all()), "4 does not divide 3 input channels"
        for name in ("second", "third"):
            out, channels, height, width = SHAPES[name]
            for o in range(out):
                for group in range(channels // many):
                    for y in range(height):
                        for x in range(width):
                            places = [(o, group * many + i, y, x) for i in range(many)]
                            left = [place for place in places if before is None or before[name][place]]
                            order = sorted(left, key=lambda place: (-abs(float(weights[name][place])), place[1]))
                            kept = {place for place in places if masks[name][place]}
                            assert kept == set(order[:keep])


def test_a_pattern_that_divides_no_layer_is_refused() -> None:
    with pytest.raises(InputError, match="granularity 5:11 prunes nothing: 11 divides no layer's input channels"):
        pruner.prune(layers(0, ties=False), None, Rule(granularity="5:11"), 1)


def test_what_is_saved_is_stated_by_the_counts() -> None:
    model = nets.build("vgg19", 1.0, (3, 32, 32), 10)
    shapes = {name: tuple(weight.shape) for name, weight in nets.prunable(model).items()}
    kept = {names[0]: count for names, count in counts.pools(shapes, {}, Rule(granularity="2:4", rate=0.5), 1)}
    sizes = {name: weight.numel() for name, weight in nets.prunable(model).items()}
    assert {name for name in kept if kept[name] == sizes[name]} == {"conv1.weight"}
    assert all(2 * kept[name] == sizes[name] for name in list(sizes)[1:])


@pytest.mark.parametrize("granularity", ["filter", "2:4"])
def test_a_tickets_file_is_counted_by_its_granularity(granularity: str) -> None:
    chain = Chain(TRAINING, Rule(granularity=granularity))
    run = Run(Winning(chain, 2), TRAINING)
    assert Run.from_json(run.to_json()) == run
    model = nets.initialise(nets.build("vgg-digits", 0.5, (1, 8, 8), 10), "init", 0)
    masks = pruner.prune(nets.prunable(model), None, chain.rule, 2)
    data = ticketfiles.DataFacts("digits-a", "digits-a", (1, 8, 8), 10)

    def problems() -> list[str]:
        about = ticketfiles.about(run, data, (), nets.kinds(model))
        return ticketfiles.problems(ticketfiles.unpack(starts.pack_ticket(model, masks, about)))

    assert problems() == []
    masks["conv4.weight"] = torch.zeros_like(masks["conv4.weight"])
    assert "weights remain, at level 2" in problems()[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"granularity": "4:2"}, "give weight, filter, or N:M as in 2:4"),
        ({"granularity": "row"}, "give weight, filter, or N:M as in 2:4"),
        ({"granularity": "filter", "prunable": "conv+output"}, "filter prunes convolutions: give prunable conv"),
        ({"granularity": "filter", "scope": ["erk"]}, "erk does not go with granularity filter"),
        ({"granularity": "2:4", "scope": ["layerwise"]}, "layerwise does not go with granularity 2:4"),
        ({"granularity": "filter", "random": ["global"]}, "global does not keep the structure of granularity filter"),
        ({"granularity": "2:4", "levels": 9}, "9 is more than 3, at which 2 of 4 weights remain: give 3 or fewer"),
        ({"granularity": "2:4", "prunable": "conv+output", "prune_rate": "output=0.1"}, "give one rate"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        define(**{**TINY, **options})


def test_random_tickets_keep_the_structure_unless_told_otherwise() -> None:
    assert rates.granularity("granularity", " 2 : 4 ") == "2:4"
    found = curves(define(**{**TINY, "granularity": "2:4"}))
    assert {curve.ticket for curve in found} == {"dense", "winning", "random-preserved"}
    assert {curve.ticket for curve in curves(define(**TINY))} == {"dense", "winning", "random-global"}
