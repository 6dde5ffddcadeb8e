"""The checks that all options share: ranges of numbers, and names in upper and lower case."""

from typing import Any

import pytest

from engine.errors import LONGEST_SHOWN, InputError, Range, chosen, quoted, unknown
from engine.plan import presets
from engine.plan.defining import define
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "said"),
    [
        (Range(1), (1, 10**30), (0, -(10**30)), "1 or more"),
        (Range(0, 200), (0, 200), (-1, 201), "0 to 200"),
        (Range(0, 0.5), (0, 0.0, 0.5), (-1e-9, 0.51), "0 to 0.5"),
        (Range(above=0), (5e-324, 1e308), (0.0, -1.0), "above 0"),
        (Range(above=0, below=1), (0.2,), (0.0, 1.0), "above 0 and below 1"),
        (Range(above=0, most=64), (64,), (0.0, 64.5), "above 0 and at most 64"),
    ],
)
def test_a_number_is_in_a_range_or_is_named_with_it(
    allowed: Range, inside: tuple[float, ...], outside: tuple[float, ...], said: str
) -> None:
    for value in inside:
        allowed.check("--option", value)
    for value in (*outside, float("nan"), float("inf"), float("-inf")):
        with pytest.raises(InputError) as raised:
            allowed.check("--option", value, "as you see")
        assert str(
            raised.value
        ) == f"--option {quoted(value) if isinstance(value, int) else f'{value:g}'} is out of" + (
            f" range ({said}): as you see"
        )


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": ["SGD", "Adam"]},
        {"target_optimizer": ["AdamW"]},
        {"scope": ["Global", "LAYERWISE"]},
        {"random": ["Local", "GLOBAL"]},
        {"random": ["None"]},
        {"prunable": "Conv+Output"},
        {"rewinds": "Weights"},
        {"schedule": "Restart"},
        {"profile": "EXACT"},
        {"batch_norm": "Part"},
        {"augmentation": "Crop"},
        {"evaluate": "All"},
    ],
    ids=str,
)
def test_choices_are_understood_in_upper_and_lower_case(options: dict[str, Any]) -> None:
    lower = {
        key: value.lower() if isinstance(value, str) else [one.lower() for one in value]
        for key, value in options.items()
    }
    assert define(**{**TINY, **options}) == define(**{**TINY, **lower})


def test_presets_and_scales_are_understood_in_upper_and_lower_case() -> None:
    assert presets.members("Digits") == ("digits",)
    assert presets.options("FIGA1") == presets.options("figA1")
    assert presets.scale("Small,Width=0.5") == presets.scale("small,width=0.5")


def test_two_names_may_differ_in_case_alone() -> None:
    assert [chosen("data set", name, ("Mine", "mine")) for name in ("Mine", "mine", "MINE")] == ["Mine", "mine", "Mine"]
    assert "did you mean 'LeNet'?" in str(unknown("model", "lenett", ["LeNet"]))


def test_a_value_is_shown_on_one_line_and_cut_where_it_is_long() -> None:
    assert quoted("a\nb\x1b") == r"'a\nb\x1b'"
    assert len(quoted("x" * 10**6)) == LONGEST_SHOWN + 3
    assert len(str(unknown("model", "x" * 10**6, ["vgg19"]))) < 2 * LONGEST_SHOWN
