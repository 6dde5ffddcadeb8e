"""Every option given for an experiment changes its runs or is refused by name; none is ignored."""

from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.plan.checks import Unused
from engine.plan.defining import define, extended, options_of
from engine.plan.definitions import Definition
from engine.plan.experiments import curves
from engine.plan.options import DEFINING
from engine.recipes import Rule
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import TicketSource
from tests.conftest import TINY
from tests.trainings import CHANGED

OWN = {**TINY, "target": ["digits-a"], "random": ["none"], "epochs": 3}  # a chain alone
TICKET: dict[str, Any] = {"source": ["ticket:2"], "target": ["digits-b"], "epochs": 3, "replicates": 2}
SITUATIONS: dict[str, dict[str, Any]] = {
    "transfer": {**TINY, "epochs": 3, "levels": 9},
    "own": OWN,
    "no batch norm": {**TINY, "model": "conv-2", "epochs": 3, "levels": 9},
    "no batch norm, split": {**TINY, "model": "conv-2", "epochs": 3, "split": 2},
    "ticket": TICKET,
    "tickets": {**TICKET, "source": ["ticket:2", "ticket:5"]},
    "ticket with its output layer": {**TICKET, "source": ["ticket:2+output"]},
    "ticket alone": {**TICKET, "random": ["none"]},
    "ticket and data": {**TICKET, "source": ["ticket:2", "digits-a"], "levels": 9},
}


