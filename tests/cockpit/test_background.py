"""`cockpit work` in the background: `--detach`, `--status`, `--stop`, the hook and the configuration file."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.store import database, workers
from tests.conftest import Cockpit, add
from tests.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A database; whatever works on it ends with the test."""
    found = tmp_path / "experiments.db"
    yield found
    if found.exists():
        with closing(database.reader(found)) as connection:
            for row in workers.live_pools(connection):
                with suppress(ProcessLookupError):
                    os.kill(row.pid, signal.SIGKILL)


def status(cockpit: Cockpit) -> Any:
    return json.loads(cockpit("work", "--status", "--json").stdout)


@pytest.mark.slow
def test_detached_workers_outlive_the_terminal_and_are_stopped_with_a_checkpoint(path: Path, cockpit: Cockpit) -> None:
    add(path, "long", levels=0, replicates=1, random=["none"], target=["digits-a"], epochs=5000)
    terminal = subprocess.Popen(
        [sys.executable, "-m", "cockpit", "work", "--detach", "--workers", "1"],
        cwd=path.parent,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, _ = terminal.communicate(timeout=60)
    assert terminal.returncode == 0
    assert "working in the background" in out
    with suppress(ProcessLookupError):
        os.killpg(terminal.pid, signal.SIGHUP)  # the terminal closes
    wait_until(lambda: any(row["loss"] and row["images_per_second"] for row in status(cockpit)["workers"]))
    (row,) = status(cockpit)["workers"]
    assert (row["state"], row["device"], row["target"], row["epochs"]) == ("training", "cpu", "digits-a", 5000)
    assert row["memory"] > 2**20
    assert row["loss"] > 0
    assert 0 <= row["accuracy"] <= 1
    wait_until(lambda: status(cockpit)["loads"] != [])
    (host,) = status(cockpit)["loads"]
    assert (host["device"], host["memory_total"]) == ("cpu", psutil.virtual_memory().total)
    assert "training  digits a dense, level 0, seed 0" in cockpit("work", "--status").stdout
    for again in (("--detach",), ("--drain",)):
        refused = cockpit("work", *again)
        assert refused.returncode == 2
        assert "already running here" in refused.stderr
    stopped = cockpit("work", "--stop")
    assert (stopped.returncode, stopped.stdout.split()[0]) == (0, "stopped:")
    assert not psutil.pid_exists(row["pid"])
    assert status(cockpit) | {"loads": []} == {"pools": [], "workers": [], "loads": [], "head": None}
    assert len(list((database.files_folder(path) / "checkpoints").glob("*"))) == 1
    assert "no workers to stop" in cockpit("work", "--stop").stderr
    assert "no workers: start them" in cockpit("work", "--status").stdout


def test_a_detached_head_can_be_joined_once_it_is_said_to_work(path: Path, cockpit: Cockpit) -> None:
    add(path, "long", levels=0, replicates=1, random=["none"], target=["digits-a"])
    joins = database.join_file(path)
    joins.parent.mkdir()
    joins.write_text("of a head that was killed")
    assert "working in the background" in cockpit("work", "--cluster", "tcp://127.0.0.1:0", "--detach").stdout
    found = re.fullmatch(r'address = "(tcp://127.0.0.1:[1-9]\d*)"\n', joins.read_text())
    assert found
    add(path.with_name("other.db"), "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    for name, why in (
        (path.name, f"a head of this database listens on {found[1]} already"),
        ("other.db", f"cannot listen on {found[1]} (Address already in use): choose another port"),
    ):
        refused = cockpit("work", "--cluster", found[1], "--detach", "--db", name)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert why in refused.stderr
    assert f"cockpit join {joins}" in cockpit("work", "--status").stdout
    assert cockpit("work", "--stop").returncode == 0
    assert not joins.exists()


@pytest.mark.slow
def test_a_second_stop_does_not_wait_for_checkpoints(path: Path, cockpit: Cockpit) -> None:
    add(path, "long", levels=0, replicates=1, random=["none"], target=["digits-a"], epochs=5000)
    cockpit("work", "--detach", "--workers", "1")
    wait_until(lambda: any(row["batch"] for row in status(cockpit)["workers"]))
    (row,) = status(cockpit)["workers"]
    os.kill(row["pid"], signal.SIGSTOP)  # a worker stuck within a step
    first = subprocess.Popen([sys.executable, "-m", "cockpit", "work", "--stop"], cwd=path.parent)
    time.sleep(3)
    assert first.poll() is None
    assert cockpit("work", "--stop").returncode == 0
    assert first.wait(timeout=120) == 0
    assert not psutil.pid_exists(row["pid"])


@pytest.mark.slow
def test_a_worker_that_is_killed_is_seen_at_once_and_replaced(path: Path, cockpit: Cockpit) -> None:
    add(path, "long", levels=0, replicates=1, random=["none"], target=["digits-a"], epochs=5000)
    cockpit("work", "--detach", "--workers", "1")
    wait_until(lambda: any(row["batch"] for row in status(cockpit)["workers"]))
    (row,) = status(cockpit)["workers"]
    os.kill(row["pid"], signal.SIGKILL)
    wait_until(lambda: any(new["batch"] and new["pid"] != row["pid"] for new in status(cockpit)["workers"]))
    with closing(database.reader(path)) as connection:
        assert connection.execute("SELECT claim FROM runs WHERE status = 'running'").fetchone()[0] == 2
    cockpit("work", "--stop")


@pytest.mark.slow
def test_a_hook_is_called_once_for_each_experiment_that_ends(path: Path, cockpit: Cockpit) -> None:
    tiny = {"levels": 0, "replicates": 1, "random": ["none"], "target": ["digits-a"]}
    add(path, "fine", **tiny)
    add(path, "same", **tiny)
    add(path, "wild", **tiny, learning_rate=1e30)
    config = path.parent / "config.toml"
    config.write_text("[work]\nnotify = 'echo $COCKPIT_EXPERIMENT $COCKPIT_STATUS >> told; false'\nmin-free = 0\n")
    assert cockpit("work", "--drain", COCKPIT_CONFIG=str(config)).returncode == 0
    told = (path.parent / "told").read_text().splitlines()
    assert sorted(told) == ["fine done", "same done", "wild diverged"]
    add(path, "new", **tiny, seed=7)
    cockpit("work", "--drain", "--notify", "echo $COCKPIT_EXPERIMENT > mine", COCKPIT_CONFIG=str(config))
    assert (path.parent / "mine").read_text() == "new\n"
    assert len((path.parent / "told").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[work]\nnotfy = 'x'",
            "unknown key of [work] 'notfy': choose from notify, min-free, per-device; did you mean",
        ),
        ("[worker]", "unknown table 'worker': choose from work"),
        ("[work]\nmin-free = 'much'", "min-free of [work] is 'much', must be a number"),
        ("[work]\nper-device = 1.5", "per-device of [work] is 1.5, must be a whole number"),
        ("work = 3", "work must be a table"),
        ("[work", "is not valid TOML: "),
    ],
)
def test_a_configuration_that_is_wrong_is_named(path: Path, cockpit: Cockpit, text: str, message: str) -> None:
    config = path.parent / "config.toml"
    config.write_text(text)
    found = cockpit("work", COCKPIT_CONFIG=str(config))
    assert found.returncode == 2
    assert found.stderr.startswith(f"cockpit: error: configuration file {config}")
    assert message in found.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detach", "--stop"], "--detach, --stop and --status exclude each other"),
        (["--json"], "--json needs --status"),
        (["--min-free", "-1"], "--min-free -1 is out of range"),
        (["--min-free", "nan"], "--min-free nan is out of range"),
        (["--per-device", "0"], "--per-device 0 is out of range"),
        (["--status"], "does not exist"),
    ],
)
def test_options_that_cannot_be_used_are_named(cockpit: Cockpit, options: list[str], message: str) -> None:
    found = cockpit("work", *options)
    assert (found.returncode, found.stdout) == (2, "")
    assert message in found.stderr
