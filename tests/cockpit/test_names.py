"""Names of curves and data sets: short and distinct."""

from dataclasses import replace

import pytest

from cockpit.views import names
from cockpit.views.curves import Series
from tests.cockpit.curves import curve, dense

RANDOM = curve("random", "random-global", source=None)


def labels(*shown: Series) -> list[str]:
    return [one.label for one in names.named(shown)]


@pytest.mark.parametrize(
    ("name", "title", "said"),
    [
        ("npz:cifar10-12000", None, "cifar10 (12,000)"),
        ("npz:cifar10-12000", "CIFAR-10", "CIFAR-10 (12,000)"),
        ("npz:cifar10-a-12000", "CIFAR-10", "CIFAR-10 a (12,000)"),
        ("folder:photos-b", None, "photos b"),
        ("fashion-mnist", None, "fashion-mnist"),
        ("digits-a", "Digits", "Digits a"),
    ],
)
def test_a_data_set_is_called_by_its_title_else_without_its_kind(name: str, title: str | None, said: str) -> None:
    assert names.data(name, title) == said


@pytest.mark.parametrize(
    ("model", "width", "said"),
    [("vgg11", 0.125, "VGG11 x 1/8"), ("resnet20", 1.0, "ResNet20"), ("vgg-digits", 0.3, "VGG-digits x 0.3"),
     ("mynets:tiny", 2.0, "mynets:tiny x 2")],
)  # fmt: skip
def test_a_network_is_called_by_its_model_and_width(model: str, width: float, said: str) -> None:
    assert names.network(model, width) == said


def test_curves_say_only_what_differs() -> None:
    own = curve("own", source="b", scope="global", source_optimizer="sgd")
    assert labels(own, RANDOM, dense()) == ["own", "random", "dense"]
    layerwise = replace(own, name="layerwise", scope="layerwise")
    assert labels(own, layerwise, dense()) == ["own, global", "own, layerwise", "dense"]
    assert labels(own, curve("a", source_title="SVHN")) == ["own", "from SVHN"]
    assert labels(own, replace(own, name="adam", source_optimizer="adam"))[1] == "own, found by adam"
    assert labels(own, replace(own, target="c", source="c", name="c")) == ["own, on b", "own, on c"]
    assert labels(own, replace(own, experiment="f", name="f")) == ["e, own", "f, own"]


def test_kinds_of_random_tickets_are_told_apart_from_each_other_and_from_scopes() -> None:
    preserved = curve("preserved", "random-preserved", scope="global")
    assert labels(RANDOM, preserved) == ["random, permuted", "random, same mask"]
    assert labels(RANDOM) == ["random"]


def test_two_curves_never_have_the_same_label() -> None:
    same = [curve("x"), curve("y"), replace(curve("z"), title="mine")]
    assert labels(*same) == ["x", "y", "mine"]


def test_the_size_of_a_source_is_not_repeated_where_the_target_has_the_same() -> None:
    one = curve(source="npz:cifar100-8000", target="npz:cifar10-8000")
    assert labels(one) == ["from cifar100"]
    assert labels(replace(one, source="npz:cifar100-a")) == ["from cifar100 a"]
    assert labels(replace(one, source="npz:cifar100-500")) == ["from cifar100 (500)"]


def test_a_title_says_experiment_target_and_network_once() -> None:
    one = curve(
        experiment="fig1a@vgg11", model="vgg11", width=0.125, target="npz:cifar10-12000", target_title="CIFAR-10"
    )
    assert names.title([one, replace(one, name="other")]) == "fig1a · CIFAR-10 (12,000) · VGG11 x 1/8"
    assert names.title([one, replace(one, target="b", target_title=None)]) == "fig1a · VGG11 x 1/8"
