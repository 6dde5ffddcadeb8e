"""User models: found without running them, identified by their source, and refused in one line if unsuitable."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.models import nets, user_model
from engine.models.catalog import End
from engine.plan import defining
from engine.store import adding, database, merge, queue
from tests.conftest import work_off
from tests.engine.user_models import DIGITS, HEAD, NET, examine


def test_its_identity_changes_with_its_source_and_not_with_its_place(lab: Path) -> None:
    (lab / "other").mkdir()
    first = user_model.find("mynets:small")
    (lab / "other" / "mynets.py").write_text(NET)
    assert user_model.find("mynets:small", str(lab / "other")).identity == first.identity
    (lab / "mynets.py").write_text(NET + "\n")
    assert user_model.find("mynets:small").identity != first.identity
    with pytest.raises(InputError, match=r"the source of model mynets:small is not what it was .* put it back"):
        user_model.find(first.identity)


def test_of_a_package_every_module_counts_and_nothing_else(lab: Path) -> None:
    package = lab / "lab_nets"
    (package / "deep").mkdir(parents=True)
    (package / "deep" / "one.py").write_text(NET)
    (package / "blocks.py").write_text("")
    first = user_model.find("lab_nets.deep.one:small")
    assert first.file == package / "deep" / "one.py"
    (package / "notes.txt").write_text("x")
    (package / ".venv").mkdir()
    (package / ".venv" / "x.py").write_text("x = 1")
    assert user_model.find("lab_nets.deep.one:small") == first
    (package / "blocks.py").write_text("x = 1")
    assert user_model.find("lab_nets.deep.one:small").identity != first.identity


def test_finding_it_does_not_run_it(lab: Path) -> None:
    (lab / "mynets.py").write_text("raise SystemExit(1)")
    assert user_model.find("mynets:small").file == lab / "mynets.py"


def test_it_is_found_on_the_python_path(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(lab)
    monkeypatch.chdir("/")
    assert user_model.find("mynets:small").folder == lab


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mynet:small", "module 'mynet' of model mynet:small was not found in .* PYTHONPATH"),
        ("mynets.deep:small", "module mynets.deep has no source"),
        ("mynets:", "'mynets:' is not understood: name your own as package.module:factory"),
        ("my-nets:small", "'my-nets:small' is not understood"),
        ("math:sqrt", "module math has no source"),
    ],
)
def test_what_is_not_there_is_said(lab: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        user_model.find(name)


def test_a_process_that_has_imported_it_imports_it_again_where_it_was_changed(lab: Path) -> None:
    def channels(identity: str) -> int:
        return nets.prunable(nets.build(identity, 1.0, (1, 8, 8), 10, str(lab)))["0.weight"].shape[0]

    assert channels(user_model.find("mynets:small").identity) == 8
    (lab / "mynets.py").write_text(NET.replace("round(8 * width)", "round(16 * width)"))
    assert channels(user_model.find("mynets:small").identity) == 16


def test_modules_of_one_name_in_two_folders_are_told_apart(lab: Path) -> None:
    (lab / "other").mkdir()
    (lab / "other" / "mynets.py").write_text(NET.replace("8 * width", "4 * width"))
    found = [user_model.find("mynets:small", folder) for folder in ("", str(lab / "other"))]
    for source, channels in zip(found * 2, (8, 4) * 2, strict=True):
        model = nets.build(source.identity, 1.0, (1, 8, 8), 10, str(source.folder))
        assert nets.prunable(model)["0.weight"].shape[0] == channels


def test_a_module_whose_name_is_taken_is_refused(lab: Path) -> None:
    (lab / "json.py").write_text(NET)
    with pytest.raises(InputError, match=r"module 'json' in .* cannot be imported: .* has that name too; rename yours"):
        user_model.load("json:small")


def test_a_factory_gets_those_arguments_that_it_takes(lab: Path) -> None:
    code = """
