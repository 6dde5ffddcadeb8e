"""The documentation is true: its Python code runs, and its tables come from the sample database."""

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from engine.errors import InputError
from engine.models import nets
from engine.results import ticket_export
from engine.store import care, database, exports
from engine.store.files import Folder
from engine.tickets import starts
from tests.conftest import add, run_cockpit, work_off

DOCS = Path(__file__).parents[1] / "docs"
SAMPLE = DOCS.parent / "experiments.db"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an `experiments.db` of the experiment `digits`, and its ticket of level 3 as a file with code."""
    folder = tmp_path_factory.mktemp("docs")
    path = folder / "experiments.db"
    add(path, "digits", width=1.0, epochs=1, replicates=1, random=["none"])
    work_off(path)
    with closing(database.reader(path)) as connection:
        digest = exports.run_of(connection, "digits:global", 3, 0)
    ticket_export.export(path, digest, digest, folder / "ticket.safetensors", "ticket.safetensors")
    return folder


@pytest.fixture(scope="module")
def publish() -> ModuleType:
    """docs/publish.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("publish", DOCS / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_of_the_results_is_made_from_the_sample(publish: ModuleType) -> None:
    text = (DOCS / "results.md").read_text()
    with closing(database.reader(SAMPLE)) as connection:
        assert publish.results(text, connection) == text, "run: python docs/publish.py"
    by_hand = publish.MARKED.sub("", text)
    assert not [line for line in by_hand.splitlines() if line.startswith("|")]


def test_what_is_published_has_the_ticket_files_of_one_experiment_and_nothing_of_the_machine(
    publish: ModuleType, folder: Path, tmp_path: Path
) -> None:
    source, sample = tmp_path / "mine.db", tmp_path / "sample.db"
    care.backup(folder / "experiments.db", source, lambda done, total: None)
    with closing(database.writer(source)) as connection:
        connection.execute("UPDATE runs SET command = 'cockpit run --db /home/me/mine.db'")
    add(source, "other", width=1.0, epochs=1, replicates=1, random=["none"], seed=7)
    work_off(source)
    for _ in range(2):  # the second time in place of the first
        publish.publish(source, sample, "digits")
        with closing(database.reader(sample)) as connection:
            kept = Folder(database.files_folder(sample))
            report = care.check(connection, kept, lambda done, total: None)
            assert not any(report.errors.values())
            for name, whole in (("digits:global", True), ("other:global", False)):
                digest = exports.run_of(connection, name, 3, 0)
                if whole:
                    ticket_export.ticket(connection, kept, digest)
                else:
                    with pytest.raises(InputError):
                        ticket_export.ticket(connection, kept, digest)
            assert not connection.execute("SELECT 1 FROM workers UNION SELECT 1 FROM pools").fetchall()
            commands = {row[0] for row in connection.execute("SELECT command FROM runs")}
        assert "cockpit run" in commands
        assert str(tmp_path).encode() not in sample.read_bytes()


def test_the_sample_shows_overlap_and_gives_tickets_away_at_the_first_try(tmp_path: Path) -> None:
    compared = run_cockpit(tmp_path, "diff", "scopes@digits", "--db", SAMPLE)
    assert (compared.returncode, compared.stderr) == (0, "")
    assert "no overlap" not in compared.stdout
    ticket = ("tickets", "export", "scopes@digits:global", "--level", 6, "-o", "ticket.safetensors", "--db", SAMPLE)
    assert run_cockpit(tmp_path, *ticket).returncode == 0
    assert (tmp_path / "ticket.safetensors").stat().st_size > 10_000
    files = Folder(database.files_folder(SAMPLE)).tickets()
    assert sum(file.bytes for file in files) < 3_000_000


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["python.md", "tickets.md", "statistics.md"])
def test_the_examples_run_as_they_are_printed(page: str, folder: Path) -> None:
    code = "\n".join(blocks(page))
    project = str(DOCS.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": project},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"python.md": "conv4.weight ", "tickets.md": "3 digits-a", "statistics.md": "digits-a "}[page] in done.stdout


def test_the_three_lines_give_the_network_that_is_trained_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    used: dict[str, object] = {}
    model_code, ticket_code, *_ = blocks("tickets.md")
    exec(model_code + ticket_code, used)
    theirs = used["model"]
    assert isinstance(theirs, nn.Module)
    state, masks = starts.unpack_ticket((folder / "ticket.safetensors").read_bytes())
    ours = nets.build("vgg-digits", 1.0, (1, 8, 8), 10)
    ours.load_state_dict(state)
    with torch.no_grad():
        for name, mask in masks.items():
            ours.get_parameter(name).masked_fill_(~mask, 0.0)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(theirs.eval()(images), ours.eval()(images))
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        theirs.train()(images).square().sum().backward()
        optimizer.step()
    theirs(images)  # the weight that a forward pass uses is made anew in it
    for name, mask in masks.items():
        weight = theirs.get_submodule(name.removesuffix(".weight")).weight
        assert isinstance(weight, torch.Tensor)
        assert not weight[~mask].any()
        assert weight[mask].any()
