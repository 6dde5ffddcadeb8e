"""From options to runs: shared runs, numbers of runs, refused options."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine.datasets.catalog import DataSet, remembered
from engine.datasets.specs import resolve
from engine.errors import InputError
from engine.plan import experiments
from engine.plan.checks import checked
from engine.plan.defining import define, extended, options_of
from engine.plan.definitions import Definition, evaluation_levels
from engine.plan.experiments import curves
from engine.plan.options import DEFINING
from engine.plan.presets import PRESETS
from engine.recipes import Dense
from tests.conftest import TINY
from tests.images import gray, save
from tests.trainings import CHANGED, NEEDED


def tiny(**options: Any) -> Definition:
    return define(**{**TINY, **options})


def runs(definition: Definition) -> list[str]:
    return [point.run.digest for curve in curves(definition) for point in curve.points]


def test_the_demonstration_is_19_levels_of_the_chain_and_5_of_each_ticket() -> None:
    definition = define(**PRESETS["digits"].options)
    assert definition.evaluate == (0, 6, 12, 15, 18)
    assert len(set(runs(definition))) == 2 * (
        19 + 5 + 5 + 1
    )  # chain, transfers, random tickets, the target's dense network


def test_a_ticket_on_its_own_source_is_the_chains_own_run() -> None:
    definition = tiny(source=["digits-a", "digits-b"], target=["digits-b"])
    found = runs(definition)
    # Two chains of 4 levels; digits-a's tickets and the random ones on digits-b, 4 levels each; digits-b's dense run
    # is the chain's level 0.
    assert len(set(found)) == 2 * (4 + 4 + 4 + 4)
    assert len(found) == len(set(found)) + 2


def test_two_sources_share_one_random_global_curve() -> None:
    both = [c for c in curves(tiny(source=["digits-a", "digits"])) if c.ticket == "random-global"]
    alone = [c for c in curves(tiny(source=["digits-a"])) if c.ticket == "random-global"]
    assert len(both) == 1
    assert both[0].source is None
    assert both[0].points == alone[0].points


def test_random_tickets_know_their_chain_where_the_output_layer_is_prunable() -> None:
    found = curves(tiny(source=["digits-a", "digits"], prunable="conv+output"))
    assert [c.source.name for c in found if c.ticket == "random-global" and c.source] == ["digits-a", "digits"]


def test_local_and_preserved_random_tickets_are_a_curve_for_each_source_and_scope() -> None:
    found = curves(tiny(random=["local", "preserved"], scope=["global", "layerwise"]))
    tickets = [(c.ticket, c.scope) for c in found if c.ticket.startswith("random")]
    assert sorted(tickets) == [
        ("random-local", "global"),
        ("random-local", "layerwise"),
        ("random-preserved", "global"),
        ("random-preserved", "layerwise"),
    ]


def test_optimizers_cross_as_in_figure_5() -> None:
    found = curves(tiny(target=["digits-a"], optimizer=["sgd", "adam"], target_optimizer=["sgd"], random=["none"]))
    names = [c.name for c in found]
    assert names == [
        "digits-a (sgd) -> digits-a (sgd) winning",
        "digits-a (adam) -> digits-a (adam) winning",
        "digits-a (sgd) dense",
        "digits-a (adam) -> digits-a (sgd) winning",
    ]


def test_curve_names_are_unique() -> None:
    definition = tiny(
        source=["digits-a", "digits-b", "digits"],
        target=["digits-b", "digits"],
        optimizer=["sgd", "adam"],
        scope=["global", "layerwise"],
        random=["global", "local", "preserved"],
    )
    names = [curve.name for curve in curves(definition)]
    assert len(names) == len(set(names))


def test_replicates_use_consecutive_seeds_from_zero_on_source_and_target_alike() -> None:
    for curve in curves(tiny(replicates=3)):
        for point in curve.points:
            chain = point.run.chain
            assert point.run.training.seed == point.replicate
            assert chain is None or chain.training.seed == point.replicate
    assert set(runs(tiny(seed=0))) == set(runs(tiny()))
    assert not set(runs(tiny(seed=2))) & set(runs(tiny(seed=0)))


def test_all_that_a_run_needs_is_on_one_of_the_curves() -> None:
    definition = tiny(source=["digits-a", "digits"], random=["global", "local"], evaluate="3", scope=["layerwise"])
    found = set(runs(definition))
    needed = {n.digest for c in curves(definition) for p in c.points for n in p.run.needs()}
    assert needed <= found
    before: set[str] = set()
    for digest, run in experiments.runs(curves(definition)).items():
        assert {n.digest for n in run.needs()} <= before
        before.add(digest)


def test_evaluation_levels() -> None:
    assert evaluation_levels("paper", 30) == (0, 1, 2, 3, 4, 5, 6, 9, 12, 15, 18, 21, 24, 27, 30)
    assert evaluation_levels("paper", 4) == (0, 1, 2, 3, 4)
    assert evaluation_levels("all", 3) == (0, 1, 2, 3)
    assert evaluation_levels("4,0-2", 5) == (0, 1, 2, 4)


def test_the_schedule_scales_with_the_epochs() -> None:
    vgg19: dict[str, Any] = {"source": ["digits"], "model": "vgg-digits", "epochs": 8}
    assert define(**vgg19).milestones == (4, 6)
    # However short, the first epoch has the full rate, and no epoch drops it twice
    assert [define(source=["digits"], epochs=n).milestones for n in (1, 2, 3)] == [(1,), (1, 2), (2, 3)]


def test_the_papers_settings_are_the_defaults() -> None:
    d = define(source=["digits"])
    assert (d.rate, d.scopes, d.replicates, d.levels) == (0.2, ("global",), 6, 30)
    assert {p.run.ticket.rewind for c in curves(d) for p in c.points if isinstance(p.run.ticket, Dense)} == {1}
    assert (d.prunable, d.rewinds, d.schedule, d.validation) == ("conv", "all", "restart", 0.0)
    learning = {o: curves(define(source=["digits"], optimizer=[o]))[0].points[0].run.training for o in ("sgd", "adam")}
    assert (learning["sgd"].learning_rate, learning["sgd"].weight_decay) == (0.1, 1e-4)
    assert (learning["adam"].learning_rate, learning["adam"].weight_decay) == (3e-4, 1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": ["digitz"]}, "unknown data set 'digitz'.*did you mean 'digits'"),
        ({"source": []}, "no source"),
        ({"model": "vgg91"}, "unknown model 'vgg91'.*did you mean 'vgg19'"),
        ({"model": "vgg19"}, "vgg19 needs images of at least 16 pixels.*vgg-digits"),
        ({"optimizer": ["adamm"]}, "unknown optimizer 'adamm'.*did you mean 'adam'"),
        ({"scope": ["locally"]}, "unknown scope 'locally': choose from global, layerwise"),
        ({"random": ["globl"]}, "unknown random 'globl'.*none.*did you mean 'global'"),
        ({"prunable": "all"}, "unknown prunable 'all'"),
        ({"profile": "quick"}, "unknown profile 'quick': choose from exact, fast"),
        ({"augmentation": "mirror"}, "unknown augmentation 'mirror'"),
        ({"prune_rate": 0.0}, "prune_rate 0 is out of range .above 0 and below 1"),
        ({"prune_rate": 1.0}, "prune_rate 1 is out of range"),
        ({"prune_rate": float("nan")}, "prune_rate nan is out of range"),
        ({"levels": -1}, r"levels -1 is out of range \(0 to 200\)"),
        ({"epochs": 0}, "epochs 0 is out of range"),
        ({"rewind": 3}, r"rewind 3 is out of range \(0 to 2\)"),
        ({"replicates": 0}, "replicates 0 is out of range"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"batch_size": 1}, "batch_size 1 is out of range"),
        ({"width": 0.0}, "width 0 is out of range"),
        ({"validation": 0.7}, "validation 0.7 is out of range"),
        ({"learning_rate": 0.0}, "learning_rate 0 is out of range"),
        ({"weight_decay": -1.0}, "weight_decay -1 is out of range"),
        ({"evaluate": "6-0"}, "evaluate '6-0' is not understood"),
        ({"evaluate": "0-999999999"}, "names levels outside"),
        ({"evaluate": "often"}, "evaluate 'often' is not understood"),
        ({"evaluate": "0-9"}, "evaluate '0-9' names levels outside 0 to 3"),
        ({"schedule": "continue", "rewind": 2}, "leaves nothing to train"),
        ({"momentum": 1.0}, r"momentum 1 is out of range \(0 or more and below 1\)"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs momentum: give momentum above 0"),
        ({"betas": "0.9"}, "betas '0.9' is not understood: give two numbers as in 0.9,0.999"),
        ({"betas": "0.9,1"}, r"betas 1 is out of range \(0 or more and below 1\)"),
        ({"betas": "0.9,nan"}, "betas nan is out of range"),
        ({"milestones": "2,1"}, "milestones '2,1' is not understood: give ascending epochs as in 80,120, or none"),
        ({"milestones": "0,1"}, "milestones '0,1' is not understood"),
        ({"milestones": "1,3"}, "milestones 1,3 names an epoch that is not trained: give less than epochs 2"),
        ({"decay": 1.0}, r"decay 1 is out of range \(above 0 and below 1\)"),
        ({"warmup": "5s"}, "warmup '5s' is not understood: give epochs as in 5ep, or steps as in 500it"),
        ({"warmup": "2"}, r"warmup 2ep never ends: give less than epochs 2 \("),
        ({"warmup": "500it"}, "warmup 500it never ends"),
        ({"label_smoothing": -0.1}, "label_smoothing -0.1 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny(**options)


def test_an_output_layer_is_carried_only_where_class_counts_agree() -> None:
    definition = tiny(head="carry")
    assert curves(definition) == curves(tiny())  # it changes only what is refused
    other = replace(definition.targets[0], classes=26)
    with pytest.raises(InputError, match="head carry is impossible: digits-a has 10 classes, digits-b 26: give auto"):
        checked(structs.replace(definition, targets=(other,)))


def recorded(data: DataSet) -> DataSet:
    """A data set as the database returns it."""
    return remembered(
        data.name, data.identity, data.location, data.shape, data.classes, data.train_images, data.test_images
    )


def test_a_definition_is_read_back_as_it_was_written() -> None:
    definition = tiny(source=["digits-a", "digits"], optimizer=["sgd", "adam"], learning_rate=0.5, random=["none"])
    data_sets = {(data.name, data.identity): recorded(data) for data in definition.sources + definition.targets}
    assert Definition.from_json(definition.to_json(), lambda name, identity: data_sets[name, identity]) == definition


def test_images_are_said_by_the_names_of_the_data_sets() -> None:
    definition = define(**{**TINY, "images": 300})
    found = options_of(definition)
    assert (found["source"], found["target"]) == (["digits-a-300"], ["digits-b-300"])
    assert define(**found) == definition
    assert define(**{**found, "images": 100}) == define(**{**TINY, "images": 100})
    assert define(**{**TINY, "images": 5000}) == define(**TINY)
    with pytest.raises(InputError, match=r"images 9: data set 'digits-a': it cannot be cut to 9"):
        define(**{**TINY, "images": 9})


@pytest.mark.parametrize("option", [option for option in DEFINING if option != "images"])
def test_a_definition_says_the_options_that_make_it_again(option: str) -> None:
    plain = {**TINY, "epochs": 3, "levels": 9, **NEEDED.get(option, {})}
    definition = define(**{**plain, option: CHANGED[option]})
    assert definition != define(**plain)
    found = options_of(definition)
    assert found[option] == CHANGED[option]
    assert define(**found) == definition


@pytest.mark.parametrize("part", ["", "-a", "-b", "-12", "-b-12"])
def test_an_npz_set_is_found_again_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    save(tmp_path / "photos.npz", gray())
    monkeypatch.chdir(tmp_path)
    data = resolve(f"npz:photos.npz{part}")
    monkeypatch.chdir("/")
    assert data.spec == f"npz:{tmp_path}/photos.npz{part}"
    assert resolve(data.spec) == data
    assert replace(data, location="").spec == data.name == f"npz:photos{part}"


@pytest.mark.parametrize("name", ["photos", "Mnist", "svhn"])
@pytest.mark.parametrize("part", ["", "-a", "-b", "-12", "-b-12"])
def test_a_data_set_is_remembered_as_it_was_found(tmp_path: Path, name: str, part: str) -> None:
    data = resolve(save(tmp_path / f"{name}.npz", gray()) + part)
    assert recorded(data) == data
    assert recorded(resolve("digits-b")) == resolve("digits-b")


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, {}),
        ({"replicates": 5}, {"replicates": 5}),
        ({"levels": 30}, {"levels": 30}),  # the rule `paper` follows
        ({"levels": 12, "evaluate": "all"}, {"levels": 12, "evaluate": "all"}),
        ({"source": ["digits"]}, {"source": ["digits-a", "digits"]}),
        ({"target": ["digits-b", "digits"]}, {"target": ["digits-b", "digits"]}),
        ({"scope": ["layerwise"]}, {"scope": ["global", "layerwise"]}),
        ({"random": ["local"]}, {"random": ["global", "local"]}),
        ({"optimizer": ["adam"]}, {"optimizer": ["sgd", "adam"], "target_optimizer": ["sgd"]}),
        ({"target_optimizer": ["adam"]}, {"target_optimizer": ["sgd", "adam"]}),
    ],
)
def test_extended_is_what_would_have_been_defined_at_once(options: dict[str, Any], more: dict[str, Any]) -> None:
    assert extended(tiny(), **options) == tiny(**more)
    assert set(runs(tiny())) <= set(runs(tiny(**more)))


def test_levels_evaluated_grow_along_where_they_follow_a_rule() -> None:
    assert extended(tiny(levels=10, evaluate="all"), levels=12).evaluate == tuple(range(13))
    assert extended(tiny(levels=10, evaluate="paper"), levels=13).evaluate == (0, 1, 2, 3, 4, 5, 6, 9, 12)
    chosen = tiny(levels=10, evaluate="2,4")
    assert extended(chosen, levels=12).evaluate == (2, 4)
    assert extended(chosen, levels=12, evaluate="2-4,12").evaluate == (2, 3, 4, 12)


def test_two_files_of_one_name_are_told_apart_when_the_second_joins(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, second = (
        save(tmp_path / place / "set.npz", gray(side=8, seed=seed)) for seed, place in enumerate(("", "other"))
    )
    definition = tiny(source=[first], target=[first], batch_size=4)
    found = extended(definition, target=[second])
    assert found.targets[0].identity == definition.targets[0].identity
    assert [data.name.split("@")[0] for data in found.targets] == ["npz:set", "npz:set"]
    assert len({data.name for data in found.targets}) == 2
    assert set(runs(definition)) <= set(runs(found))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicates": 1}, "replicates 1 is less than the 2 that are there: extend only adds"),
        ({"levels": 1}, "levels 1 is less than the 3 that are there: extend only adds"),
        ({"evaluate": "0,2"}, r"evaluate 0,2 leaves out what is evaluated already \(1, 3\): extend only adds"),
        ({"evaluate": "0-4"}, "names levels outside 0 to 3"),
        ({"levels": 10**9}, r"levels 1000000000 is out of range \(0 to 200\)"),
        ({"replicates": 1001}, "replicates 1001 is out of range"),
        ({"optimizer": ["adamm"]}, "did you mean 'adam'"),
        ({"source": ["nowhere"]}, "unknown data set"),
    ],
)
def test_extending_cannot_take_away(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        extended(tiny(), **options)


def test_images_of_another_shape_cannot_join(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images of digits-a are 1x8x8 but those of npz:set 3x32x32"):
        extended(tiny(), target=[save(tmp_path / "set.npz", gray())])


def test_a_limit_on_test_images_that_leaves_none_out_is_no_other_run() -> None:
    plain = runs(tiny())
    assert all(runs(tiny(test_images=enough)) == plain for enough in (540, 541, 10**9))  # digits has 540
    limited = runs(tiny(test_images=539))
    assert not set(limited) & set(plain)
    assert set(limited).isdisjoint(runs(tiny(test_images=10)))


@pytest.mark.parametrize("images", [9, 0, -1])
def test_a_limit_on_test_images_below_one_of_a_class_is_refused(images: int) -> None:
    with pytest.raises(InputError, match=rf"test_images {images} is out of range \(10 or more\): .*digits-a"):
        tiny(test_images=images)


def test_a_limit_on_test_images_holds_for_each_data_set_that_is_larger() -> None:
    definition = define(source=["mnist"], target=["svhn"], levels=1, test_images=10_000)
    limits = {c.target.name: {p.run.training.test_images for p in c.points} for c in curves(definition)}
    assert limits == {"mnist": {None}, "svhn": {10_000}}  # test images: 10,000 and 26,032


@pytest.mark.parametrize("images", [None, 100, 10_000])
@pytest.mark.parametrize(("kind", "more"), [("target", "digits-b"), ("source", "digits-b"), ("target", "digits-b-60")])
def test_what_an_experiment_is_extended_by_keeps_its_limits(images: int | None, kind: str, more: str) -> None:
    given: Any = {"images": images, "test_images": 50, "levels": 1, "replicates": 1}
    before = define(source=["digits-a"], target=["digits-a"], **given)
    added: Any = {kind: [more]}
    found = extended(before, **added)
    assert found.test_images == 50
    counts = [data.train_images for data in found.sources + found.targets]
    if images == 100:
        assert counts[-1] == (60 if more.endswith("60") else 100)
    if not more.endswith("60"):
        wider: Any = {"source": ["digits-a"], "target": ["digits-a"]}
        wider[kind] = ["digits-a", more]
        assert found == define(**wider, **given)


def test_a_set_that_was_named_with_its_number_limits_no_other() -> None:
    before = define(source=["digits-a-100"], target=["digits-b"], levels=1, replicates=1)
    assert extended(before, target=["digits"]).targets[-1].name == "digits"
