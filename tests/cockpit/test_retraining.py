"""The command that trains a run again makes that run, and few others."""

import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cockpit.requests import retraining
from cockpit.requests.request import request_of
from engine.plan import experiments
from engine.plan.options import OPTIONS
from engine.store import database, queue, rows
from tests.conftest import add


def options_in(command: str) -> dict[str, Any]:
    """The request of a command line of `cockpit run`."""
    first, second, *words = shlex.split(command)
    assert (first, second) == ("cockpit", "run")
    found: dict[str, Any] = {}
    while words:
        flag = words.pop(0)
        name = flag.removeprefix("--").replace("-", "_")
        if name in ("name", "db"):
            words.pop(0)
        elif name.removeprefix("no_") in OPTIONS and OPTIONS[name.removeprefix("no_")].kind is bool:
            found[name.removeprefix("no_")] = not name.startswith("no_")
        elif OPTIONS[name].several:
            found.setdefault(name, []).append(words.pop(0))
        else:
            found[name] = OPTIONS[name].kind(words.pop(0))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"scope": ["global", "layerwise"], "random": ["global", "preserved"], "target": ["digits-b", "digits"]},
        {"optimizer": ["sgd", "adam"], "target_optimizer": ["adam", "sgd"], "learning_rate": 0.05},
        {"prune_rate": 0.5, "rewind": 0, "momentum": 0.5, "nesterov": True, "seed": 7, "data_seed": 3},
    ],
    ids=["scopes", "optimizers", "settings"],
)
def test_it_makes_the_run_and_what_the_run_needs(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "some.db"
    add(path, "some", levels=3, replicates=2, **options)
    with closing(database.reader(path)) as connection:
        experiment = queue.experiment_id(connection, "some")
        found = rows.runs(connection, experiment)
        for run in found[:: max(1, len(found) // 12)]:
            said = retraining.command(connection, experiment, run.digest)
            made = experiments.runs(experiments.curves(request_of(options_in(said)).definition))
            assert run.digest in made, said
            assert len(made) <= 4 * (run.level + 2), (said, len(made))
