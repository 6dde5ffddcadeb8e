"""The curves that `cockpit run` shows while it trains: as many as fit, drawn again when a run ends."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cockpit.views import curves
from cockpit.views.growing import LEAST_ROWS, Growing
from cockpit.views.legends import View
from engine.store import database, leases, records, workers
from tests.cockpit.terminals import in_terminal
from tests.conftest import Cockpit, add
from tests.databases import EPOCH

FIXTURE = Path(__file__).parents[1] / "data" / "cockpit.db"


@pytest.mark.parametrize(("width", "height"), [(80, 20), (160, 44), (60, 12), (40, LEAST_ROWS), (120, 30)])
def test_charts_take_the_rows_there_are(width: int, height: int) -> None:
    with closing(database.reader(FIXTURE)) as connection:
        rows = Growing(connection, "halves", View()).rows(0, width, height)
    assert height - 2 <= len(rows) <= height
    assert all(sum(len(piece.text) for piece in row) <= width for row in rows[1:])
    titles = [row[0].text for row in rows if "test accuracy" in row[0].text]
    assert len(titles) == min(2, height // LEAST_ROWS)
    assert titles[0].startswith("halves · digits b")


def test_nothing_is_drawn_without_room() -> None:
    with closing(database.reader(FIXTURE)) as connection:
        assert Growing(connection, "halves", View()).rows(0, 80, LEAST_ROWS - 1) == []
        assert Growing(connection, "none", View()).rows(0, 80, 20) == []


def test_curves_are_read_again_when_a_run_has_ended_or_time_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    time = 0.0
    read = curves.read

    def counted(connection: sqlite3.Connection, experiment: str) -> list[curves.Series]:
        reads.append(experiment)
        return read(connection, experiment)

    monkeypatch.setattr("time.monotonic", lambda: time)
    monkeypatch.setattr(curves, "read", counted)
    with closing(database.reader(FIXTURE)) as connection:
        shown = Growing(connection, "halves", View())
        for ended, now, expected in ((3, 0.0, 1), (3, 1.0, 1), (4, 1.5, 2), (4, 2.0, 2), (4, 7.0, 3)):
            time = now
            shown.rows(ended, 80, 20)
            assert len(reads) == expected
        shown.rows(4, 100, 20)  # the terminal was resized
    assert len(reads) == 4


def test_plot_shows_what_is_in_training_before_a_level_has_ended(cockpit: Cockpit, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=2, replicates=1, random=["none"], target=["digits-a"])
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, workers.open_worker(connection, "cpu", None, None))
        assert claim
        records.start(connection, claim, 1, {"device": "cpu"}, [records.Layer("conv1.weight", 40, 40)])
        waiting = cockpit("plot", "one")
        assert "one has no results on digits-a yet: it is training; `cockpit status` shows progress" in waiting.stderr
        records.epoch(connection, claim, 1, EPOCH)
    shown = cockpit("plot", "one").stdout
    assert "0 of 3 runs done\n" in shown
    assert "one · digits a · VGG-digits x 1/4 · test accuracy, %\n" in shown
    assert "○ in training" in shown


def test_run_shows_curves_on_a_terminal(tmp_path: Path) -> None:
    one = ("--source", "digits-a", "--levels", "3", "--epochs", "8", "--replicates", "1", "--width", "0.25")
    shown, code = in_terminal(
        tmp_path, "run", *one, "--name", "one", "--workers", "1", until="in training", keys=b"\x03"
    )
    assert code == 130
    assert "one · digits a · VGG-digits x 1/4 · test accuracy" in shown
    assert "○ in training" in shown
