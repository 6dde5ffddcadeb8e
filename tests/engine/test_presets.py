"""The presets against the numbers of the paper's appendix A.1 and figures, worked out by hand.

Each curve has 15 evaluated levels: 0 to 6 (7) and 9, 12, ..., 30 (8). A chain has 31 runs: the dense network and 30
levels. A transferred ticket has 15 runs, and so has a random one. A ticket on its source, and the target's dense
network, are runs of a chain. All numbers are times 6 replicates.
"""

from typing import Any

import pytest
from msgspec import structs

from engine.errors import InputError
from engine.plan import experiments, presets
from engine.plan.defining import define
from engine.plan.definitions import Definition
from engine.plan.options import SCALES
from engine.plan.presets import PRESETS
from engine.recipes import Dense, Run

CHAIN, CURVE, REPLICATES = 31, 15, 6


def definitions(name: str) -> dict[str, Definition]:
    return {each: define(**presets.options(each), profile="exact") for each in presets.members(name)}


def runs(name: str) -> dict[str, Run]:
    """The distinct runs of a preset."""
    curves = [curve for definition in definitions(name).values() for curve in experiments.curves(definition)]
    return experiments.runs(curves)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        # Two scopes share the dense network: 31 + 30; random tickets.
        ("fig1a", CHAIN + 30 + CURVE),
        ("fig1b", CHAIN + 30),
        # The chains of 10a and 10b; 10a's tickets on 10b; random tickets on 10b.
        ("fig2a", 2 * CHAIN + CURVE + CURVE),
        ("fig2b", 2 * CHAIN + CURVE + CURVE),
        # Six chains, one of them the target's; five transfers; random tickets.
        *((f"fig{figure}{panel}", 6 * CHAIN + 5 * CURVE + CURVE) for figure in "34" for panel in "abcd"),
        *((f"fig{figure}{panel}-four", 4 * CHAIN + 3 * CURVE + CURVE) for figure in "34" for panel in "abcd"),
        # Four chains, three transfers, random tickets.
        *((f"fig{figure}{panel}", 4 * CHAIN + 3 * CURVE + CURVE) for figure in "34" for panel in "ef"),
        # The chains of SGD and of Adam; the ticket of one trained with the other; random tickets.
        ("fig5a", 2 * CHAIN + CURVE + CURVE),
        ("fig5b", 2 * CHAIN + CURVE + CURVE),
        # One chain; three kinds of random tickets, each with its own fresh weights at level 0.
        ("figA1", CHAIN + 3 * CURVE),
        # A chain; two more trainings and a line of each level that is evaluated.
        ("instability-start", CHAIN + 3 * CURVE),
        ("instability-rewound", CHAIN + 3 * CURVE),
    ],
)
def test_a_figure_has_the_runs_worked_out_by_hand(name: str, by_hand: int) -> None:
    assert len(runs(name)) == by_hand * REPLICATES


# VGG19. Chains: four small sets, CIFAR-10 layerwise (30 more), 10a, 10b, CIFAR-10 with Adam.
# Random tickets: four sets, 10b, CIFAR-10 with Adam; preserved and local masks for figure A1.
# Transfers: four targets x three other sources, 10a to 10b, Adam to SGD, SGD to Adam.
VGG_SMALL = (4 * CHAIN + 30 + 2 * CHAIN + CHAIN) + (4 + 1 + 1 + 2) * CURVE + (4 * 3 + 1 + 2) * CURVE
# ResNet50. Chains: four small sets, 10a, 10b. Random: four sets, 10b. Transfers: 4 x 3, 10a to 10b.
RESNET_SMALL = 6 * CHAIN + 5 * CURVE + (4 * 3 + 1) * CURVE
# Of each model, for the large sets: two chains; random tickets on both; tickets of both on the four small sets; on
# each of both those of three others.
LARGE = 2 * CHAIN + 2 * CURVE + 4 * 2 * CURVE + 2 * 3 * CURVE


def test_all_that_needs_no_large_set_is_6288_runs() -> None:
    assert (VGG_SMALL, RESNET_SMALL) == (592, 456)
    assert len(runs("paper-small")) == (592 + 456) * REPLICATES == 6288


def test_the_whole_paper_is_9912_runs() -> None:
    assert LARGE == 302
    assert len(runs("paper")) == (592 + 456 + 2 * 302) * REPLICATES == 9912
    assert runs("paper-small").keys() <= runs("paper").keys()


def test_every_figure_of_the_paper_is_in_it_under_its_own_name() -> None:
    panels = [f"fig{figure}{panel}" for figure in "34" for panel in "abcdef"]
    assert set(PRESETS["paper"].members) == {"fig1a", "fig1b", "fig2a", "fig2b", *panels, "fig5a", "fig5b", "figA1"}
    assert len(PRESETS["paper-small"].members) == 4 + 8 + 3


