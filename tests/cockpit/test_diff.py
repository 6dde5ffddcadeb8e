"""`cockpit diff` as users run it."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.store import database
from tests.conftest import Cockpit, add

SCOPES = ("tiny:global", "tiny:layerwise")


def view(trained: Path, level: int) -> list[Any]:
    with closing(database.reader(trained)) as connection:
        return connection.execute(
            "SELECT name, weights_total, avg(global_remaining) AS a, avg(layerwise_remaining) AS b,"
            " avg(remaining_ratio) AS remaining, avg(pruned_ratio) AS pruned"
            " FROM layer_ratios WHERE target = 'digits-a' AND level = ? GROUP BY layer ORDER BY layer",
            (level,),
        ).fetchall()


def test_two_scopes_are_compared_at_a_level(cockpit: Cockpit, trained: Path) -> None:
    done = cockpit("diff", *SCOPES, "--level", 2, "--db", trained)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "A: tiny:global  (digits-a → digits-a winning global, level 2)"
    assert lines[2] == "mean ± standard deviation of 2 replicates"
    for row in view(trained, 2):
        (line,) = [line for line in lines if line.startswith(row["name"].removesuffix(".weight"))]
        for figure in (row["weights_total"], row["a"], row["b"]):
            assert f" {figure:,.0f}" in line
        for figure in (row["remaining"], row["pruned"]):
            assert f" {figure:.3f} ± " in line
        assert ("│█" in line or "│▌" in line) == (row["remaining"] > 1.02)
    assert any(line.startswith("total") for line in lines)


def test_an_experiment_alone_is_its_two_scopes_at_the_sparsest_level(cockpit: Cockpit, trained: Path) -> None:
    alone = cockpit("diff", "tiny", "--db", trained)
    assert alone.returncode == 0
    assert alone.stdout == cockpit("diff", *SCOPES, "--level", 3, "--db", trained).stdout


def test_json_has_every_figure_with_its_deviation_and_n(cockpit: Cockpit, trained: Path) -> None:
    found = json.loads(cockpit("diff", *SCOPES, "--level", 3, "--json", "--db", trained).stdout)
    assert found["a"] == {"name": "tiny:global", "about": "digits-a -> digits-a winning global", "level": 3}
    assert found["n"] == 2
    for layer, row in zip(found["layers"], view(trained, 3), strict=True):
        assert (layer["name"], layer["weights"]) == (row["name"], row["weights_total"])
        assert layer["remaining_ratio"]["mean"] == pytest.approx(row["remaining"])
        assert layer["pruned_ratio"]["mean"] == pytest.approx(row["pruned"])
        assert layer["kept_a"] == {"mean": row["a"], "std": layer["kept_a"]["std"], "n": 2}
        assert 0 < layer["chance"]["mean"] < layer["overlap"]["mean"] < 1
    assert found["total"]["remaining_a"]["mean"] == pytest.approx(0.512, abs=1e-3)
    assert found["notes"] == []


def test_a_matrix_compares_all_tickets_of_an_experiment(cockpit: Cockpit, trained: Path) -> None:
    done = cockpit("diff", "tiny", "--matrix", "--level", 2, "--db", trained)
    assert (done.returncode, done.stderr) == (0, "")
    assert "level 2, chains, mean of shared replicates" in done.stdout
    assert done.stdout.count("1.000 (") == 4
    assert done.stdout.count("1.000 ± 0.000 (") == 2
    found = json.loads(cockpit("diff", "tiny", "--matrix", "--json", "--db", trained).stdout)
    assert [one["level"] for one in found["matrices"]] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    refused = cockpit("diff", *SCOPES, "--matrix", "--db", trained)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--matrix compares all chains of one experiment: omit B and --replicate" in refused.stderr


def test_fractions_pruned_and_one_replicate_can_be_shown(cockpit: Cockpit, trained: Path) -> None:
    text = cockpit("diff", "tiny", "--level", 2, "--replicate", 1, "--x", "pruned", "--db", trained).stdout
    assert "one pair of tickets" in text
    assert "A pruned %" in text
    assert "±" not in text.splitlines()[-1]
    assert " 36.0" in text.splitlines()[-1]  # 1 - 0.8²


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tinny",), "did you mean 'tiny'?"),
        (("tiny:global",), "tiny:global is one side: name another to compare it with"),
        (("tiny:global", "tiny:layrwise"), "did you mean 'layerwise'?"),
        ((*SCOPES, "--level", 4), "level 4 cannot be compared: choose from 0, 1, 2, 3"),
        ((*SCOPES, "--replicate", 2), "choose from 0, 1"),
        ((*SCOPES, "--x", "prund"), "did you mean 'pruned'?"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    cockpit: Cockpit, trained: Path, arguments: tuple[object, ...], said: str
) -> None:
    done = cockpit("diff", *arguments, "--db", trained)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_an_experiment_of_one_scope_names_the_command_that_adds_the_other(cockpit: Cockpit, tmp_path: Path) -> None:
    add(tmp_path / "experiments.db", "one scope", replicates=1)
    done = cockpit("diff", "one scope:layerwise", "one scope")
    assert done.returncode == 2
    assert "`cockpit queue extend 'one scope' --scope layerwise` adds it" in done.stderr
    assert "`cockpit queue extend 'one scope' --scope layerwise` adds it" in cockpit("diff", "one scope").stderr
    untrained = cockpit("diff", "one scope:global", "one scope:random-global")
    assert "nothing of one scope:global has been trained yet: `cockpit work`" in untrained.stderr
