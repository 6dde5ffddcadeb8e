"""Joined workers train with the bits of local ones, and resume each other's checkpoints, sent or in a shared folder."""

import itertools
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.desk.remote import HeadLost
from engine.machine import devices
from engine.store import database
from engine.store import shared as sharing
from engine.store.files import Folder
from engine.store.records import StaleClaim
from engine.training import profiles
from engine.workers.run import RunContext, Stopped, execute
from tests import heads, inprocess
from tests.conftest import Cockpit, add, work_off
from tests.databases import query
from tests.faults import victim
from tests.heads import SMALL, claimed
from tests.waiting import wait_until
from tests.workers import records

SPLIT: dict[str, Any] = {**SMALL, "levels": 0, "target": ["digits-a"], "epochs": 10, "split": 2}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sent", "shared"])
def test_two_workers_without_a_database_give_local_bits_though_one_is_killed(tmp_path: Path, where: str) -> None:
    local, path = tmp_path / "local.db", tmp_path / "long.db"
    for place in (local, path):
        add(place, "one", **{**SMALL, "epochs": 6})
    assert victim.start(local).end() == 0
    shared = tmp_path / "shared"
    shared.mkdir()
    with heads.leading(path, drain=True, checkpoints=shared if where == "shared" else None) as address:
        killed = heads.join(address, tmp_path / "a", "--checkpoint-seconds", 0)
        other = heads.join(address, tmp_path / "b")
        folder = database.files_folder(path) / "checkpoints"
        held = f"""
            SELECT digest FROM runs r JOIN workers w ON w.id = r.worker
            WHERE r.status = 'running' AND pid = {killed.pid} AND EXISTS (SELECT 1 FROM epochs WHERE run_id = r.id)
        """
        wait_until(lambda: any((folder / f"{run}.safetensors").exists() for (run,) in query(path, held)))
        killed.kill()
        other.join(180)
        assert other.exitcode == 0, (tmp_path / "b.log").read_text()
    assert records(path) == records(local)
    outcomes = query(path, "SELECT attempt, outcome FROM attempts ORDER BY run_id, claim")
    assert outcomes.count((1, "lost")) == 1
    assert {attempt for attempt, _ in outcomes} == {1}
    assert not list(folder.glob("*"))
    assert folder.is_symlink() == (where == "shared")


@pytest.mark.slow
def test_a_split_run_resumes_on_another_joined_worker_with_the_bits_of_a_local_one(tmp_path: Path) -> None:
    local, path = tmp_path / "local.db", tmp_path / "experiments.db"
    for place in (local, path):
        add(place, "one", **SPLIT)
    work_off(local, split=2)
    with heads.leading(path, drain=True) as address:
        killed = heads.join(address, tmp_path / "a", "--split", 2, "--checkpoint-seconds", 0)
        wait_until(lambda: query(path, "SELECT 1 FROM epochs WHERE epoch = 2"), log=tmp_path / "a.log")
        killed.kill()
        other = heads.join(address, tmp_path / "b", "--split", 2)
        other.join(180)
        assert other.exitcode == 0, (tmp_path / "b.log").read_text()
    assert records(path) == records(local)
    assert query(path, "SELECT attempt, outcome FROM attempts ORDER BY claim") == [(1, "lost"), (1, "done")]


@pytest.mark.slow
@pytest.mark.skipif(devices.cores() < 2, reason="needs two cores")
def test_a_joined_machine_trains_a_split_run_of_the_queue(tmp_path: Path, cockpit: Cockpit) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", **{**SPLIT, "epochs": 2})
    assert cockpit("work", "--cluster", "tcp://127.0.0.1:0", "--detach", "--drain").returncode == 0
    joins = str(database.join_file(path))
    joined = cockpit("join", joins, "--split", "2", "--workers", "1", "--cache", str(tmp_path / "cache"))
    assert joined.returncode == 0, joined.stderr
    assert query(path, "SELECT status, device FROM runs") == [("done", "cpu+cpu")]


def test_a_checkpoint_in_a_shared_folder_is_resumed_on_another_worker_with_the_same_bits(tmp_path: Path) -> None:
    cpu, batches = torch.device("cpu"), itertools.count()
    found, shared = [], tmp_path / "shared"
    shared.mkdir()
    for name in ("plain", "resumed"):
        path = tmp_path / f"{name}.db"
        add(path, "one", **{**SMALL, "levels": 0, "epochs": 2, "profile": "exact"})
        with heads.leading(path, checkpoints=shared) as address:
            one, two = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
            claim, worker = claimed(one), one
            if name == "resumed":
                with pytest.raises(Stopped):
                    execute(claim, RunContext(one, cpu, stop=lambda: next(batches) == 15))
                (saved,) = shared.glob("*/checkpoints/*")
                assert saved.name == f"{claim.run.digest}.safetensors"
                assert not list((tmp_path / "a" / "checkpoints").glob("*"))
                one.release(claim)
                claim, worker = claimed(two), two
            execute(claim, RunContext(worker, cpu))
        found.append(records(path))
    assert found[0] == found[1]
    assert query(path, "SELECT attempt, outcome FROM attempts ORDER BY claim") == [(1, "stopped"), (1, "done")]


