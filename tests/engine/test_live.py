"""A run in training appears on a curve once its position is known."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import database, live
from tests.tui.make_fixture import FIXTURE


@pytest.mark.parametrize(("weights", "points"), [(500, 1), (None, 0)])
def test_a_run_whose_weights_are_not_counted_yet_is_on_no_curve(
    tmp_path: Path, weights: int | None, points: int
) -> None:
    path = tmp_path / "some.db"
    shutil.copyfile(FIXTURE, path)
    with closing(database.writer(path)) as connection:
        connection.execute(
            "UPDATE runs SET status = 'running', weights_remaining = ?, weights_total = 1000 WHERE id ="
            " (SELECT max(id) FROM runs WHERE status = 'done')",
            (weights,),
        )
    with closing(database.reader(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM experiments")]
        found = [run for name in names for runs in live.of_curves(connection, name).values() for run in runs]
    assert (len({id(run) for run in found}) > 0) == bool(points)
    assert all(run.remaining == 0.5 for run in found)
