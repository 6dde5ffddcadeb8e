"""Random input: the program ends soon with 0, 1 or 2, and errors are one line, never a traceback."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cockpit import cli, config
from cockpit.requests import experiment_files
from engine.errors import InputError
from engine.machine import processes
from engine.plan.options import OPTIONS
from engine.store import database
from tests import inprocess
from tests.conftest import add
from tests.inprocess import check_ended_well

TRAINING = {("run",), ("work",), ("serve",)}
BRIEF = settings(
    max_examples=60,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Values that no option or variable expects.
NUMBERS = ["", "0", "-1", "1e308", "-1e308", "nan", "inf", "-inf", "0x10", "1_000", "9" * 400, "1.5", "1e-320", "³"]
TEXTS = [
    "",
    " ",
    "-",
    "--",
    "a\nb",
    "\x1b[31m",
    "~nosuchuser/x",
    "\udcff",
    "a:b",
    "{source}",
    "x" * 5000,
    "ünï",
    "a,b=c",
]
PATHS = [*TEXTS, ".", "none/x", "experiments.db", "study.toml", "pipe.toml", "\udcff.toml", "npz:\udcff", "x.png"]
NAMES = ["tiny", "TINY", "digits", "Digits", "sgd", "SGD", "all", "global", "tiny:global", "curves", "npz:none.npz"]


def _commands() -> dict[tuple[str, ...], Any]:
    """Every command of the program by its words."""
    found: dict[tuple[str, ...], Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))
        if not getattr(command, "commands", {}):
            found[words] = command

    walk(typer.main.get_command(cli.app), ())
    return found


COMMANDS = {words: command for words, command in _commands().items() if words not in TRAINING}


def _inside(text: str) -> bool:
    """Whether a path to write is in the current folder."""
    return not text.startswith("/") and ".." not in text and "\0" not in text


def _kind(parameter: Any) -> str:
    return str(getattr(getattr(parameter, "type", None), "name", "text"))


def _value(kind: str) -> st.SearchStrategy[str]:
    numbers = st.one_of(st.sampled_from(NUMBERS), st.integers().map(str), st.floats().map(str))
    texts = st.one_of(st.sampled_from(TEXTS + NAMES), st.text(max_size=20).filter(_inside))
    return {
        "integer": numbers,
        "float": numbers,
        "path": st.sampled_from(PATHS),
    }.get(kind, st.one_of(texts, numbers, st.sampled_from(PATHS)))


@st.composite
def _arguments(draw: st.DrawFn, command: Any) -> list[str]:
    """Arguments for a command: some of its options, with any values."""
    found: list[str] = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            many = draw(st.integers(0, 2)) if parameter.nargs == -1 else 1
            found += [draw(_value(_kind(parameter))) for _ in range(many)]
        elif draw(st.booleans()) and draw(st.booleans()) and parameter.name not in ("help", "follow"):
            option = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
            nargs = 0 if parameter.is_flag else parameter.nargs
            found += [option, *(draw(_value(_kind(parameter))) for _ in range(nargs))]
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one queued experiment."""
    path = tmp_path_factory.mktemp("template") / "experiments.db"
    add(path, "tiny", levels=1, replicates=1)
    return path


