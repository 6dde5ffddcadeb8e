"""`cockpit presets` and the presets and scales of `cockpit queue add`, with no data set on the machine."""

import json
from pathlib import Path

import pytest

from tests.conftest import Cockpit

NO_DATA = {"COCKPIT_DATA": "/nowhere"}


def test_presets_are_listed_with_their_runs_and_nothing_is_written(cockpit: Cockpit, tmp_path: Path) -> None:
    found = {row["preset"]: row for row in json.loads(cockpit("presets", "list", "--json", **NO_DATA).stdout)}
    assert {name: found[name]["runs"] for name in ("fig1a", "fig5b", "paper-small")} == {
        "fig1a": 456,
        "fig5b": 552,
        "paper-small": 6288,
    }
    assert (found["paper"]["experiments"], found["paper"]["runs"]) == (19, 9912)
    assert not list(tmp_path.iterdir())


def test_a_preset_tells_what_is_new_shared_and_done(cockpit: Cockpit) -> None:
    cockpit("queue", "add", "fig1b", **NO_DATA)
    found = json.loads(cockpit("presets", "show", "fig1a", "--json", **NO_DATA).stdout)
    assert {key: found[key] for key in ("runs", "new", "shared", "done")} == {
        "runs": 456,
        "new": 90,
        "shared": 366,
        "done": 0,
    }
    assert found["estimate"]["device_seconds"] is None  # nothing measured yet
    (experiment,) = found["experiments"]
    assert experiment["definition"]["scopes"] == ["global", "layerwise"]
    assert {"name": "cifar10 random-global", "runs": 90} in experiment["curve_names"]
    text = cockpit("presets", "show", "fig3e", **NO_DATA).stdout
    assert "inference" in text
    assert "to the end of epoch 1 (cifar100, cifar10), to the end of epoch 3 (imagenet, places365)" in text
    assert "unknown until the first run ends" in text


def test_only_a_preset_is_shown(cockpit: Cockpit) -> None:
    for name in ("fig9", "mine.toml"):
        refused = cockpit("presets", "show", name)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"unknown preset '{name}'" in refused.stderr


def test_what_was_measured_tells_the_device_time_of_a_preset(cockpit: Cockpit) -> None:
    options = ("--epochs", 1, "--levels", 0, "--replicates", 1, "--random", "none", "--workers", 1)
    done = cockpit("run", "--source", "digits-a", "--profile", "exact", *options)
    assert done.returncode == 0, done.stderr
    estimate = json.loads(cockpit("presets", "show", "digits", "--json").stdout)["estimate"]
    assert estimate["device_seconds"] > 0
    assert not estimate["untimed"]


def test_several_experiments_are_added_together_each_under_its_name(cockpit: Cockpit) -> None:
    added = cockpit("queue", "add", "paper-small", "--scale", "tiny", **NO_DATA)
    assert added.returncode == 0, added.stderr
    assert added.stdout.splitlines()[0].startswith("fig1a@tiny: 4 curves, 11 runs: 11 new")  # 4 + 3 links, 4 random
    assert "data set cifar10 is not on this machine" in added.stderr
    names = [row["name"] for row in json.loads(cockpit("queue", "list", "--json").stdout)]
    assert len(names) == 15
    assert {"fig2b@tiny", "fig4d-four@tiny", "figA1@tiny"} <= set(names)
    again = cockpit("queue", "add", "paper-small", "--scale", "tiny", "--json", **NO_DATA)
    assert all(json.loads(line)["new"] == 0 for line in again.stdout.splitlines())


def test_a_scale_shows_in_names_and_in_plots(cockpit: Cockpit) -> None:
    sizes = "width=0.25,epochs=1,levels=1,replicates=1,images=100"
    scaled = ("digits", "--scale", sizes)
    ran = cockpit("run", *scaled, "--workers", 1)
    assert ran.returncode == 0, ran.stderr
    assert "differs from the paper: width 0.25, 1 epoch, 1 level, 1 replicate\n" in ran.stdout
    assert "from digits a" in ran.stdout
    assert [row["name"] for row in json.loads(cockpit("queue", "list", "--json").stdout)] == [f"digits@{sizes}"]


def test_any_experiment_can_be_made_small(cockpit: Cockpit) -> None:
    what = ("--source", "digits-a", "--target", "digits-b", "--random", "none")
    added = cockpit("queue", "add", *what, "--scale", "tiny,images=300")
    # A chain of 4 runs, its tickets on the target, the target's dense network; one replicate.
    assert added.stdout.startswith("digits-a-300-to-digits-b-300-vgg-digits@tiny,images=300: 3 curves, 9 runs")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("paper", "--source", "digits"), "--source tells the experiments of preset 'paper' apart"),
        (("paper-small", "--name", "mine"), "--name 'mine' cannot name 15 experiments"),
        (("fig1a", "--scale", "smal"), "unknown --scale 'smal'"),
        (("fig3e", "--images", 5), "--images 5: data set 'imagenet': it cannot be cut to 5 training images"),
        (
            ("fig3e", "--epochs", 2),
            "--rewind 3 is out of range (0 to 2): at most --epochs; 3 is the paper's for imagenet",
        ),
        (("fig1a", "--scale", "small", "--replicates", 3), "--replicates is set by --scale small"),
        (("--scale", "small"), "nothing to train"),
    ],
)
def test_what_a_preset_cannot_be_is_one_line_and_nothing_is_written(
    cockpit: Cockpit, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    refused = cockpit("queue", "add", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
