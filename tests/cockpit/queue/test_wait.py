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
    assert waiting.wait(timeout=10) == 0
    add(path, "wild", levels=0, replicates=1, random=["none"], target=["digits-a"], learning_rate=1e30)
    work_off(path)
    found = cockpit("queue", "wait", "one", "wild", "--json")
    assert (found.returncode, json.loads(found.stdout)) == (1, {"one": "done", "wild": "diverged"})
    add(path, "halted", levels=0, replicates=1, random=["none"], target=["digits-a"], seed=9)
    cockpit("queue", "pause", "halted")
    assert cockpit("queue", "wait", "halted").returncode == 3
