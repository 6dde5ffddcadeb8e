"""The helper modules of user models: hashed with the model, and loaded only for it."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.machine import processes
from engine.models import nets, user_model
from engine.plan import defining
from engine.store import adding, database
from tests.conftest import work_off

MAKE = """
def make(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, CHANNELS, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, classes))
"""
LAZY = """
def make(channels, classes):
    from layers import CHANNELS
    return nn.Sequential(
        nn.Conv2d(channels, CHANNELS, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, classes))
"""
NN = "from torch import nn\n"
HELPER = "CHANNELS = 8\n"

# The files of a model, by how its helper is imported. The helper is the last.
FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "from": ("net:make", {"net.py": NN + "from layers import CHANNELS\n" + MAKE, "layers.py": HELPER}),
    "import": (
        "net:make",
        {"net.py": NN + "import layers as l\nCHANNELS = l.CHANNELS\n" + MAKE, "layers.py": HELPER},
    ),
    "star": ("net:make", {"net.py": NN + "from layers import *\n" + MAKE, "layers.py": HELPER}),
    "in a function": ("net:make", {"net.py": NN + LAZY, "layers.py": HELPER}),
    "by name": (
        "net:make",
        {
            "net.py": NN + "import importlib\nCHANNELS = importlib.import_module('layers').CHANNELS\n" + MAKE,
            "layers.py": HELPER,
        },
    ),
    "a helper's helper": (
        "net:make",
        {
            "net.py": NN + "from layers import CHANNELS\n" + MAKE,
            "layers.py": "from sizes import CHANNELS\n",
            "sizes.py": HELPER,
        },
    ),
    "a package": (
        "net:make",
        {
            "net.py": NN + "from blocks.deep.sizes import CHANNELS\n" + MAKE,
            "blocks/__init__.py": "",
            "blocks/deep/__init__.py": "",
            "blocks/deep/sizes.py": HELPER,
        },
    ),
    "a folder": (
        "net:make",
        {"net.py": NN + "from blocks.sizes import CHANNELS\n" + MAKE, "blocks/sizes.py": HELPER},
    ),
    "beside its package": (
        "lab.net:make",
        {"lab/__init__.py": "", "lab/net.py": NN + "from layers import CHANNELS\n" + MAKE, "layers.py": HELPER},
    ),
    "within its package": (
        "lab.net:make",
        {"lab/__init__.py": "", "lab/net.py": NN + "from .layers import CHANNELS\n" + MAKE, "lab/layers.py": HELPER},
    ),
    "within its folder": (
        "lab.net:make",
        {"lab/net.py": NN + "from lab.layers import CHANNELS\n" + MAKE, "lab/layers.py": HELPER},
    ),
}


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the modules that a test imports."""
    monkeypatch.setattr(user_model, "_loaded", {})
    yield
    user_model.put_back()


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a folder; returns the last."""
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return place


def channels(identity: str, folder: Path) -> int:
    return nets.build(identity, 1.0, (1, 8, 8), 10, str(folder)).get_parameter("0.weight").shape[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_helper_belongs_to_the_hash_and_an_edit_of_it_is_seen_at_once(form: str, tmp_path: Path) -> None:
    name, files = FORMS[form]
    helper = write(tmp_path, files)
    first = user_model.find(name, str(tmp_path))
    assert channels(first.identity, tmp_path) == 8
    was = helper.stat()
    helper.write_text("CHANNELS = 9\n")  # same size and
    os.utime(helper, ns=(was.st_atime_ns, was.st_mtime_ns))  # same time as the compiled file
    second = user_model.find(name, str(tmp_path))
    assert second.identity != first.identity
    assert channels(second.identity, tmp_path) == 9
    with pytest.raises(InputError, match="is not what it was when this was queued"):
        nets.build(first.identity, 1.0, (1, 8, 8), 10, str(tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_models_of_two_folders_each_have_their_own_helper(form: str, tmp_path: Path) -> None:
    name, files = FORMS[form]
    sources = []
    for number in (4, 6):
        folder = tmp_path / str(number)
        write(folder, files).write_text(f"CHANNELS = {number}\n")
        sources.append((user_model.find(name, str(folder)).identity, folder, number))
    for identity, folder, number in sources * 2:
        assert channels(identity, folder) == number


def test_what_it_does_not_import_is_not_part_of_it_and_cannot_be_imported_unseen(tmp_path: Path) -> None:
    name, files = FORMS["from"]
    write(tmp_path, files)
    first = user_model.find(name, str(tmp_path)).identity
    write(tmp_path, {"train.py": "x = 1", "lib/extra.py": "y = 1", "notes.txt": ""})
    assert user_model.find(name, str(tmp_path)).identity == first
    unseen = {
        "a computed name": "import importlib\nimportlib.import_module('tra' + 'in')\n",
        "a path of its own": "import sys\nsys.path.append(__file__[:-6] + 'lib')\nimport extra\n",
    }
    for code in unseen.values():
        write(tmp_path, {"net.py": code + files["net.py"]})
        with pytest.raises(InputError, match="imported in a way that the model's hash does not see: import it with"):
            user_model.load(name, str(tmp_path))


def test_the_hash_of_what_imports_no_helper_is_what_it_always_was(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NN + MAKE, "layers.py": HELPER})
    write(tmp_path, {"lab/__init__.py": "", "lab/net.py": NN + "from . import sizes\n" + MAKE, "lab/sizes.py": HELPER})
    assert user_model.find("net:make", str(tmp_path)).digest == "c783ef20e5f9c533"
    assert user_model.find("lab.net:make", str(tmp_path)).digest == "c418f5db60bfb1c3"


@pytest.mark.parametrize("taken", ["engine", "cockpit", "json", "random"])
@pytest.mark.parametrize("importing", [True, False])
def test_a_name_that_is_taken_is_refused_with_its_file(taken: str, importing: bool, tmp_path: Path) -> None:
    write(tmp_path, {"net.py": f"import {taken}\n{NN}{MAKE}", f"{taken}.py": NN + MAKE})
    with pytest.raises(InputError, match=rf"{taken}\.py cannot be imported: .* has that name too; rename yours"):
        user_model.find("net:make" if importing else f"{taken}:make", str(tmp_path))


@pytest.mark.parametrize("installed", ["utils", "requests", "yaml", "pluggy"])
@pytest.mark.parametrize("form", ["a module", "a package"])
@pytest.mark.parametrize("imported", [True, False])
def test_a_helper_may_be_called_as_an_installed_package(
    installed: str, form: str, imported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    write(site / installed, {"__init__.py": "from . import deep\nCHANNELS = 99\n", "deep.py": ""})
    monkeypatch.syspath_prepend(site)
    for name in [name for name in sys.modules if name.partition(".")[0] == installed]:
        monkeypatch.delitem(sys.modules, name)
    package = importlib.import_module(installed) if imported else None
    sources = []
    for number in (4, 6):
        folder = tmp_path / str(number)
        helper = f"{installed}.py" if form == "a module" else f"{installed}/__init__.py"
        write(folder, {"net.py": f"{NN}from {installed} import CHANNELS\n{MAKE}", helper: f"CHANNELS = {number}\n"})
        sources.append((user_model.find("net:make", str(folder)).identity, folder, number))
    assert sources[0][0] != sources[1][0]
    for identity, folder, number in sources * 2:
        assert channels(identity, folder) == number
    user_model.put_back()
    assert sys.modules.get(installed) is package
    assert importlib.import_module(f"{installed}.deep").__file__ == str(site / installed / "deep.py")
    for name in (installed, f"{installed}.deep"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("needed", ["torch", "numpy", "PIL", "sympy"])
def test_a_helper_cannot_take_the_place_of_what_networks_need(needed: str, tmp_path: Path) -> None:
    write(tmp_path, {"net.py": f"import {needed}\n{NN}{MAKE}", f"{needed}.py": HELPER})
    with pytest.raises(InputError, match=rf"'{needed}' in .* cannot be imported: .* has that name too; rename yours"):
        user_model.load("net:make", str(tmp_path))


def test_nothing_of_a_folder_is_left_to_whoever_imports_later(tmp_path: Path) -> None:
    name, files = FORMS["from"]
    write(tmp_path, files)
    before = [*sys.path]
    user_model.load(name, str(tmp_path))
    user_model.put_back()
    assert sys.path == before
    assert not {"net", "layers"} & set(sys.modules)
    with pytest.raises(ModuleNotFoundError):
        __import__("layers")
    assert not list(tmp_path.rglob("__pycache__"))


def test_what_is_imported_from_elsewhere_is_named(tmp_path: Path) -> None:
    write(tmp_path / "here", {"net.py": NN + "from shared_sizes import CHANNELS\n" + MAKE})
    other = write(tmp_path / "there", {"shared_sizes.py": HELPER})
    command = [*processes.python("cockpit"), "models", "show", "net:make", "--size", "1x8x8"]
    environment = {**processes.environment(), "PYTHONPATH": f"{processes.ROOT}{os.pathsep}{other.parent}"}
    found = [
        subprocess.run(
            [*command, *more], cwd=tmp_path / "here", env=environment, capture_output=True, text=True, check=True
        )
        for more in ([], ["--json"])
    ]
    assert str(other) in found[0].stderr
    assert json.loads(found[1].stdout)["elsewhere"] == [str(other)]


def test_one_worker_trains_the_models_of_two_folders_each_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "experiments.db"
    name, files = FORMS["from"]
    tiny: dict[str, Any] = {
        "source": ["digits-a"],
        "levels": 0,
        "replicates": 1,
        "epochs": 1,
        "random": ["none"],
        "profile": "exact",
    }
    for number in (8, 16):
        folder = tmp_path / str(number)
        write(folder, files).write_text(f"CHANNELS = {number}\n")
        monkeypatch.chdir(folder)
        with closing(database.writer(path)) as connection:
            adding.add(connection, str(number), defining.define(**tiny, model=name), "")
    work_off(path)
    with closing(database.reader(path)) as connection:
        found = connection.execute("SELECT status, weights_total FROM runs ORDER BY id").fetchall()
    assert [tuple(row) for row in found] == [("done", 72), ("done", 144)]
