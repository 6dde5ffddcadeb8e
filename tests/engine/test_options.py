"""The declaration of options: everything made from it, and that the engine's messages name no flag."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine.errors import InputError, OptionName, Range, chosen, command, concerning
from engine.plan.defining import define
from engine.plan.definitions import Definition
from engine.plan.experiments import curves
from engine.plan.option import Option
from engine.plan.options import DEFINING, FIELDS, OPTIONS, SIZES
from tests.conftest import TINY
from tests.trainings import CHANGED, NEEDED

ROOT = Path(__file__).parents[2]
FLAG = re.compile(r"(?<![\w-])--[a-z]")


def texts(tree: ast.Module) -> Iterator[str]:
    """The strings of a module, without its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("path", sorted((ROOT / "engine").rglob("*.py")), ids=lambda path: path.stem)
def test_the_engine_names_no_flag(path: Path) -> None:
    source = path.read_text()
    # Flags between the engine's own processes: whole words, in a command or its parser.
    talks = "add_argument(" in source or path.parent.name in ("training", "workers")
    for text in texts(ast.parse(source)):
        assert not FLAG.search(text) or (talks and re.fullmatch(r"--[a-z-]+", text)), text


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_an_option_is_declared_whole(option: Option) -> None:
    assert option.help
    assert not option.help.endswith(".")
    if option.default is not None:
        assert option.read(option.default) == option.default
    if option.default is None and option.name not in ("preset", "source", "scale"):
        assert option.otherwise
    if option.name in FIELDS:
        assert FIELDS[option.name] in {field.name for field in structs.fields(Definition)}


def test_every_field_of_a_definition_is_an_options_or_follows_from_them() -> None:
    rest = {field.name for field in structs.fields(Definition)} - set(FIELDS.values())
    assert rest == {"sources", "targets", "tickets", "model_folder"}
    assert set(SIZES.values()) <= set(DEFINING)


@pytest.mark.parametrize("name", sorted(DEFINING.keys() - {"keep"}))  # `keep` is no part of a run
def test_options_without_a_part_in_a_runs_identity_add_runs_or_leave_some_out(name: str) -> None:
    base: dict[str, Any] = {**TINY, "levels": 9, "epochs": 3, **NEEDED.get(name, {})}
    kind = {"random": ["local"], "images": 300, "evaluate": "all", "scope": ["layerwise"], "optimizer": ["adam"]}
    plain, other = (
        {point.run.digest for curve in curves(define(**options)) for point in curve.points}
        for options in (base, {**base, name: {**CHANGED, **kind}[name]})
    )
    assert plain != other
    assert OPTIONS[name].identity != (plain <= other or other <= plain)


def test_the_table_of_options_in_the_documentation_is_made_from_them() -> None:
    found = runpy.run_path(str(ROOT / "docs" / "options_table.py"))
    assert found["page"]() == found["PAGE"].read_text(), "run python docs/options_table.py"


def test_an_error_knows_its_option_and_each_front_end_words_it() -> None:
    with pytest.raises(InputError) as raised:
        Range(0, 1).check(OptionName("prune_rate"), 2, "at most ", OptionName("epochs"))
    error = raised.value
    assert (error.option, error.value, error.allowed) == ("prune_rate", 2, Range(0, 1))
    assert str(error) == "prune_rate 2 is out of range (0 to 1): at most epochs"
    flags = error.worded(lambda name: f"--{name.replace('_', '-')}")
    assert flags == "--prune-rate 2 is out of range (0 to 1): at most --epochs"
    wrapped = InputError("experiment 'x': ", InputError.from_json(error.to_json()))
    assert (wrapped.option, wrapped.worded(str.upper)) == (
        "prune_rate",
        "experiment 'x': PRUNE_RATE 2 is out of range (0 to 1): at most EPOCHS",
    )
    with pytest.raises(InputError) as raised, concerning("model"):
        chosen("model", "vgg", ("vgg19",))
    assert raised.value.option == "model"
    assert command("store check", db="a b.db", force=True) == "`cockpit store check --db 'a b.db' --force`"
