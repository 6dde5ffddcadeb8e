"""The weights that layers keep, against counts assigned one by one and the papers' formulas; rates of kinds."""

import math
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from engine.errors import InputError
from engine.models import nets
from engine.plan import rates
from engine.plan.defining import define, options_of
from engine.plan.experiments import curves
from engine.pruning import counts, pruner
from engine.recipes import Chain, Kind, RandomGlobal, Rates, Rule, Run, Scope, Winning
from engine.tickets import starts, ticketfiles
from tests import trainings
from tests.conftest import TINY
from tests.trainings import TRAINING

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (6, 3, 3, 3),
    "conv2.weight": (10, 6, 3, 3),
    "conv3.weight": (7, 10, 1, 1),
    "linear1.weight": (12, 28),
    "output.weight": (10, 12),
}
KINDS: dict[str, Kind] = {
    name: "conv" if name.startswith("conv") else "output" if name.startswith("output") else "linear" for name in SHAPES
}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}
LEVELS = range(1, 31)
layers = partial(trainings.weights, shapes=SHAPES)


def given_out(total: int, weights: dict[str, int], least: dict[str, int]) -> dict[str, int]:
    """Assign weights one by one to the layer furthest behind its share, the earlier among equals."""
    found = dict(least)
    for _ in range(total - sum(least.values())):
        open_ = [name for name in SIZES if found[name] < SIZES[name]]
        best = max(Fraction(weights[name], 2 * found[name] + 1) for name in open_)
        found[next(name for name in open_ if Fraction(weights[name], 2 * found[name] + 1) == best)] += 1
    return found


