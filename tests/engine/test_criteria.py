"""Each built-in criterion against its definition written out, and each schedule against torch's own."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn, optim

from engine import streams
from engine.pruning import pruner
from engine.pruning.criteria import CRITERIA, needs_weights_alone
from engine.recipes import Rule, Scope, Training
from engine.training import loop
from tests import trainings

Scores = NDArray[np.float64]
# Zhou et al. 2019, table 1, of final and rewound weights.
WRITTEN_OUT: dict[str, Callable[[Scores, Scores], Scores]] = {
    "magnitude": lambda final, rewound: np.abs(final),
    "magnitude-increase": lambda final, rewound: np.abs(final) - np.abs(rewound),
    "movement": lambda final, rewound: np.abs(final - rewound),
    "large-init": lambda final, rewound: np.abs(rewound),
    "small-init": lambda final, rewound: -np.abs(rewound),
    "small-final": lambda final, rewound: -np.abs(final),
    "large-final-same-sign": lambda final, rewound: np.maximum(0, np.sign(rewound) * final),
}
SHAPES = {"a": (4, 3, 3, 3), "b": (6, 4, 3, 3)}
weights = partial(trainings.weights, shapes=SHAPES, dtype=torch.float64)


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("criterion", WRITTEN_OUT)
def test_the_highest_scores_of_those_that_are_left_stay(criterion: str, ties: bool, scope: Scope) -> None:
    rule, masks = Rule(scope=scope, criterion=criterion), None
    left = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    for level in range(1, 31):
        final, rewound = weights(level, ties), weights(100 + level, ties)
        masks = pruner.prune(final, masks, rule, level, rewound)
        score = {name: WRITTEN_OUT[criterion](final[name].numpy(), rewound[name].numpy()) for name in SHAPES}
        pools = [list(SHAPES)] if scope == "global" else [[name] for name in SHAPES]
        for pool in pools:
            places = [(-score[n][place], n, place) for n in pool for place in np.ndindex(*SHAPES[n]) if left[n][place]]
            kept = sorted(places)[: round(sum(score[n].size for n in pool) * 0.8**level)]
            for name in pool:
                left[name] = np.zeros(SHAPES[name], bool)
            for _, name, place in kept:
                left[name][place] = True
        for name in SHAPES:
            assert np.array_equal(masks[name].numpy(), left[name]), (level, name)


def test_equal_scores_of_any_sign_go_to_the_lower_index() -> None:
    final = {"a": torch.tensor([1.0, 1.0, 1.0, 1.0])}
    rule = Rule(rate=0.5, criterion="magnitude-increase")
    masks = pruner.prune(final, None, rule, 1, {"a": torch.tensor([2.0, 2.0, 2.0, 2.0])})
    assert masks["a"].tolist() == [True, True, False, False]


def test_a_random_criterion_draws_from_its_seed_and_level() -> None:
    rule = Rule(rate=0.5, criterion="random")
    found = [pruner.prune(weights(0), None, rule, level, weights(1), seed) for level, seed in ((1, 0), (1, 0), (1, 1))]
    assert torch.equal(found[0]["b"], found[1]["b"])
    assert not torch.equal(found[0]["b"], found[2]["b"])
    total, masks = sum(int(np.prod(shape)) for shape in SHAPES.values()), None
    for level in range(1, 31):
        before = masks
        masks = pruner.prune(weights(0, ties=True), before, Rule(criterion="random"), level, weights(1))
        assert sum(pruner.remaining(masks).values()) == round(total * 0.8**level)
        assert before is None or all(bool((before[name] | ~masks[name]).all()) for name in SHAPES)


def test_every_criterion_of_ours_is_written_out_here() -> None:
    weights_alone = {
        name for name in CRITERIA.built_in if needs_weights_alone(Rule(criterion=name))
    }  # the others are in test_data_criteria.py
    assert {*WRITTEN_OUT, "random"} == weights_alone
    for name in weights_alone:
        found = CRITERIA.load(name)(weights(0), weights(1), streams.generator("x", 0))
        assert {layer: tuple(scores.shape) for layer, scores in found.items()} == SHAPES


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("step", lambda o: optim.lr_scheduler.MultiStepLR(o, [4, 7])),
        ("cosine", lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 10)),
        ("constant", lambda o: optim.lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_schedules_give_the_rates_of_torchs_own(
    name: str, theirs: Callable[[optim.Optimizer], optim.lr_scheduler.LRScheduler]
) -> None:
    training = Training(
        dataset="digits",
        model="vgg-digits",
        learning_rate=0.1,
        epochs=10,
        milestones=(4, 7),
        augmentation="none",
        profile="exact",
        seed=0,
        lr_schedule=name,
    )
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    schedule = theirs(optimizer)
    for epoch in range(10):
        assert loop.learning_rate(training, epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()
