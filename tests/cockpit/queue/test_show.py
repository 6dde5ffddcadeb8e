"""`cockpit queue show`: the progress of each curve, and what it waits for."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

from cockpit.cli.showing import OWN
from engine.plan.definitions import Definition
from tests.conftest import Cockpit, add


def test_show_says_what_each_curve_waits_for(tmp_path: Path, cockpit: Cockpit) -> None:
    path = tmp_path / "experiments.db"
    add(path, "tiny", evaluate="2-3", random=["none"])
    (shown,) = json.loads(cockpit("queue", "show", "tiny", "--json").stdout)
    assert shown["definition"]["levels"] == 3
    assert {curve["name"]: curve["waits_for"] for curve in shown["curves"]} == {
        "digits-a -> digits-a winning": "a device",
        "digits-b dense": "a device",
        "digits-a -> digits-b winning": "its source chain",
    }
    cockpit("queue", "pause", "tiny")
    text = cockpit("queue", "show", "tiny").stdout
    said = " ".join(text.split())
    assert "rewind 1; of imagenet and places365 3" in said
    assert "random none" in said
    assert "tiny: ‖ paused, priority 0" in text
    assert "paused experiment" in text
    assert "sources digits-a" in said


def test_every_setting_that_may_be_left_open_has_words_of_its_own() -> None:
    unset = {name for name, kind in get_type_hints(Definition).items() if type(None) in get_args(kind)}
    assert all(OWN[name] for name in unset)