def expected(scope: Scope, level: int) -> dict[str, int]:
    total = round(sum(SIZES.values()) * 0.8**level)
    if scope == "erk":
        return given_out(total, {name: sum(shape) for name, shape in SHAPES.items()}, dict.fromkeys(SIZES, 0))
    first, last = SIZES["conv1.weight"], -(-SIZES["output.weight"] // 5)
    least = dict.fromkeys(SIZES, 0) | {"conv1.weight": first, "output.weight": last}
    if total < first + last:
        return dict.fromkeys(SIZES, 0) | {"conv1.weight": min(first, total), "output.weight": max(0, total - first)}
    return given_out(total, SIZES, least)


@pytest.mark.parametrize("scope", ["erk", "uniform+"])
@pytest.mark.parametrize("ties", [False, True])
def test_each_layer_keeps_its_share_at_each_of_30_levels(scope: Scope, ties: bool) -> None:
    rule, masks = Rule(scope=scope), None
    for level in LEVELS:
        weights = layers(level, ties)
        found = pruner.prune(weights, masks, rule, level, kinds=KINDS)
        assert pruner.remaining(found) == (shares := expected(scope, level))
        assert sum(shares.values()) == round(sum(SIZES.values()) * 0.8**level)
        for name, mask in found.items():
            left = torch.ones_like(mask) if masks is None else masks[name]
            assert not (mask & ~left).any(), "a pruned weight came back"
            scores = weights[name].abs().masked_fill(~left, -1).flatten()
            order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
            assert set(order[: shares[name]]) == set(mask.flatten().nonzero().flatten().tolist())
        masks = found


def test_erk_is_the_papers_density_where_no_layer_is_whole() -> None:
    shares, total = expected("erk", 12), round(sum(SIZES.values()) * 0.8**12)
    for name, shape in SHAPES.items():
        raw = sum(shape) / math.prod(shape)  # equation of Evci et al. 2020, section 3
        density = raw * total / sum(map(sum, SHAPES.values()))
        assert density < 1
        assert shares[name] == pytest.approx(density * SIZES[name], abs=1)


def test_no_share_grows_where_the_total_falls() -> None:
    weights, most = {"a": 5, "b": 3, "c": 1}, {"a": 40, "b": 7, "c": 60}
    shares = [counts.apportioned(n, weights, dict.fromkeys(weights, 0), most) for n in range(sum(most.values()) + 1)]
    assert [sum(one.values()) for one in shares] == list(range(108))
    assert all(low[name] <= high[name] for low, high in pairwise(shares) for name in weights)


def test_millions_of_weights_are_shared_exactly() -> None:
    model = nets.build("vgg19", 1.0, (3, 32, 32), 10)
    shapes = {name: tuple(weight.shape) for name, weight in nets.prunable(model).items()}
    for level in (1, 7, 30):
        shares = {names[0]: count for names, count in counts.pools(shapes, {}, Rule(scope="erk"), level)}
        assert sum(shares.values()) == round(20_018_880 * 0.8**level)


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("ties", [False, True])
def test_each_kind_of_layer_is_pruned_at_its_own_rate(scope: Scope, ties: bool) -> None:
    rate: dict[str, float] = {"conv": 0.15, "linear": 0.2, "output": 0.1}
    rule, masks = Rule(rate=rates.read("prune_rate", "conv=0.15,linear=0.2,output=0.1"), scope=scope), None
    pools = [[name for name in SHAPES if KINDS[name] == kind] for kind in rate]
    pools = pools if scope == "global" else [[name] for name in SHAPES]
    for level in LEVELS:
        weights, before = layers(level, ties), masks
        masks = pruner.prune(weights, before, rule, level, kinds=KINDS)
        assert list(masks) == list(SHAPES)
        for pool in pools:
            places = [
                (-abs(float(weights[n].flatten()[i])), pool.index(n), i)
                for n in pool
                for i in range(SIZES[n])
                if before is None or before[n].flatten()[i]
            ]
            keep = round(sum(SIZES[name] for name in pool) * (1 - rate[KINDS[pool[0]]]) ** level)
            kept = {(pool[n], i) for _, n, i in sorted(places)[:keep]}
            assert kept == {(n, i) for n in pool for i in masks[n].flatten().nonzero().flatten().tolist()}


def test_layers_of_one_rate_are_compared_with_each_other() -> None:
    rule = Rule(rate=rates.read("prune_rate", "output=0.1"))
    assert counts.pools(SHAPES, KINDS, rule, 1) == [
        (list(SHAPES)[:-1], round(0.8 * sum(list(SIZES.values())[:-1]))),
        (["output.weight"], round(0.9 * 120)),
    ]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (0.3, 0.3),
        ("0.3", 0.3),
        ("conv=0.2,linear=0.2,output=0.1", "conv=0.2,linear=0.2,output=0.1"),
        ("output=0.1", "conv=0.2,linear=0.2,output=0.1"),
        ("0.3, OUTPUT=0.1", "conv=0.3,linear=0.3,output=0.1"),
        ("conv=0.3,linear=0.3,output=0.3", 0.3),
        ("output=1e-5", "conv=0.2,linear=0.2,output=1e-05"),
    ],
)
def test_rates_have_one_form_which_is_read_again(given: str | float, found: Rates) -> None:
    assert rates.read("prune_rate", given) == found
    assert rates.read("prune_rate", found) == found
    run = Run(RandomGlobal(2, 0.3), curves(define(**TINY))[0].points[0].run.training)
    assert Run.from_json(run.to_json()) == run


@pytest.mark.parametrize(
    "given", ["", "a", "conv", "conv=", "conv=x", "nan", "conv=2", "0", "1", "conv=0.1,conv=0.2", "con=0.1"]
)
def test_rates_that_are_not_understood_are_refused(given: str) -> None:
    with pytest.raises(InputError):
        rates.read("prune_rate", given)


def of(**options: Any) -> dict[str, Any]:
    return options_of(define(**{**TINY, **options}))


