"""Damaged ticket files: commands that read one end with 0, 1 or 2, and name the fault in one line."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.machine import processes
from engine.results import ticket_export
from tests import inprocess
from tests.conftest import copied
from tests.tickets import VALUES, export, joined, parts, places


def _answered(kind: type, _: str, verb: str, *files: object) -> Any:
    """The output of the process that imports torch."""
    assert verb == "verify"
    found = [ticket_export.verify(Path(str(file))) for file in files]
    return msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(found))), kind)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_ticket_file_makes_a_traceback(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    sound = tmp_path / "sound.safetensors"
    if not sound.exists():
        export(trained, "tiny:global", 2, 0, sound)
    header, tensors = copy.deepcopy(parts(sound.read_bytes()))
    holder, key = data.draw(st.sampled_from(places(header)))
    if data.draw(st.booleans()):
        holder[key] = data.draw(VALUES)
    else:
        del holder[key]
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    content = joined(header, tensors)
    (folder / "t.safetensors").write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COCKPIT_DB", "experiments.db")
    monkeypatch.setattr(processes, "ask", _answered)
    if data.draw(st.booleans()):
        copied(trained, folder)
    add = "queue add --dry-run --source ticket:t.safetensors --target digits-b --epochs 1"
    for command in ("tickets verify t.safetensors", "tickets verify --json t.safetensors", add):
        code, _, err = inprocess.run(*command.split())
        inprocess.check_ended_well(code, err)
    verified, _, _ = inprocess.run("tickets", "verify", "t.safetensors")
    there = Path("experiments.db").exists()
    before = _kept(folder)
    code, _, err = inprocess.run("tickets", "import", "t.safetensors")
    inprocess.check_ended_well(code, err, (0, 2))
    assert (code == 0) == (verified == 0)  # only intact files are kept
    if code:
        assert _kept(folder) == before
        assert Path("experiments.db").exists() == there
    else:
        assert content in _kept(folder)


def _kept(folder: Path) -> list[bytes]:
    """The content of the database's files."""
    return [file.read_bytes() for file in sorted(folder.glob("*.files/**/*")) if file.is_file()]
