"""`cockpit queue list`: the state of each experiment."""

import json
from pathlib import Path

from tests.conftest import ADD, Cockpit


def test_queue_list(cockpit: Cockpit, trained: Path) -> None:
    missing = cockpit("queue", "list")
    assert missing.returncode == 2
    assert "database experiments.db does not exist: queue something" in missing.stderr
    cockpit(*ADD, "--name", "waiting-one")
    assert "waiting-one" in cockpit("queue", "list").stdout
    (row,) = json.loads(cockpit("queue", "list", "--json").stdout)
    assert (row["name"], row["status"], row["runs"], row["done"]) == ("waiting-one", "waiting", 26, 0)
    done = cockpit("queue", "list", "--db", trained).stdout
    assert "tiny" in done
    assert "✓ done" in done
    assert json.loads(cockpit("queue", "list", "--status", "done", "--json").stdout) == []
    assert "choose from waiting, running" in cockpit("queue", "list", "--status", "finished").stderr
