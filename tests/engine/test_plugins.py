"""Plug-ins: `tests/plugin`, installed into a folder, has one of each kind and a broken one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import InputError
from engine.machine import plugins
from engine.plan.optimizers import OPTIMIZERS
from engine.pruning import pruner
from engine.pruning.criteria import CRITERIA
from engine.recipes import Rule, Run
from engine.store import database
from engine.tickets.permutations import PERMUTATIONS
from tests.conftest import Cockpit, add, work_off

PACKAGE = Path(__file__).parents[1] / "plugin"
HERE = "cockpit-examples==1.0"
TINY = ("--epochs", 2, "--levels", 2, "--replicates", 1, "--profile", "exact")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed."""
    folder = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("source") / "plugin"
    copy.mkdir()
    for path in PACKAGE.rglob("*"):  # building leaves files beside the source
        if path.suffix in (".py", ".toml"):
            (copy / path.relative_to(PACKAGE)).parent.mkdir(exist_ok=True)
            (copy / path.relative_to(PACKAGE)).write_text(path.read_text())
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run([*install, str(folder), str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package installed for this test's process and those that it starts."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    plugins.forget()
    yield
    plugins.forget()


@pytest.mark.usefixtures("installed")
def test_a_run_with_plug_ins_is_trained_and_says_which_it_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "eight.txt").write_text("20")
    path = tmp_path / "experiments.db"
    options: dict[str, Any] = {
        "source": [f"stripes:{tmp_path / 'eight.txt'}"],
        "target": [f"stripes:{tmp_path / 'eight.txt'}"],
        "model": "one-layer",
        "criterion": "smallest",
        "random": ["reversed"],
        "optimizer": ["rmsprop"],
        "lr_schedule": "halving",
        "learning_rate": 0.01,
        "batch_size": 16,
        "epochs": 2,
        "levels": 2,
        "replicates": 1,
        "profile": "exact",
    }
    add(path, "all of them", **options)
    work_off(path)
    with closing(database.reader(path)) as connection:
        rows = connection.execute("SELECT * FROM runs").fetchall()
    assert {row["status"] for row in rows} == {"done"}
    runs = [Run.from_json(row["recipe"]) for row in rows]
    assert {run.training.optimizer for run in runs} == {f"rmsprop@{HERE}"}
    assert {run.training.lr_schedule for run in runs} == {f"halving@{HERE}"}
    assert {run.chain.rule.criterion for run in runs if run.chain and run.ticket.level} == {f"smallest@{HERE}"}
    assert f"random-reversed@{HERE}" in {run.ticket.name for run in runs}
    assert {run.training.model.partition("@")[0] for run in runs} == {"cockpit_examples.models:one_layer"}
    assert {row["target"] for row in rows} == {"stripes:eight"}


@pytest.mark.usefixtures("installed")
def test_what_a_plug_in_scores_is_what_stays() -> None:
    weights = {"a": torch.tensor([3.0, -1.0, 2.0, -4.0]), "b": torch.tensor([0.5, 6.0])}
    rule = Rule(rate=0.5, criterion=CRITERIA.identity("smallest"))
    masks = pruner.prune(weights, None, rule, 1, weights)
    assert masks["a"].tolist() == [False, True, True, False]
    assert masks["b"].tolist() == [True, False]


@pytest.mark.usefixtures("installed")
def test_listing_plug_ins_imports_none_of_them() -> None:
    code = (
        "import sys; from engine.machine import plugins; found = list(plugins.installed());"
        " from engine.pruning.criteria import CRITERIA; CRITERIA.names();"
        " print(len(found), 'cockpit_examples' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "False", "False"]


def test_what_is_not_installed_is_named_with_its_distribution() -> None:
    with pytest.raises(InputError, match=f"optimizer 'rmsprop' is not installed here: pip install '{HERE}'"):
        OPTIMIZERS.load(f"rmsprop@{HERE}")


@pytest.mark.usefixtures("installed")
def test_another_version_is_another_run_and_refused() -> None:
    with pytest.raises(InputError, match=f"'rmsprop' of cockpit-examples==0.9 is wanted, {HERE} is installed"):
        OPTIMIZERS.load("rmsprop@cockpit-examples==0.9")


@pytest.mark.usefixtures("installed")
def test_what_fails_to_import_is_named_by_doctor_and_when_a_run_needs_it(cockpit: Cockpit) -> None:
    with pytest.raises(InputError, match=f"'broken' of {HERE} cannot be imported"):
        CRITERIA.load(CRITERIA.identity("broken"))
    found = json.loads(cockpit("doctor", "--json").stdout)["findings"]
    said = {one["said"]: one["state"] for one in found if one["subject"] == "plug-ins"}
    assert said[f"criteria smallest, of {HERE}"] == "ok"
    assert [state for text, state in said.items() if text.startswith("criteria broken, of")] == ["problem"]


def test_an_unknown_name_lists_what_is_there(cockpit: Cockpit) -> None:
    found = cockpit("queue", "add", "--source", "digits-a", "--criterion", "magnitud", *TINY)
    assert found.returncode == 2
    assert "unknown --criterion 'magnitud': choose from magnitude," in found.stderr
    assert "did you mean 'magnitude'?" in found.stderr


def test_our_names_stay_ours() -> None:
    for door in (CRITERIA, OPTIMIZERS, PERMUTATIONS):
        assert all(door.identity(name) == name for name in door.built_in)
