"""`cockpit queue move`: who is next."""

import json
from contextlib import closing
from pathlib import Path

from engine.store import database, leases
from tests.conftest import Cockpit, add
from tests.databases import worker


def test_move_changes_who_is_next(path: Path, cockpit: Cockpit) -> None:
    add(path, "late", levels=0, replicates=1, random=["none"], target=["digits-a"], seed=50)
    assert cockpit("queue", "move", "late", "--priority", 5).stdout == "· waiting  late: priority 0 → 5\n"
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))
        assert claim is not None
        assert claim.run.training.seed == 50
        cockpit("queue", "move", "other", "--priority", -1)
        seeds = [c.run.training.seed for c in iter(lambda: leases.claim(connection, 1), None)]
        assert seeds == [0, 1]  # seed 0 is in both experiments and has the higher priority of the two


def test_move_by_changes_each_from_where_it_is(path: Path, cockpit: Cockpit) -> None:
    cockpit("queue", "move", "one", "--priority", 3)
    assert cockpit("queue", "move", "one", "other", "--by", "-1").returncode == 0
    rows = json.loads(cockpit("queue", "list", "--json").stdout)
    assert [row["priority"] for row in rows] == [2, -1]
    for wrong in ((), ("--by", "1", "--priority", "2")):
        assert "give exactly one of --priority N, --by N" in cockpit("queue", "move", "one", *wrong).stderr
