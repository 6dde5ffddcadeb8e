"""Experiment files: the experiments that they queue, their errors with line numbers, and printing one."""

import csv
import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cockpit.requests.experiment_files import read, write
from cockpit.requests.request import SUFFIX, request_of
from engine.errors import InputError
from engine.plan.options import OPTIONS
from engine.store import database, queue, titles
from tests.conftest import Cockpit
from tests.images import gray, save
from tests.trainings import CHANGED, NEEDED

DEFAULTS = """\
[defaults]
levels = 3
epochs = 2
replicates = 2
width = 0.25
profile = "exact"
"""
MATRIX = """
[[experiment]]
name = "{source}-{target}-{optimizer}"
batch-size = 32
[experiment.matrix]
source = ["digits-a", "digits-b"]
target = [
    "digits",
    ["digits-a", "digits-b"],
]
optimizer = ["sgd", "adam"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / f"paper{SUFFIX}"


def names(found: str) -> list[str]:
    return [json.loads(line)["experiment"] for line in found.splitlines()]


def test_a_matrix_makes_an_experiment_of_each_combination(file: Path) -> None:
    file.write_text(DEFAULTS + MATRIX)
    found = read(file, {})
    assert [one.name for one in found] == [
        f"{source}-{target}-{optimizer}"
        for source in ("digits-a", "digits-b")
        for target in ("digits", "digits-a+digits-b")
        for optimizer in ("sgd", "adam")
    ]
    last = found[-1].definition
    assert [data.name for data in last.targets] == ["digits-a", "digits-b"]
    assert (last.optimizers, last.target_optimizers, last.batch_size) == (("adam",), ("adam",), 32)
    assert {(one.definition.levels, one.definition.width) for one in found} == {(3, 0.25)}


def test_a_name_may_hold_the_preset(file: Path) -> None:
    matrix = '[experiment.matrix]\npreset = ["fig1a", "digits"]\n'
    file.write_text(f'{DEFAULTS}\n[[experiment]]\nname = "{{preset}}@{{width}}"\n{matrix}')
    assert [one.name for one in read(file, {})] == ["fig1a@0.25", "digits@0.25"]
    file.write_text('[[experiment]]\nname = "{preset}"\nsource = "digits"\n')
    with pytest.raises(InputError, match="unknown key in name 'preset'"):
        read(file, {})


def test_what_an_experiment_says_overrides_the_defaults_and_options_beside_the_file_override_both(file: Path) -> None:
    file.write_text(f'{DEFAULTS}\n[[experiment]]\npreset = "digits"\nepochs = 4\npause-after = 0\n')
    (one,) = read(file, {})
    assert (one.name, one.definition.epochs, one.definition.levels, one.pause_after) == ("digits", 4, 3, 0)
    (one,) = read(file, {"epochs": 1, "seed": 9})
    assert (one.definition.epochs, one.definition.seed, one.definition.levels) == (1, 9, 3)


def test_the_files_of_a_command_are_queued_together_and_a_second_time_nothing_is_new(
    cockpit: Cockpit, file: Path
) -> None:
    file.write_text(DEFAULTS + MATRIX)
    dry = cockpit("queue", "add", file, "--dry-run").stdout
    # Each optimizer: two chains (16 runs); on digits the dense network, random tickets, two sources (2 + 8 + 16); on
    # each half random tickets and tickets of the other half (8 + 8); its dense network is the chain's.
    assert "all: 40 curves, 148 runs: 148 new, 0 exist already" in dry
    assert not (file.parent / "experiments.db").exists()
    added = cockpit("queue", "add", file, "digits", "--json")
    assert len(names(added.stdout)) == 9
    assert names(added.stdout)[-1] == "digits"
    again = cockpit("queue", "add", file, "digits", "--json")
    assert {json.loads(line)["new"] for line in again.stdout.splitlines()} == {0}


def test_one_experiment_that_cannot_be_queued_keeps_all_of_them_out(cockpit: Cockpit, file: Path) -> None:
    cockpit("queue", "add", "--source", "digits-a", "--name", "last", "--levels", 1)
    file.write_text(f'{DEFAULTS}{MATRIX}\n[[experiment]]\nname = "last"\nsource = "digits-a"\n')
    found = cockpit("queue", "add", file)
    assert (found.returncode, found.stdout) == (2, "")
    assert "experiment 'last' exists with another definition" in found.stderr
    assert [row["name"] for row in json.loads(cockpit("queue", "list", "--json").stdout)] == ["last"]
    assert cockpit("queue", "add", file, "--dry-run").returncode == 2


def test_a_path_in_a_file_is_relative_to_the_file(
    cockpit: Cockpit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    save(folder / "photos.npz", gray(side=8))
    (folder / "mine.toml").write_text(
        '[[experiment]]\nsource = "npz:photos.npz-a"\ntarget = "npz:photos.npz-b"\nbatch-size = 4\nlevels = 1\n'
    )
    assert "photos-a-to-photos-b-vgg-digits: " in cockpit("queue", "add", "study/mine.toml").stdout
    monkeypatch.chdir(folder)
    (one,) = read(Path("mine.toml"), {})
    assert one.definition.sources[0].location == str(folder / "photos.npz")


def test_a_file_says_what_charts_call_its_data_sets(cockpit: Cockpit, file: Path) -> None:
    file.write_text('[data-names]\ndigits = "Handwriting"\n[[experiment]]\nname = "one"\nsource = "digits-a"\n')
    cockpit("queue", "add", file)
    with closing(database.reader(file.parent / "experiments.db")) as connection:
        assert titles.of_data(connection, "one") == {"digits-a": "Handwriting"}
    cockpit("queue", "add", "--name", "two", "--source", "digits-b", "--target", "digits")
    printed = cockpit("queue", "show", "one", "two", "--toml").stdout
    assert printed.endswith('\n\n[data-names]\n"digits" = "Handwriting"\n')
    file.write_text(printed)
    cockpit("queue", "add", file, "--db", "other.db")
    with closing(database.reader(file.parent / "other.db")) as connection:
        assert titles.of_data(connection, "two") == {"digits-b": "Handwriting", "digits": "Handwriting"}
    for table in ("curves", "runs"):
        lines = csv.DictReader(io.StringIO(cockpit("export", "two", "--table", table, "--db", "other.db").stdout))
        assert {(line["source_title"], line["target_title"]) for line in lines} == (
            {("", "Handwriting"), ("Handwriting", "Handwriting")} if table == "runs" else set()
        )
    for line, said in (("digits = 3", "is 3, must be text"), ('digts = "x"', "unknown data set 'digts'")):
        file.write_text(f'[data-names]\n{line}\n[[experiment]]\nsource = "digits-a"\n')
        with pytest.raises(InputError, match=f"line 2, .*{said}"):
            read(file, {})


def test_one_name_is_for_one_experiment(cockpit: Cockpit, file: Path) -> None:
    file.write_text(DEFAULTS + MATRIX)
    assert "cannot name 8 experiments" in cockpit("queue", "add", file, "--name", "all").stderr
    file.write_text(f'{DEFAULTS}\n[[experiment]]\nname = "one"\nsource = "digits-a"\n')
    assert cockpit("queue", "add", file, "--name", "other", "--json").stdout.startswith('{"experiment": "other"')


WRONG = [
    ("levels = 3", "level = 3", "line 2, level: unknown key 'level'", "did you mean 'levels'?"),
    ("epochs = 2", "batch_size = 2", "line 3, batch_size: unknown key", "did you mean 'batch-size'?"),
    ("levels = 3", 'levels = "3"', "line 2, levels: is '3', must be a whole number", ""),
    ("epochs = 2", "epochs = true", "line 3, epochs: is True, must be a whole number", ""),
    ("width = 0.25", 'width = "x"', "line 5, width: is 'x', must be a number", ""),
    ("width = 0.25", "width = nan", "line 5, width: width nan is out of range", ""),
    ('"exact"', "[]", "line 6, profile: is [], must be text", ""),
    ("epochs = 2", "epochs = 0", "line 3, epochs: epochs 0 is out of range (1 to 100000)", ""),
    ("[defaults]", "[default]", "line 1, default: unknown table 'default'", "did you mean 'defaults'?"),
    ("[defaults]", "", "line 2, levels: unknown table 'levels'", "in [defaults] or below"),
    ("[[experiment]]", "[experiment]", "line 8, [experiment]: must be a list", "write [[experiment]]"),
    ("{optimizer}", "{optimiser}", "line 9, name: unknown key in name 'optimiser'", "did you mean 'optimizer'?"),
    ("-{optimizer}", "", "line 8, [experiment]: 'digits-a-digits' is also the name", "experiment of line 8"),
    ("-{optimizer}", ":", "line 9, name: name 'digits-a-digits:' cannot be used", ""),
    ('"digits-b"],\n', '"digitsb"],\n', "line 13, target: unknown data set 'digitsb'", "did you mean 'digits'?"),
    ('"adam"', '"adm"', "line 17, optimizer: unknown optimizer 'adm'", "did you mean 'adam'?"),
    ('["sgd", "adam"]', '"sgd"', "line 17, optimizer: is 'sgd', must be a list of alternatives", ""),
    ('["sgd", "adam"]', "[1]", "line 17, optimizer: is 1, must be text, or a list of texts", ""),
    ('["sgd", "adam"]', "[]", "line 17, optimizer: is [], must be a list of alternatives", ""),
    ("optimizer = [", "name = [", "line 17, name: unknown key 'name'", ""),
    ("batch-size = 32", 'source = "digits"', "line 12, source: is also set outside the matrix", "['digits']"),
    ("batch-size = 32", 'preset = "digts"', "line 10, preset: unknown preset 'digts'", "did you mean 'digits'?"),
    ("[experiment.matrix]", "[experiment.matrices]", "line 11, matrices: unknown key 'matrices'", "'matrix'?"),
    ("width = 0.25", "width =", "is not valid TOML: Invalid value (at line 5, column 8)", ""),
]


@pytest.mark.parametrize(("right", "wrong", "message", "more"), WRONG, ids=[one[1] or one[0] for one in WRONG])
def test_what_is_wrong_is_said_with_its_line_and_key(
    file: Path, right: str, wrong: str, message: str, more: str
) -> None:
    text = DEFAULTS + MATRIX
    assert right in text
    file.write_text(text.replace(right, wrong, 1))
    with pytest.raises(InputError) as raised:
        read(file, {})
    said = str(raised.value)
    assert str(file) in said
    assert message in said
    assert more in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "defines no experiment: write [[experiment]]"),
        (b"experiment = []", "defines no experiment"),
        (b"experiment = 3", "line 1, [experiment]: must be a list of tables"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"\xef\xbb\xbf[[experiment]]\r\nlevel = 1\r\n", "line 2, level: unknown key"),
        (b"[[experiment]]\n", "line 1, [experiment]: nothing to train"),
        (b"[[experiment]]\nsource = 'digits-a'\nmatrix = 1\n", "line 3, [matrix]: must be a table of alternatives"),
        (b"defaults = 1\n[[experiment]]\n", "line 1, [defaults]: must be a table"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(
    cockpit: Cockpit, file: Path, content: bytes, message: str
) -> None:
    file.write_bytes(content)
    found = cockpit("queue", "add", file.name)
    assert (found.returncode, found.stdout) == (2, "")
    assert message in found.stderr
    assert found.stderr.count("\n") == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_that_is_not_there_is_said(cockpit: Cockpit, file: Path) -> None:
    assert "experiment file none.toml cannot be read" in cockpit("queue", "add", "none.toml").stderr
    (file.parent / "study.toml").write_text(DEFAULTS + MATRIX)
    assert "for the experiment file, write study.toml" in cockpit("queue", "add", "study").stderr


@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "preset"])
def test_an_experiment_that_was_queued_is_printed_as_a_file_that_makes_the_same(
    cockpit: Cockpit, tmp_path: Path, file: Path, option: str
) -> None:
    more = {"name": "ünusual 'quoted\" name\\", "pause_after": 7, "images": 300, "scale": "replicates=2,images=300"}
    given: dict[str, Any] = {"source": ["digits-a"], "levels": 8, "epochs": 3, "width": 0.25, "split": 2}
    given |= NEEDED.get(option, {})
    one = request_of({**given, option: {**CHANGED, **more}[option]})
    file.write_text(write(one.name, one.definition, 3 if one.pause_after is None else one.pause_after))
    (again,) = read(file, {})
    assert (again.name, again.definition) == (one.name, one.definition)
    assert again.pause_after == (7 if option == "pause_after" else 3)


def test_experiments_with_their_own_images_are_printed_as_a_file_from_anywhere(
    cockpit: Cockpit, tmp_path: Path, file: Path
) -> None:
    save(tmp_path / "photos.npz", gray(side=8))
    cockpit("queue", "add", "digits", "--pause-after", 5)
    cockpit("queue", "add", "--source", "npz:photos.npz-a", "--target", "npz:photos.npz-b", "--batch-size", 4)
    printed = cockpit("queue", "show", "digits", "photos-a-to-photos-b-vgg-digits", "--toml").stdout
    assert f'source = ["npz:{tmp_path}/photos.npz-a"]' in printed
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "again.toml").write_text(printed)
    again = cockpit("queue", "add", "elsewhere/again.toml", "--json")
    assert [json.loads(line)["new"] for line in again.stdout.splitlines()] == [0, 0]
    assert cockpit("queue", "add", "elsewhere/again.toml", "--db", "new.db").returncode == 0
    with (
        closing(database.reader(tmp_path / "experiments.db")) as old,
        closing(database.reader(tmp_path / "new.db")) as new,
    ):
        for connection in (old, new):
            assert connection.execute("SELECT pause_after FROM experiments ORDER BY id").fetchone()[0] == 5
        for experiment in (1, 2):
            assert queue.definition_of(old, experiment) == queue.definition_of(new, experiment)


def test_the_example_of_the_documentation_is_a_file(tmp_path: Path, file: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "experiment-files.md").read_text()
    file.write_text(page.split("```toml\n")[1].split("```")[0])
    (tmp_path / "data").mkdir()
    save(tmp_path / "data" / "faces.npz", gray())
    assert [one.name for one in read(file, {})] == [
        "halves",
        *(f"{source}-to-mnist-{used}" for source in ("fashion-mnist", "svhn", "faces") for used in ("sgd", "adam")),
        "digits-quick",
    ]


@pytest.mark.slow
def test_the_experiments_of_a_file_are_trained_one_after_the_other(cockpit: Cockpit, file: Path) -> None:
    axes = "[experiment.matrix]\nseed = [0, 1]\n"
    file.write_text(f'{DEFAULTS}\n[[experiment]]\nname = "s{{seed}}"\nsource = "digits-a"\nlevels = 0\n{axes}')
    found = cockpit("run", file)
    assert found.returncode == 0, found.stderr
    assert found.stdout.index("s0 · ") < found.stdout.index("s1 · ")
    assert {row["status"] for row in json.loads(cockpit("queue", "list", "--json").stdout)} == {"done"}


def test_a_number_may_stand_where_an_option_takes_more_than_numbers(tmp_path: Path) -> None:
    path = tmp_path / "numbers.toml"
    path.write_text('[[experiment]]\nname = "a"\nsource = "digits-a"\nprune-rate = 0.3\nwarmup = 1\n')
    (found,) = read(path, {})
    assert (found.definition.rate, found.definition.warmup) == (0.3, "1ep")
    path.write_text(path.read_text().replace("0.3", '"0.3,output=0.1"\nprunable = "conv+output"'))
    (found,) = read(path, {})
    assert found.definition.rate == "conv=0.3,linear=0.3,output=0.1"