@pytest.fixture(autouse=True)
def _tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ticket:LEVEL` names a ticket file of that level; +output: which has the output layer pruned, too."""

    def source(spec: str) -> TicketSource:
        level, _, output = spec.removeprefix("ticket:").partition("+")
        rule = Rule(scope="layerwise", rewind=2, prunable="conv+output" if output else "conv")
        name, digest = f"ticket:there@{level}", f"{int(level):064x}"
        shape = (1, 8, 8)
        return TicketSource(
            name, digest, int(level), rule.rate, "vgg-digits", 0.25, shape, location=spec[7:], rule=rule
        )

    monkeypatch.setattr(ticketfiles, "source", source)


def queued(definition: Definition) -> set[tuple[str, int, int, str]]:
    return {(c.name, p.level, p.replicate, p.run.digest) for c in curves(definition) for p in c.points}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("option", DEFINING)
def test_an_option_changes_what_is_queued_or_is_refused(situation: str, option: str) -> None:
    base = SITUATIONS[situation]
    value = {**CHANGED, "images": 300}[option]
    before = define(**base)
    try:
        definition = define(**{**base, option: value})
    except InputError as error:
        named = error.option
    else:
        leaves = option == "keep" and definition.keep != before.keep
        assert leaves or queued(definition) != queued(before) or options_of(before).get(option) == value
        assert define(**options_of(definition)) == definition
        return
    assert named in (option, "model", "optimizer", "source", "random")


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("option", ["evaluate", "levels", "scope", "rewind", "rewinds", "batch_norm", "optimizer"])
def test_a_default_that_is_not_used_is_left_out(situation: str, option: str) -> None:
    base = SITUATIONS[situation] | ({"split": 2} if option == "batch_norm" else {})
    value = {**CHANGED, "evaluate": "0,2"}[option]
    try:
        define(**{**base, option: value})
    except Unused:
        definition = define(base.keys(), **{**base, option: value})
        assert queued(definition) == queued(define(**base))
        assert define(**options_of(definition)) == definition


@pytest.mark.parametrize(
    ("situation", "options", "said"),
    [
        ("own", {"evaluate": "0,2"}, "evaluate 0,2 is not used: no ticket is trained on another data set"),
        ("own", {"random": ["none", "local"]}, "random none contradicts local: give one of them"),
        ("no batch norm", {"rewinds": "weights"}, "rewinds weights is not used: conv-2 has no batch-norm statistics"),
        ("no batch norm, split", {"batch_norm": "whole"}, "batch_norm whole is not used: conv-2 has no batch norm"),
        ("own", {"levels": 0, "head": "fresh"}, "head fresh is not used: no ticket is trained"),
        ("own", {"levels": 0, "reshuffle_levels": True}, "reshuffle_levels True is not used: no level is above 0"),
        ("ticket", {"levels": 3}, "levels 3 is not used: the sources are ticket files alone, whose own is 2"),
        ("ticket", {"evaluate": "0,2"}, "evaluate 0,2 is not used: .* whose own is 2"),
        ("ticket", {"scope": ["global"]}, "scope global is not used: .* whose own is layerwise"),
        ("ticket", {"rewind": 1}, "rewind 1 is not used: .* whose own is 2"),
        ("ticket", {"rewinds": "weights"}, "rewinds weights is not used: .* whose own is all"),
        ("ticket", {"schedule": "continue"}, "schedule continue does not go with a ticket file"),
        ("ticket and data", {"schedule": "continue"}, "schedule continue does not go with a ticket file"),
        (
            "ticket and data",
            {"prunable": "conv+output"},
            "prunable conv.output differs from conv, which ticket:there@2 has",
        ),
        ("ticket with its output layer", {"random": ["global"]}, "random global needs a data set as source"),
        ("no batch norm", {"momentum": 0.5}, "momentum 0.5 is not used: no network is trained with sgd"),
        ("transfer", {"betas": "0.8,0.9"}, "betas 0.8,0.9 is not used: no network is trained with adam or adamw"),
        ("ticket", {"optimizer": ["sgd"], "target_optimizer": ["adam"], "nesterov": True}, "optimizer sgd is not used"),
        ("own", {"lr_schedule": "cosine", "milestones": "1,2"}, "milestones 1,2 is not used: .* rate is cosine"),
        ("own", {"lr_schedule": "constant", "decay": 0.5}, "decay 0.5 is not used: the learning rate is constant"),
        ("no batch norm", {"decay": 0.5}, "decay 0.5 is not used: the learning rate has no milestone"),
        ("ticket", {"optimizer": ["sgd"], "target_optimizer": ["adam"]}, "optimizer sgd is not used: no source"),
    ],
)
def test_what_is_not_used_is_named(situation: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        define(**{**SITUATIONS[situation], **options})


def test_a_tickets_own_values_are_no_mistake() -> None:
    own = {"levels": 2, "evaluate": "2", "scope": ["layerwise"], "rewind": 2, "rewinds": "all", "optimizer": ["sgd"]}
    plain = define(**TICKET)
    for option, value in own.items():
        definition = define(**{**TICKET, option: value})
        assert (definition.levels, definition.evaluate) == (plain.levels, plain.evaluate)
        assert define(**options_of(definition)) == definition
    assert define(**SITUATIONS["ticket with its output layer"]).random == ()


@pytest.mark.parametrize(
    ("situation", "more", "said"),
    [
        ("own", {"evaluate": "0-3"}, "evaluate 0-3 is not used"),
        ("transfer", {"random": ["none"]}, "random none is not used: it adds no random ticket"),
        ("ticket", {"levels": 4}, "levels 4 is not used: .* no source is trained"),
        ("ticket", {"scope": ["layerwise"]}, "scope global layerwise is not used"),
        ("ticket", {"optimizer": ["adam"]}, "optimizer sgd adam is not used"),
        ("ticket", {"random": ["local"]}, "random local is not used"),
    ],
)
def test_extending_ignores_nothing_either(situation: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        extended(define(**SITUATIONS[situation]), **more)


def test_whether_a_persons_own_model_has_batch_norm_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ("from torch import nn", "def small(classes):", "    body = [nn.Conv2d(1, 4, 3), nn.ReLU()]")
    (tmp_path / "plainnets.py").write_text(
        "\n".join((*lines, "    return nn.Sequential(*body, nn.Flatten(), nn.Linear(144, classes))\n"))
    )
    monkeypatch.chdir(tmp_path)
    base = {**TINY, "width": None, "model": "plainnets:small", "split": 2}
    define(**base)
    with pytest.raises(InputError, match="rewinds weights is not used: plainnets:small has no batch-norm statistics"):
        define(**base, rewinds="weights")
    with pytest.raises(InputError, match="batch_norm whole is not used: plainnets:small has no batch norm"):
        define(**base, batch_norm="whole")