class make(nn.Module):
    def __init__(self, classes, *, shape, **rest):
        super().__init__()
        assert rest == {"channels": 3, "width": 0.5}, rest
        self.conv = nn.Conv2d(shape[0], 4, shape[1:])
        self.output = nn.Linear(4, classes)
    def forward(self, x):
        return self.output(self.conv(x).flatten(1))
"""
    found = examine(code, End((3, 9, 7), 5), width=0.5)
    assert (found.prunable, found.output_layer) == (3 * 4 * 9 * 7, "output")


def test_what_is_prunable_and_the_output_layer_can_be_named(lab: Path) -> None:
    code = """
def make(channels, classes):
    net = nn.Sequential()
    net.add_module("a", nn.Conv2d(channels, 4, 3))
    net.add_module("b", nn.Conv2d(4, 4, 3))
    net.add_module("head", nn.Conv2d(4, classes, 1))
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.output_layer = "head"
    PRUNABLE
    return net
"""
    assert examine(code.replace("PRUNABLE", "")).prunable == 36 + 144
    named = code.replace("PRUNABLE", 'net.prunable = ["b.weight"]')
    assert examine(named).prunable == 144
    assert examine(named, prunable="conv+output").prunable == 144 + 40
    for wrong in ("'b.weight'", "['c.weight']", "[1]"):
        with pytest.raises(InputError, match="`prunable` must list names of its parameters"):
            examine(code.replace("PRUNABLE", f"net.prunable = {wrong}"))
    with pytest.raises(InputError, match="output_layer 'pool' is no linear or convolutional layer"):
        examine(code.replace("PRUNABLE", "").replace('"head"\n', '"pool"\n'))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def make(classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))", "has no convolutions"),
        ("def make(classes): raise ValueError('no\\nluck')", r"make\(classes=10\) raised ValueError: no luck \(given"),
        ("def make(classes): raise SystemExit(3)", "raised SystemExit: 3"),
        ("def make(classes): return classes", "made a int: it must return an nn.Module"),
        ("def make(channels): pass", "takes no `classes`"),
        ("def make(classes, depth): pass", "needs 'depth'"),
        (
            "def make(num_classes): pass",
            r"`from given import make` and `def net\(classes\): return make\(num_classes=c",
        ),
        ("def make(**given): return nn.Linear(64, **given)", r"def net\(classes\): return make\(num_classes=classes\)"),
        (
            "def make(classes): return nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 4, 3), nn.Linear(62, classes))",
            r"has no Conv2d layers, .* net\.prunable = \['1\.weight'\] a Conv1d layer",
        ),
        ("make = 3", "has no function or class 'make'"),
        ("syntax error", "cannot be imported: SyntaxError"),
        (
            "def make(classes): return nn.Sequential(nn.Conv2d(1, classes, 8), nn.Flatten())",
            "no linear layer to end in",
        ),
        ("def make(classes): return nn.Sequential(nn.Conv2d(3, 4, 3), " + HEAD, "fails on 2 images of 1x8x8"),
        (
            "def make(classes): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, classes))",
            r"gives \(2, 4, 6, 10\) for 2 images of 1x8x8 in 10 classes: it must give a tensor",
        ),
        (
            "def make(classes):\n    classes = 3\n    return nn.Sequential(nn.Conv2d(1, 4, 3), " + HEAD,
            r"its last linear layer, 3, does not give the 10 classes: set the attribute output_layer",
        ),
        (
            "class make(nn.Module):\n"
            "    def __init__(self, classes):\n"
            "        super().__init__()\n"
            "        self.a, self.b = nn.Conv2d(1, 4, 8), nn.Conv2d(1, 4, 8)\n"
            "        self.c = nn.Linear(4, classes)\n"
            "    def forward(self, x): return self.c(self.a(x).flatten(1))",
            "does not use its prunable weight 'b.weight'",
        ),
        (
            "def make(classes):\n"
            "    twice = nn.Conv2d(1, 1, 3, padding=1)\n"
            "    return nn.Sequential(twice, twice, nn.Flatten(), nn.Linear(64, classes))",
            r"0\.weight and 1\.weight are one tensor",
        ),
    ],
)
def test_what_cannot_be_trained_or_pruned_is_refused_in_a_line(lab: Path, code: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        examine(code)
    assert "\n" not in str(raised.value)


def test_a_model_without_convolutions_can_have_its_linear_layers_pruned(lab: Path) -> None:
    code = "def make(classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, classes))"
    assert examine(code, prunable="conv+linear").prunable == 64 * 32 + 32 * 10


def test_a_width_is_refused_where_the_factory_takes_none(lab: Path) -> None:
    with pytest.raises(InputError, match="takes no `width`"):
        examine("def make(classes): return nn.Sequential(nn.Conv2d(1, 4, 3), " + HEAD, width=0.5)


def test_a_ticket_must_fit_all_of_its_ends(lab: Path) -> None:
    inner = (
        "def make(classes): return nn.Sequential(nn.Conv2d(1, classes, 8), nn.Flatten(), nn.Linear(classes, classes))"
    )
    with pytest.raises(InputError, match=r"0\.bias is \(10,\) for images of 1x8x8 in 10 classes, but \(7,\) for 1x8x8"):
        examine(inner, DIGITS, End((1, 8, 8), 7))
    flat = "def make(classes, shape):\n    pixels = shape[1] * shape[2]\n    return nn.Sequential(nn.Conv2d(1, 1, 1), "
    flat += "nn.Flatten(), nn.Linear(pixels, 5), nn.Linear(5, classes))"
    examine(flat, DIGITS, End((1, 8, 8), 7))
    with pytest.raises(InputError, match="all layers but the output layer stay the same"):
        examine(flat, DIGITS, End((1, 16, 16), 10))


def test_a_last_batch_of_one_image_is_tried(lab: Path) -> None:
    code = "def make(classes): return nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), " + HEAD
    examine(code)
    with pytest.raises(InputError, match=r"fails on one image of 1x8x8 .* choose another batch_size"):
        examine(code, End((1, 8, 8), 10, batch=1))


def test_a_merge_brings_along_where_the_source_lies(lab: Path) -> None:
    path, other = lab / "here.db", lab / "there.db"
    definition = defining.define(source=["digits-a"], model="mynets:small", levels=1, replicates=1, random=["none"])
    with closing(database.writer(other)) as there:
        adding.add(there, "theirs", definition, "")
    with closing(database.writer(path)) as here:
        assert database.model_folder(here, definition.model) == ""
        merge.merge(here, path, other, lambda *_: None)
        assert database.model_folder(here, definition.model) == str(lab)


def test_workers_find_it_from_elsewhere_and_refuse_a_changed_source(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab / "experiments.db"
    tiny: dict[str, Any] = {
        "source": ["digits-a"],
        "levels": 1,
        "replicates": 1,
        "epochs": 1,
        "random": ["none"],
        "profile": "exact",
    }

    def add(name: str, seed: int) -> None:
        with closing(database.writer(path)) as connection:
            adding.add(connection, name, defining.define(**tiny, model="mynets:small", seed=seed), "")

    def outcomes() -> list[tuple[str, str | None]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT status, error FROM runs ORDER BY id").fetchall()

    add("one", 0)
    monkeypatch.chdir("/")
    work_off(path)
    assert outcomes() == [("done", None), ("done", None)]

    monkeypatch.chdir(lab)
    add("two", 1)
    (lab / "mynets.py").write_text(NET.replace("8 * width", "9 * width"))
    monkeypatch.chdir("/")
    work_off(path)
    (failed, why), (blocked, _) = outcomes()[2:]
    assert (failed, blocked) == ("failed", "blocked")
    assert why is not None
    assert "the source of model mynets:small is not what it was when this was queued" in why
    assert "\n" not in why

    with closing(database.writer(path)) as connection:
        definition = queue.definition_of(connection, queue.experiment_id(connection, "two"))
        assert definition.model_folder == str(lab)
        with pytest.raises(InputError, match="is not what it was"):
            defining.extended(definition, replicates=2)
