"""`cockpit queue add`: new, existing and refused experiments."""

import json
from pathlib import Path

import pytest

from tests.conftest import ADD, SMALL, Cockpit


def test_help_of_queue_add_names_every_option(cockpit: Cockpit) -> None:
    text = cockpit("queue", "add", "--help").stdout
    what = ["name", "source", "target", "model", "width", "replicates", "seed"]
    tickets = ["scope", "random", "levels", "evaluate", "prune-rate", "rewind"]
    training = ["optimizer", "target-optimizer", "epochs", "batch-size", "profile"]
    for option in what + tickets + training:
        assert f"--{option} " in text


def test_queue_add_says_what_is_new_and_what_exists(cockpit: Cockpit) -> None:
    first, second = cockpit(*ADD), cockpit(*ADD)
    assert first.stdout == "digits-a-to-digits-b-vgg-digits: 4 curves, 26 runs: 26 new, 0 exist already\n"
    assert second.stdout == "digits-a-to-digits-b-vgg-digits: 4 curves, 26 runs: 0 new, 26 exist already\n"
    assert first.stderr == second.stderr == "train with `cockpit work`\n"
    as_json = cockpit(*ADD, "--name", "other", "--json")
    assert json.loads(as_json.stdout) == {"experiment": "other", "curves": 4, "runs": 26, "new": 0, "existing": 26}


def test_queue_add_takes_a_preset_and_options_beside_it(cockpit: Cockpit) -> None:
    assert "digits: 4 curves, 60 runs" in cockpit("queue", "add", "digits").stdout
    changed = cockpit("queue", "add", "digits", "--levels", 2)
    assert changed.returncode == 2
    assert "give this one another --name" in changed.stderr
    assert "short: 4 curves, 20 runs" in cockpit("queue", "add", "digits", "--levels", 2, "--name", "short").stdout


def test_an_experiment_keeps_the_profile_it_was_queued_with(cockpit: Cockpit) -> None:
    cockpit("queue", "add", *SMALL, "--name", "kept", "--profile", "fast")
    cockpit("queue", "add", *SMALL, "--name", "other", "--profile", "exact")
    for name in ("kept", "other"):  # whatever the default is here
        assert f"{name}: 4 curves, 26 runs: 0 new" in cockpit("queue", "add", *SMALL, "--name", name).stdout
    refused = cockpit("queue", "add", *SMALL, "--name", "kept", "--profile", "exact")
    assert "profile 'fast' is now 'exact'" in refused.stderr


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "a:b", "-x", "n" * 101, "  "])
def test_a_name_that_could_not_be_typed_or_told_apart_is_refused(tmp_path: Path, cockpit: Cockpit, name: str) -> None:
    found = cockpit("queue", "add", "--source", "digits-a", f"--name={name}")
    assert (found.returncode, found.stdout) == (2, "")
    assert "cockpit: error: --name" in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
