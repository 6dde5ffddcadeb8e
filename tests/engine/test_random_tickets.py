"""Each kind of random ticket against its definition written out, and as runs start from it."""

import inspect
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine import streams
from engine.plan.defining import define
from engine.plan.experiments import curves
from engine.pruning import counts, pruner, random_tickets
from engine.recipes import REWOUND, Rule, Run
from engine.store import database
from engine.tickets import starts
from engine.tickets.permutations import PERMUTATIONS
from tests.conftest import TINY, add, work_off
from tests.trainings import SHAPES, files, weights

LEVELS = range(1, 31)
SMALL: dict[str, Any] = {"target": ["digits-a"], "replicates": 1, "levels": 1}


def masks_of(level: int, ties: bool) -> dict[str, Tensor]:
    return pruner.prune(weights(0, ties), None, Rule(), level)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in PERMUTATIONS.built_in if kind not in REWOUND])
def test_masks_over_fresh_weights_keep_the_exact_count_at_each_of_30_levels(kind: str, ties: bool) -> None:
    for level in LEVELS:
        masks = masks_of(level, ties)
        found = PERMUTATIONS.load(kind)(masks, streams.generator("x", level))
        kept = pruner.remaining(found)
        assert sum(kept.values()) == sum(pruner.remaining(masks).values())
        if kind in ("local", "preserved"):
            assert kept == pruner.remaining(masks)
        if kind == "erk":  # counts by the scope `erk`
            sizes = {name: tuple(mask.shape) for name, mask in masks.items()}
            shares = {names[0]: count for names, count in counts.pools(sizes, {}, Rule(scope="erk"), level)}
            assert kept == shares


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", REWOUND)
def test_tickets_of_rewound_weights_are_those_written_out(kind: str, ties: bool) -> None:
    for level in LEVELS:
        masks, rewound = masks_of(level, ties), weights(100 + level, ties)
        found, made = PERMUTATIONS.load(kind)(masks, streams.generator("x", level), rewound)
        assert sum(pruner.remaining(found).values()) == sum(pruner.remaining(masks).values())
        if kind != "rewound-global":
            assert pruner.remaining(found) == pruner.remaining(masks)
        for name in SHAPES:
            before, after, mask = (one[name].double().numpy() for one in (rewound, made, masks))
            kept = mask.astype(bool)
            if kind.startswith("rewound"):
                assert np.array_equal(before, after)
            else:
                assert torch.equal(found[name], masks[name])
            if kind == "shuffled":
                assert sorted(before[kept]) == sorted(after[kept])
                assert np.array_equal(before[~kept], after[~kept])
            if kind == "constant-sign":
                size = np.sqrt(np.mean((before - before.mean()) ** 2))
                assert np.allclose(after, np.where(before < 0, -size, size), rtol=1e-6)


def test_what_is_drawn_depends_on_the_seed() -> None:
    masks, rewound = masks_of(3, False), weights(1)
    for kind in ("rewound-global", "rewound-local", "shuffled"):
        one, again, other = (
            PERMUTATIONS.load(kind)(masks, streams.generator("x", seed), rewound)[kind == "shuffled"]["b"]
            for seed in (0, 0, 1)
        )
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
    one, other = (random_tickets.erk(masks, streams.generator("x", seed))["b"] for seed in (0, 1))
    assert not torch.equal(one, other)


def test_every_kind_that_takes_rewound_weights_is_named_in_recipes() -> None:
    takes = {
        kind for kind in PERMUTATIONS.built_in if "rewound" in inspect.signature(PERMUTATIONS.load(kind)).parameters
    }
    assert takes == set(REWOUND)


def test_runs_start_from_the_weights_and_masks_of_their_kind(tmp_path: Path) -> None:
    path, kinds = tmp_path / "experiments.db", ["rewound-global", "shuffled", "constant-sign", "erk"]
    add(path, "kinds", **SMALL, random=kinds)
    work_off(path)
    found = {curve.ticket: curve for curve in curves(define(**{**TINY, **SMALL, "random": kinds}))}
    chain = found["winning"].points[-1].run.chain
    assert chain is not None
    with files(path) as read:
        rewound = starts.unpack_state(read(chain.run(0), "rewind"))
        mask = starts.unpack_masks(read(*chain.mask_of(1)))

        def start(run: Run) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            model, masks = starts.start(run, (1, 8, 8), 10, read)
            return model.state_dict(), masks

        for kind in kinds:
            dense, ticket = (point.run for point in found[f"random-{kind}"].points)
            assert Run.from_json(ticket.to_json()) == ticket
            assert (chain.run(0) in dense.needs()) == (kind in REWOUND)
            assert chain.run(0) in ticket.needs()
            state, masks = start(dense)
            assert all(bool(one.all()) for one in masks.values())
            if kind == "rewound-global":
                assert all(torch.equal(state[name], value) for name, value in rewound.items())
            state, masks = start(ticket)
            assert sum(pruner.remaining(masks).values()) == sum(pruner.remaining(mask).values())
            same = all(torch.equal(masks[name], one) for name, one in mask.items())
            assert same == (kind in ("shuffled", "constant-sign"))
            others = [name for name in rewound if name not in mask]
            assert all(torch.equal(state[name], rewound[name]) for name in others) == (kind in REWOUND)
            for name, one in mask.items():
                if kind == "rewound-global":
                    assert torch.equal(state[name], rewound[name])
                if kind == "shuffled":
                    assert torch.equal(state[name][one].sort().values, rewound[name][one].sort().values)
                    assert not torch.equal(state[name], rewound[name])
                if kind == "constant-sign":
                    assert torch.equal(state[name] < 0, rewound[name] < 0)
    with closing(database.reader(path)) as connection:
        assert {row[0] for row in connection.execute("SELECT status FROM runs")} == {"done"}
