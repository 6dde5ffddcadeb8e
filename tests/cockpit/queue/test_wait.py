"""`cockpit queue wait`: it ends with the experiment."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import Cockpit, add, work_off


def test_wait_ends_with_the_experiment_and_its_exit_code_says_how(path: Path, cockpit: Cockpit) -> None:
    assert cockpit("queue", "wait", "one", "--timeout", 0).returncode == 4
    waiting = subprocess.Popen([sys.executable, "-m", "cockpit", "queue", "wait", "one"], cwd=path.parent)
    time.sleep(1.5)
    assert waiting.poll() is None
    work_off(path)
    assert waiting.wait(timeout=120) == 0
    add(path, "wild", levels=0, replicates=1, random=["none"], target=["digits-a"], learning_rate=1e30)
    work_off(path)
    found = cockpit("queue", "wait", "one", "wild", "--json")
    assert (found.returncode, json.loads(found.stdout)) == (1, {"one": "done", "wild": "diverged"})
    add(path, "halted", levels=0, replicates=1, random=["none"], target=["digits-a"], seed=9)
    cockpit("queue", "pause", "halted")
    assert cockpit("queue", "wait", "halted").returncode == 3


def test_an_experiment_that_is_removed_meanwhile_is_not_waited_for(path: Path, cockpit: Cockpit) -> None:
    commands = (["wait", "one"], ["logs", "one", "--follow"])
    waiting = [
        subprocess.Popen(
            [sys.executable, "-m", "cockpit", "queue", *command], cwd=path.parent, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    time.sleep(1.5)
    cockpit("queue", "remove", "one")
    said = [process.communicate(timeout=120)[1] for process in waiting]
    assert [process.returncode for process in waiting] == [2, 0]
    assert said == ["cockpit: error: the experiment has been removed meanwhile\n", ""]