@pytest.fixture
def program(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The program in this process, in a folder with a database, without starting processes."""

    def refuse(*_: object, **__: object) -> Any:
        raise InputError("no other process is started here")

    folder = tmp_path / "here"
    monkeypatch.setattr(processes, "ask", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr("time.sleep", refuse)  # `queue wait` would wait for workers
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(database, "on_wait", database.on_wait)
    for name in ("COCKPIT_DB", "COCKPIT_DATA", "COCKPIT_CONFIG"):
        monkeypatch.setenv(name, "")  # undoes a command's own change

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(template, folder)
        os.mkfifo(folder / "pipe.toml")
        monkeypatch.chdir(folder)
        for name in ("COCKPIT_DB", "COCKPIT_DATA", "COCKPIT_CONFIG"):
            monkeypatch.setenv(name, environment.get(name, ""))
        return inprocess.run(*arguments)

    return run


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_argument_makes_a_traceback(words: tuple[str, ...], program: Callable[..., tuple[int, str, str]]) -> None:
    @settings(BRIEF, max_examples=8)
    @given(_arguments(COMMANDS[words]))
    def check(arguments: list[str]) -> None:
        code, _, err = program(*words, *arguments)
        check_ended_well(code, err, (0, 1, 2, 3, 4) if words == ("queue", "wait") else (0, 1, 2))

    check()


@BRIEF
@given(
    words=st.sampled_from([("queue", "list"), ("data", "path"), ("doctor",), ("queue", "add", "digits", "--dry-run")]),
    name=st.sampled_from(["COCKPIT_DB", "COCKPIT_DATA", "COCKPIT_CONFIG"]),
    value=st.sampled_from(PATHS),
)
def test_no_environment_variable_makes_a_traceback(
    words: tuple[str, ...], name: str, value: str, program: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = program(*words, **{name: value})
    check_ended_well(code, err)


def _refusal(read: Callable[[], object], otherwise: str) -> str:
    """The error of a read, or `otherwise`."""
    try:
        read()
    except InputError as error:
        return str(error)
    return otherwise


# Values as written in TOML.
SCALARS = st.one_of(
    st.integers().map(str),
    st.floats().map(lambda value: str(value).replace("e+", "e")),
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(
        [
            "true",
            "1979-05-27",
            "0x" + "f" * 5000,
            "9" * 5000,
            '"a\\u0000b"',
            "1e999",
            "'~nosuchuser/x'",
            "''",
            '"""\n"""',
        ]
    ),
    st.sampled_from(NAMES).map(json.dumps),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]"),
        st.lists(inner, max_size=3).map(lambda values: "[\n  " + ",  # ]\n  ".join(values) + "\n]"),
        inner.map(lambda value: f"{{ a = {value} }}"),
    ),
    max_leaves=6,
)


def _document(headings: list[str], keys: list[str]) -> st.SearchStrategy[bytes]:
    """Files of tables with these headings and keys, some damaged."""
    key = st.one_of(st.sampled_from(keys), st.text(max_size=5).map(json.dumps), st.just(".".join("a" * 5000)))
    line = st.one_of(
        st.tuples(key, VALUES).map(" = ".join),
        st.sampled_from(headings),
        st.sampled_from(["# é", "", "a = " + "[" * 5000, "\x00", "[", '"', '"""', "'''"]),
    )
    text = st.lists(line, max_size=8).map("\n".join)
    return st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff"]), text).map(
        lambda parts: parts[0] + parts[1].encode(errors="replace")
    )


EXPERIMENTS = _document(
    ["[[experiment]]", "[defaults]", "[experiment.matrix]", "[[experiment]]\nsource = 'digits'", "[[defaults]]"],
    [name.replace("_", "-") for name in OPTIONS] + ["matrix", "a.b"],
)
CONFIGURATIONS = _document(
    ["[work]", "[screen]", "[data]", "[keys]", "[[work]]"],
    ["notify", "min-free", "per-device", "theme", "folder", "act.pause", "work"],
)


@settings(BRIEF, max_examples=300)
@given(EXPERIMENTS)
def test_no_experiment_file_makes_a_traceback(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "study.toml"
    file.write_bytes(content)
    assert str(file) in _refusal(lambda: experiment_files.read(file, {}), str(file))


@settings(BRIEF, max_examples=300)
@given(CONFIGURATIONS)
def test_no_configuration_file_makes_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    monkeypatch.setenv("COCKPIT_CONFIG", str(file))
    for read in (config.work, config.screen, config.data, lambda: config.keys(["act.pause"], {})):
        said = f"configuration file {file}"
        assert _refusal(read, said).startswith(said)