def test_a_rate_of_a_kind_that_is_not_pruned_is_refused() -> None:
    with pytest.raises(InputError, match=r"output=0\.1 is not used: prunable conv prunes no output"):
        of(prune_rate="output=0.1")
    with pytest.raises(InputError, match=r"linear=0\.3 is not used: prunable conv\+output prunes no linear"):
        of(prune_rate="output=0.1,linear=0.3", prunable="conv+output")
    assert of(prune_rate="output=0.1", prunable="conv+output")["prune_rate"] == "conv=0.2,linear=0.2,output=0.1"
    assert of(prune_rate="conv=0.3,linear=0.3,output=0.3")["prune_rate"] == 0.3
    with pytest.raises(InputError, match="does not go with scope erk: give one rate"):
        of(prune_rate="output=0.1", prunable="conv+output", scope=["erk"])


def test_the_recipe_of_a_chain_holds_its_rates_and_is_read_again() -> None:
    found = curves(define(**{**TINY, "prune_rate": "output=0.1", "prunable": "conv+output", "random": ["global"]}))
    assert [curve.ticket for curve in found].count("random-global") == 1
    for curve in found:
        for point in curve.points:
            assert Run.from_json(point.run.to_json()) == point.run
    rules = {point.run.chain.rule.rate for curve in found for point in curve.points if point.run.chain}
    assert rules == {"conv=0.2,linear=0.2,output=0.1", 0.2}  # level 0 has no rate


def test_lenet_300_100_is_of_linear_layers_alone_and_its_default_prunes_them() -> None:
    model = nets.initialise(nets.build("lenet-300-100", 1.0, (3, 32, 32), 10), "init", 0)
    weights = nets.prunable(model, "conv+linear")
    assert {name: weight.numel() for name, weight in weights.items()} == {
        "linear1.weight": 784 * 300,
        "linear2.weight": 300 * 100,
        "output.weight": 1000,
    }  # 266,200 weights (Frankle and Carbin 2019, figure 2)
    assert list(nets.kinds(model).values()) == ["linear", "linear", "output"]
    grey = torch.rand(2, 1, 28, 28)
    padded = nn.functional.pad(grey, (2, 2, 2, 2), value=7.0).repeat(1, 3, 1, 1)
    by_hand = nn.Sequential(nn.Flatten(), *list(model.children())[2:])
    assert torch.allclose(model(padded), by_hand(grey), atol=1e-6)
    found = define(source=["digits-a"], model="lenet-300-100", profile="exact")
    assert found.prunable == "conv+linear"
    assert found.optimizers == ("adam",)
    with pytest.raises(InputError, match=r"prunable conv prunes no hidden layer of lenet-300-100: give conv\+linear"):
        define(source=["digits-a"], model="lenet-300-100", prunable="conv")


@pytest.mark.parametrize("scope", ["global", "layerwise", "erk", "uniform+"])
def test_a_tickets_file_is_counted_by_the_kinds_of_its_layers(scope: Scope) -> None:
    rate: Rates = "conv=0.2,linear=0.2,output=0.1" if scope in ("global", "layerwise") else 0.2
    chain = Chain(TRAINING, Rule(scope=scope, rate=rate, prunable="conv+output"))
    run = Run(Winning(chain, 2), TRAINING)
    model = nets.initialise(nets.build("vgg-digits", 0.25, (1, 8, 8), 10), "init", 0)
    weights, kinds = nets.prunable(model, "conv+output"), nets.kinds(model)
    masks = pruner.prune(weights, None, chain.rule, 2, kinds=kinds)
    data = ticketfiles.DataFacts("digits-a", "digits-a", (1, 8, 8), 10)

    def file(about_layers: dict[str, Kind]) -> ticketfiles.TicketFile:
        return ticketfiles.unpack(starts.pack_ticket(model, masks, ticketfiles.about(run, data, (), about_layers)))

    assert ticketfiles.problems(file(kinds)) == []
    assert file(kinds).about.layers == tuple(kinds.items())
    assert ticketfiles.problems(file({})) == ["it does not say what kinds of layers its masks are of"]
    masks["output.weight"] = masks["output.weight"].logical_not()
    assert "weights remain, at level 2" in ticketfiles.problems(file(kinds))[0]
