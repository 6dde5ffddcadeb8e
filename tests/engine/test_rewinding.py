"""Rewinding to steps, and the three ways of retraining, in small experiments that are really trained."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from engine.datasets import load
from engine.datasets.pipeline import Data
from engine.errors import InputError
from engine.plan import presets
from engine.plan.defining import define, options_of
from engine.plan.experiments import curves
from engine.recipes import Chain, Dense, Rule, Run, Winning
from engine.store import database, records
from engine.tickets import starts
from engine.training import loop
from tests.conftest import TINY, add, work_off
from tests.trainings import TRAINING, files

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("exact_on_cpu")
SMALL: dict[str, Any] = {"target": ["digits-a"], "random": ["none"], "replicates": 1, "levels": 2}


def chain_of(**options: Any) -> Chain:
    """The chain of the experiment of these options."""
    run = curves(define(**{**TINY, **SMALL, **options}))[0].points[-1].run
    assert isinstance(run.ticket, Winning)
    return run.ticket.chain


def start(run: Run, read: starts.Read) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    model, masks = starts.start(run, (1, 8, 8), 10, read)
    return model.state_dict(), masks


@pytest.mark.parametrize("step", [7, 10])  # within an epoch, and at its end
def test_the_state_after_a_step_is_kept_and_rewound_to(tmp_path: Path, step: int) -> None:
    path = tmp_path / "experiments.db"
    add(path, "steps", **{**SMALL, "levels": 1, "rewind": f"{step}it"})
    work_off(path)
    chain = chain_of(rewind=f"{step}it", levels=1)
    t = chain.training
    data = Data(load.load(t.dataset, ""), t, CPU)
    assert -(-len(data.train) // t.batch_size) == 10
    model, masks = starts.start(chain.run(0), (1, 8, 8), 10, lambda *_: b"")
    state = loop.begin(model, masks, t, CPU)
    expected: dict[str, torch.Tensor] = {}

    def after_batch(now: loop.State) -> None:
        if not expected and now.epoch * 10 + now.step == step:
            expected.update({name: value.clone() for name, value in now.model.state_dict().items()})

    list(loop.train(state, data, t, after_batch))
    with files(path) as read:
        found, kept = start(chain.run(1), read)
        rewound = starts.unpack_state(read(chain.run(0), "rewind"))
    for name, value in expected.items():
        assert torch.equal(rewound[name], value), name
        survivors = kept.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(found[name][survivors], value[survivors]), name
    with closing(database.reader(path)) as connection:
        assert connection.execute("SELECT DISTINCT rewind_epoch FROM runs").fetchall()[0][0] is None


@pytest.mark.parametrize("retrain", ["lr-rewind", "finetune"])
@pytest.mark.parametrize("schedule", ["restart", "continue"])
def test_retraining_goes_on_from_the_weights_of_the_level_below(tmp_path: Path, retrain: Any, schedule: Any) -> None:
    path = tmp_path / "experiments.db"
    settings: dict[str, Any] = {"retrain": retrain, "schedule": schedule, "epochs": 3, "milestones": "1,2"}
    add(path, "retrained", **{**SMALL, **settings})
    work_off(path)
    chain = chain_of(**settings)
    with files(path) as read, closing(database.reader(path)) as connection:
        for level in (1, 2):
            state, masks = start(chain.run(level), read)
            below = starts.unpack_state(read(chain.run(level - 1), "final"))
            assert all(torch.equal(state[name], value) for name, value in below.items())
            assert sum(int(mask.sum()) for mask in masks.values()) < sum(mask.numel() for mask in masks.values())
            rows = connection.execute(
                "SELECT e.epoch, e.learning_rate FROM epochs e JOIN runs r ON r.id = e.run_id WHERE r.digest = ?"
                " ORDER BY e.epoch",
                (chain.run(level).digest,),
            ).fetchall()
            first = 1 if schedule == "continue" else 0
            rates = {"lr-rewind": [0.1, 0.01, 0.001], "finetune": [0.001] * 3}[retrain][first:]
            assert [tuple(row) for row in rows] == [(first + i, pytest.approx(rate)) for i, rate in enumerate(rates)]
        assert records.file_of(connection, chain.run(2).digest, "final")


def test_fine_tuning_takes_the_last_rate_of_any_schedule() -> None:
    t = replace(TRAINING, lr_schedule="cosine", warmup="3ep", epochs=10, milestones=())
    tuned = loop.training_of(Run(Winning(Chain(t, Rule(retrain="finetune")), 1), t))
    last = loop.learning_rate(t, 9)
    assert [loop.learning_rate(tuned, epoch, step, 5) for epoch in range(10) for step in range(5)] == [last] * 50
    for run in (Run(Dense(1), t), Run(Winning(Chain(t, Rule(retrain="lr-rewind")), 1), t)):
        assert loop.training_of(run) is t


def of(**options: Any) -> dict[str, Any]:
    return options_of(define(**{**TINY, **options}))


def test_epochs_and_steps_have_one_form_and_epochs_leave_recipes_as_they_were() -> None:
    assert of(rewind="1ep")["rewind"] == of(rewind=1)["rewind"] == 1
    assert of(rewind="0it")["rewind"] == 0
    assert of(rewind="12it")["rewind"] == "12it"
    for given in ("1ep", "7it"):
        run = chain_of(rewind=given).run(2)
        assert Run.from_json(run.to_json()) == run
    assert chain_of(rewind="1ep").run(2).digest == chain_of().run(2).digest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rewind": "21it"}, "rewind 21it is out of range: digits-a is trained for 20 steps"),
        ({"rewind": "3"}, "rewind 3 is out of range"),
        ({"rewind": "7it", "schedule": "continue"}, "continue starts with a whole epoch, not after 7it"),
        ({"rewind": "x"}, "give epochs as in 5ep, or steps as in 500it"),
        ({"retrain": "finetune", "prune_at": "init"}, "finetune keeps the weights of training: give prune_at end"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        of(**options)


def test_the_presets_of_retraining_and_of_criteria_at_initialisation_differ_in_one_option() -> None:
    for name, option in (("renda", "retrain"), ("init-criteria", "criterion")):
        found = [define(**presets.options(member), profile="exact") for member in presets.members(name)]
        assert len({getattr(one, option) for one in found}) == len(found)
        assert len({replace(one, **{option: getattr(found[0], option)}) for one in found}) == 1