def trainings(name: str) -> list[dict[str, Any]]:
    return [structs.asdict(run.training) for run in runs(name).values()]


@pytest.mark.parametrize(
    ("name", "model", "epochs", "milestones"),
    [("fig3e", "vgg19", 160, (80, 120)), ("fig4e", "resnet50", 90, (50, 65, 80))],
)
def test_every_run_is_trained_as_the_appendix_says(name: str, model: str, epochs: int, milestones: Any) -> None:
    for training in trainings(name):
        assert training["model"] == model
        assert (training["epochs"], training["milestones"]) == (epochs, milestones)
        assert (training["optimizer"], training["learning_rate"], training["weight_decay"]) == ("sgd", 0.1, 1e-4)
        assert (training["batch_size"], training["width"]) == (512, 1.0)


def test_adam_trains_at_its_own_rate_and_sgd_at_its_own() -> None:
    for name, target in (("fig5a", "sgd"), ("fig5b", "adam")):
        rates = {(training["optimizer"], training["learning_rate"]) for training in trainings(name)}
        assert rates == {("sgd", 0.1), ("adam", 3e-4)}
        assert PRESETS[name].options["target_optimizer"] == [target]


def test_tickets_of_the_large_sets_are_reset_to_epoch_3_and_others_to_epoch_1() -> None:
    found = set()
    for run in runs("fig3a").values():
        if run.chain:
            found.add((run.chain.training.dataset, run.chain.rule.rewind))
        elif isinstance(run.ticket, Dense):
            found.add((run.training.dataset, run.ticket.rewind))
    small = {(name, 1) for name in ("svhn", "fashion-mnist", "cifar10", "cifar100")}
    assert found == small | {("imagenet", 3), ("places365", 3)}


def test_a_rewind_epoch_that_is_given_is_that_of_every_source() -> None:
    given = define(**{**PRESETS["fig3a"].options, "rewind": 2})
    rules = {p.run.chain.rule.rewind for c in experiments.curves(given) for p in c.points if p.run.chain}
    assert rules == {2}


def test_the_preset_says_that_the_sources_on_large_sets_are_an_inference() -> None:
    for name in ("fig3e", "fig3f", "fig4e", "fig4f"):
        assert "inference" in PRESETS[name].note
        assert set(PRESETS[name].options["source"]) == {"imagenet", "places365", "cifar100", "cifar10"}


def test_what_tells_the_experiments_of_a_list_apart_is_not_given_beside_it() -> None:
    assert presets.members("paper", ["replicates", "levels"]) == PRESETS["paper"].members
    assert presets.members("fig5a", ["target_optimizer"]) == ("fig5a",)
    with pytest.raises(InputError, match="target_optimizer tells the experiments of preset 'paper-small' apart"):
        presets.members("paper-small", ["target_optimizer"])
    with pytest.raises(InputError, match="preset 'paper' is 19 experiments: name one of fig1a, fig1b,"):
        presets.options("paper")


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown preset 'digit'.*did you mean 'digits'"):
        presets.find("digit")


def test_a_scale_changes_sizes_and_is_written_in_one_form() -> None:
    found = presets.scale("epochs=8, width=0.1250,batch=128,images=5000")
    assert found.of("fig3a") == "fig3a@width=0.125,epochs=8,images=5000,batch=128"
    assert found.options == {"width": 0.125, "epochs": 8, "images": 5000, "batch_size": 128}
    assert presets.scale("small").of("fig3a") == "fig3a@small"
    more = presets.scale("small,replicates=3")
    assert more.of("fig3a") == "fig3a@small,replicates=3"
    assert more.options == {**presets.scale("small").options, "replicates": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smal", "did you mean 'small'"),
        ("widht=1", "unknown scale 'widht'.*did you mean 'width'"),
        ("epochs=1.5", "epochs=1.5 is not a whole number"),
        ("width=", "width= is not a number"),
        ("epochs=2,epochs=3", "gives epochs twice"),
        ("epochs=3,small", "unknown scale 'small'"),
        ("", "unknown scale ''"),
    ],
)
def test_a_scale_that_is_not_understood_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        presets.scale(text)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", PRESETS["paper"].members)
def test_every_preset_can_be_made_small(name: str, scale: str) -> None:
    options = {**PRESETS[name].options, **presets.scale(scale).options}
    small = define(**options, profile="exact")
    assert all(data.train_images <= options["images"] for data in small.sources + small.targets)
    assert f"width {options['width']:g}, {options['epochs']} epochs" in presets.differences(small)


def test_an_experiment_of_the_papers_sizes_differs_in_none() -> None:
    assert [presets.differences(one) for one in definitions("fig1a").values()] == [""]
