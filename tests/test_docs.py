"""The Python in the documentation does what it says, on a small experiment of the name that it uses."""

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.models import nets
from engine.results import ticket_export
from engine.store import database, exports
from engine.store.files import Folder
from engine.tickets import starts
from tests.conftest import add, work_off

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `experiments.db` holds an experiment `digits`, and its ticket of level 3 lies as a file."""
    folder = tmp_path_factory.mktemp("docs")
    path = folder / "experiments.db"
    add(path, "digits", width=1.0, epochs=1, replicates=1, random=["none"])
    work_off(path)
    with closing(database.reader(path)) as connection:
        digest = exports.run_of(connection, "digits:global", 3, 0)
        found = ticket_export.ticket(connection, Folder(database.files_folder(path)), digest)
    (folder / "ticket.safetensors").write_bytes(found.data)
    return folder


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["python.md", "tickets.md"])
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
    assert {"python.md": "conv4.weight ", "tickets.md": "3 digits-a"}[page] in done.stdout


def test_the_three_lines_give_the_network_that_is_trained_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    used: dict[str, object] = {}
    model_code, ticket_code, _ = blocks("tickets.md")
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
        assert not weight[~mask].any()
        assert weight[mask].any()