@pytest.mark.parametrize(
    ("profile", "other", "attempts"),
    [
        ("exact", {}, [(1, "stopped"), (1, "done")]),
        ("exact", {"torch_version": "1.0"}, [(1, "stopped"), (2, "done")]),
        ("exact", {"device_name": "another card"}, [(1, "stopped"), (2, "done")]),
        ("exact", {"cudnn_version": "1"}, [(1, "stopped"), (2, "done")]),
        ("fast", {"torch_version": "1.0"}, [(1, "stopped"), (1, "done")]),
    ],
)
def test_an_exact_run_goes_on_only_where_its_checkpoint_could_have_been_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, other: dict[str, str], attempts: list[Any]
) -> None:
    path, plain, batches = tmp_path / "experiments.db", profiles.environment, itertools.count()
    add(path, "one", **{**SMALL, "levels": 0, "epochs": 2, "profile": profile})
    cpu = torch.device("cpu")
    with heads.leading(path) as address:
        one, two = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
        claim = claimed(one)
        monkeypatch.setattr(profiles, "environment", lambda *about: {**plain(*about), **other})
        with pytest.raises(Stopped):
            execute(claim, RunContext(one, cpu, stop=lambda: next(batches) == 15))
        one.release(claim)
        monkeypatch.undo()
        execute(claimed(two), RunContext(two, cpu))
    assert query(path, "SELECT attempt, outcome FROM attempts ORDER BY run_id, claim") == attempts


@pytest.mark.parametrize("where", ["sent", "shared"])
def test_a_stale_worker_replaces_no_checkpoint(path: Path, tmp_path: Path, where: str) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    with heads.leading(path, checkpoints=shared if where == "shared" else None) as address:
        late, next_one = heads.desk(address, tmp_path / "a"), heads.desk(address, tmp_path / "b")
        claim = claimed(late)
        with closing(database.writer(path)) as connection:
            connection.execute("UPDATE runs SET lease_expires_at = ? WHERE status = 'running'", (database.now(-1),))
        again = claimed(next_one)
        assert again.run == claim.run
        next_one.write_checkpoint(again, b"newer")
        with pytest.raises(StaleClaim):
            late.write_checkpoint(claim, b"late")
        assert next_one.read_checkpoint(again) == b"newer"
        folder = database.files_folder(path) / "checkpoints"
        assert [place.name for place in folder.iterdir()] == [f"{claim.run.digest}.safetensors"]
        with pytest.raises(HeadLost, match="does not understand"):
            next_one._ask(None, "settle_checkpoint", again.number, "../x")


def test_a_machine_that_does_not_see_the_shared_folder_is_told_so(path: Path, tmp_path: Path) -> None:
    shared, seen_as = tmp_path / "shared", tmp_path / "mounted"
    shared.mkdir()
    with heads.leading(path, checkpoints=shared) as address:
        with pytest.raises(HeadLost, match=r"cannot write to .*nowhere/cockpit-.* mount it here, or say in \[paths\]"):
            heads.desk(address, tmp_path / "a", paths={str(shared): str(tmp_path / "nowhere")})
        seen_as.symlink_to(shared)
        desk = heads.desk(address, tmp_path / "b", paths={str(shared): str(seen_as)})
        assert desk.shared
        assert desk.shared.path.is_relative_to(seen_as)
        status = inprocess.run("work", "--status", "--db", str(path))[1]
        assert f"checkpoints of joined workers are written to {shared}" in status


def test_checkpoints_move_to_the_shared_folder_and_back(tmp_path: Path) -> None:
    files, digest = Folder(tmp_path / "files"), "a" * 64
    files.path.mkdir()
    files.write_checkpoint(digest, b"data")
    killed = tmp_path / "files" / ".checkpoints.x-1"
    killed.mkdir()
    shutil.copy(files.checkpoint(digest), killed / f"{'b' * 64}.safetensors")
    for name in ("one", "two", None, None, "one"):
        sharing.place(files.path, sharing.folder(tmp_path / name, "0") if name else None)
        assert (files.path / "checkpoints").is_symlink() == (name is not None)
        assert files.checkpointed() == {digest, "b" * 64}
        assert files.read_checkpoint(digest) == b"data"
    assert not list(files.path.glob(".*"))
    assert not list((tmp_path / "two").rglob("*.safetensors"))
