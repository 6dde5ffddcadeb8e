"""`cockpit data`, and messages of other commands about missing data sets."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cockpit.views import pictures
from tests.conftest import Cockpit
from tests.engine import published
from tests.engine.folders import make
from tests.images import gray, save

NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


@pytest.fixture
def data(cockpit: Cockpit, tmp_path: Path) -> Callable[..., Any]:
    """The program with an empty cache, and no network."""
    alone = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "no_proxy": "", **NO_NETWORK}

    def run(*arguments: object, **environment: str) -> Any:
        return cockpit(*arguments, **{**alone, "COCKPIT_CONFIG": str(tmp_path / "no.toml"), **environment})

    return run


def test_the_list_tells_what_is_where_and_what_is_absent(data: Callable[..., Any], tmp_path: Path) -> None:
    published.write_idx(tmp_path / "here" / "MNIST" / "raw", published.drawn(28))
    found = json.loads(data("data", "list", "--json", COCKPIT_DATA=str(tmp_path / "here")).stdout)
    assert found["folders"][0] == str(tmp_path / "here")
    states = {row["name"]: row["state"] for row in found["sets"]}
    assert states == {
        "digits": "comes along",
        "mnist": "there",
        **dict.fromkeys(("fashion-mnist", "svhn", "cifar10", "cifar100", "imagenet", "places365"), "absent"),
    }
    shown = data("data", "list", "--data-dir", "here").stdout
    (mnist,) = (line.split() for line in shown.splitlines() if line.startswith("mnist"))
    assert mnist == ["mnist", str(tmp_path / "here"), "60,000", "10,000", "10", "1x28x28", "46.0", "KiB"]
    assert "absent: 162.6 MiB to fetch" in shown


def test_the_list_tells_which_files_of_experiments_are_still_as_they_were(
    data: Callable[..., Any], tmp_path: Path
) -> None:
    for name, seed in (("one", 0), ("other", 1), ("third", 2)):
        save(tmp_path / f"{name}.npz", gray(side=8, seed=seed))
        data("queue", "add", "--source", f"npz:{name}.npz", "--levels", "1")
    (tmp_path / "other.npz").write_bytes(b"changed")
    (tmp_path / "third.npz").unlink()
    files = json.loads(data("data", "list", "--json").stdout)["files"]
    assert {row["name"]: row["state"] for row in files} == {
        "npz:one": "there",
        "npz:other": "changed",
        "npz:third": "gone",
    }


def test_check_counts_the_classes_of_a_set_and_its_halves(data: Callable[..., Any]) -> None:
    found = json.loads(data("data", "check", "digits-a", "--json").stdout)
    assert [sum(found["counts"][name]) for name in ("train", "a", "b", "test")] == [629, 629, 628, 540]
    assert found["counts"]["train"] == found["counts"]["a"]
    whole = json.loads(data("data", "check", "digits", "--json").stdout)
    assert whole["sha256"] == found["sha256"]
    assert whole["counts"]["train"] == [a + b for a, b in zip(found["counts"]["a"], found["counts"]["b"], strict=True)]


def test_check_measures_what_numpy_does(data: Callable[..., Any], tmp_path: Path) -> None:
    arrays = gray(side=28)
    spec = save(tmp_path / "set.npz", arrays)
    found = json.loads(data("data", "check", spec, "--json").stdout)
    pixels = arrays["train_images"] / 255
    assert found["mean"] == [pytest.approx(pixels.mean(), abs=1e-4)]
    assert found["deviation"] == [pytest.approx(pixels.std(), abs=1e-4)]


def test_check_names_what_is_not_read(data: Callable[..., Any], tmp_path: Path) -> None:
    arrays = gray(side=8)
    spec = save(
        tmp_path / "set.npz", {**arrays, "val_images": arrays["test_images"], "val_labels": arrays["test_labels"]}
    )
    assert json.loads(data("data", "check", spec, "--json").stdout)["unused"] == ["val_images", "val_labels"]
    assert "not read: val_images, val_labels\n" in data("data", "check", spec).stdout
    root = make(tmp_path / "pets")
    make(root.parent / "pets", part="val")
    assert "not read: val\n" in data("data", "check", f"folder:{root}-a").stdout


def test_check_draws_samples_and_a_table_without_a_terminal(data: Callable[..., Any]) -> None:
    shown = data("data", "check", "digits")
    assert shown.returncode == 0
    assert "training: 122 to 130 images of a class" in shown.stdout
    assert "    9    125  63  62    55" in shown.stdout
    assert "  *+*-       %@=  " in shown.stdout
    assert "\x1b" not in shown.stdout


def test_pictures_have_two_pixels_a_character() -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    (line,) = pictures.draw([[red, blue], [blue, red]], coloured=True)
    console = Console(force_terminal=True, color_system="truecolor", width=20)
    with console.capture() as shown:
        console.print(line)
    assert "38;2;255;0;0;48;2;0;0;255m▀" in shown.get()
    assert "38;2;0;0;255;48;2;255;0;0m▀" in shown.get()
    white, black = (255,) * 3, (0,) * 3
    assert [text.plain for text in pictures.draw([[white, black]] * 3, coloured=False)] == ["@ ", "@ "]


def test_without_a_network_get_says_what_to_fetch_elsewhere_and_where_to_put_it(
    data: Callable[..., Any], tmp_path: Path
) -> None:
    shown = data("data", "get", "cifar10-a", "--data-dir", "here")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "Traceback" not in shown.stderr
    last = shown.stderr.splitlines()[-1]
    assert last.startswith("cockpit: error: data set cifar10 could not be downloaded (")
    assert f"cifar-10-python.tar.gz elsewhere, copy to {tmp_path / 'here'}, and run" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("get", "cifer10"), "unknown published data set 'cifer10': choose from mnist, .*did you mean 'cifar10'"),
        (("get", "imagnet"), "did you mean 'imagenet'"),
        (("path", "digits"), "unknown published data set 'digits'"),
        (
            ("path", "svhn"),
            r"data set svhn is not on this machine; searched: .*copy train_32x32.mat and test_32x32.mat",
        ),
        (("check", "mnist-b"), "data set mnist is not on this machine"),
        (("check", "mnits"), "unknown data set 'mnits'"),
        (("check", "npz:absent.npz"), "file absent.npz does not exist"),
    ],
)
def test_what_cannot_be_used_is_one_line(data: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    shown = data("data", *arguments)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert len(shown.stderr.splitlines()) == 1
    assert re.search(message, shown.stderr)


def test_path_is_for_scripts_and_the_configuration_file_counts(data: Callable[..., Any], tmp_path: Path) -> None:
    assert data("data", "path").stdout == f"{tmp_path / 'cache' / 'cockpit' / 'data'}\n"
    (tmp_path / "c.toml").write_text("[data]\nfolder = '~/configured'")
    assert data("data", "path", COCKPIT_CONFIG="c.toml").stdout == f"{tmp_path / 'configured'}\n"
    published.write_svhn(tmp_path / "configured", published.drawn(32, channels=3))
    found = data("data", "path", "svhn-a", COCKPIT_CONFIG="c.toml", COCKPIT_DATA=str(tmp_path / "first"))
    assert found.stdout == f"{tmp_path / 'configured'}\n"


def test_an_experiment_on_an_absent_set_is_queued_with_a_warning(data: Callable[..., Any]) -> None:
    shown = data("queue", "add", "--source", "cifar10-a", "--target", "cifar10-b", "--levels", "1")
    assert shown.returncode == 0
    assert "0 exist already" in shown.stdout
    assert shown.stderr.count("data set cifar10 is not on this machine") == 1


def test_run_ends_before_training_where_a_set_is_absent(data: Callable[..., Any]) -> None:
    shown = data("run", "--source", "cifar10", "--levels", "1", "--name", "later")
    assert shown.returncode == 2
    assert "cockpit: error: data set cifar10 is not on this machine" in shown.stderr
    assert json.loads(data("queue", "list", "--json").stdout) == []


def test_get_says_where_a_set_lies_that_only_its_publisher_has(data: Callable[..., Any], tmp_path: Path) -> None:
    assert "Get it from its publisher" in data("data", "get", "imagenet").stderr
    (tmp_path / "here" / "imagenet").mkdir(parents=True)
    assert data("data", "get", "imagenet-a", "--data-dir", "here").stdout == f"imagenet: {tmp_path / 'here'}\n"


@pytest.mark.slow
def test_workers_search_the_data_folder_and_pause_what_cannot_be_read(data: Callable[..., Any], tmp_path: Path) -> None:
    published.write_idx(tmp_path / "here" / "MNIST" / "raw", published.drawn(28))  # not the published content
    data("queue", "add", "--name", "numbers", "--source", "mnist", "--levels", "0")
    shown = data("work", "--drain", "--workers", "1", "--data-dir", "here")
    assert shown.returncode == 1
    wrong = f"{tmp_path / 'here/MNIST/raw/train-images-idx3-ubyte'} is not the file that was published"
    assert shown.stderr.count(wrong) == 3
    assert "numbers is paused: 3 runs in a row failed" in shown.stderr
    assert json.loads(data("queue", "list", "--json").stdout)[0]["failed"] == 3
