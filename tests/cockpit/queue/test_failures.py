"""An experiment whose runs fail in a row is paused, with the reason."""

from contextlib import closing
from pathlib import Path

import pytest

from engine.store import database, leases, queue, records
from tests.cockpit.queue.conftest import status
from tests.conftest import ADD, Cockpit, work_off
from tests.databases import finish, worker


@pytest.fixture
def path(tmp_path: Path, cockpit: Cockpit) -> Path:
    """A database with an experiment of twelve independent runs."""
    settings = ("--levels", 0, "--replicates", 12, "--target", "digits-a", "--random", "none")
    found = cockpit(*ADD, "--name", "one", *settings)
    assert found.returncode == 0, found.stderr
    return tmp_path / "experiments.db"


def end(path: Path, *outcomes: bool) -> None:
    """Claim runs, and end each as failed or done."""
    with closing(database.writer(path)) as connection:
        for done in outcomes:
            claim = leases.claim(connection, worker(connection))
            assert claim is not None
            if done:
                finish(connection, claim, 0.5)
            else:
                records.failed(connection, claim, "out of luck")


def test_three_failures_in_a_row_pause_an_experiment_and_retry_goes_on(path: Path, cockpit: Cockpit) -> None:
    end(path, False, False, True, False, False)
    assert status(cockpit) == {"one": "waiting"}
    end(path, False)
    assert status(cockpit) == {"one": "paused"}
    assert "resume (3 runs in a row failed)" in cockpit("queue", "list").stdout
    assert "one: ‖ paused (3 runs in a row failed)" in cockpit("queue", "show", "one").stdout
    with closing(database.writer(path)) as connection:
        assert leases.claim(connection, worker(connection)) is None
    cockpit("queue", "retry", "one")
    work_off(path)
    assert status(cockpit) == {"one": "done"}


def test_failures_before_a_resumption_are_not_counted_again(path: Path, cockpit: Cockpit) -> None:
    end(path, False, False, False)
    cockpit("queue", "resume", "one")
    end(path, False, False)
    assert status(cockpit) == {"one": "waiting"}
    end(path, False)
    assert status(cockpit) == {"one": "paused"}


def test_how_many_failures_is_a_setting_and_0_is_never(path: Path, cockpit: Cockpit) -> None:
    cockpit("queue", "resume", "one", "--pause-after", 0)
    end(path, *[False] * 6)
    assert status(cockpit) == {"one": "waiting"}
    cockpit("queue", "resume", "one", "--pause-after", 1)
    end(path, False)
    assert status(cockpit) == {"one": "paused"}
    assert "resume (a run failed)" in cockpit("queue", "list").stdout


def test_an_experiment_that_shares_the_failing_runs_is_paused_too_and_others_go_on(
    path: Path, cockpit: Cockpit
) -> None:
    more = ("--levels", 0, "--target", "digits-a", "--random", "none")
    cockpit(*ADD, "--name", "same", "--replicates", 3, *more, "--pause-after", 2)
    cockpit(*ADD, "--name", "other", "--replicates", 1, "--seed", 50, *more)
    end(path, False, False)
    assert status(cockpit) == {"one": "waiting", "same": "paused", "other": "waiting"}
    with closing(database.reader(path)) as connection:
        assert queue.experiment_id(connection, "same") == 2
