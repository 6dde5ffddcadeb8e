"""Shell completion: as bash asks for it, fast, and without errors."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import Cockpit, add, run_cockpit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database of two experiments, and experiment files."""
    for name in ("first", "first-again"):
        add(tmp_path / "experiments.db", name, levels=0, replicates=1, scope=["global", "layerwise"])
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "paper.toml").touch()
    (tmp_path / "study" / "notes.txt").touch()
    return tmp_path


def offered(folder: Path, line: str, **environment: str) -> list[str]:
    """The completions of the last word of a line."""
    words = line.split(" ")
    asked = {"_COCKPIT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    found = run_cockpit(folder, **asked, **environment)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered_by_bash"),
    [
        (("diff", "first-again:l"), ["layerwise"]),
        (("diff", "first-again:"), ["global", "layerwise"]),
        (("diff", "first:global", "first-again:gl"), ["global"]),
        (("queue", "show", "first-a"), ["first-again"]),
    ],
)
def test_bash_completes_words_with_a_colon(folder: Path, typed: tuple[str, ...], offered_by_bash: list[str]) -> None:
    # Bash splits words at colons, and replaces only the part after the last.
    apart = [part for word in ("cockpit", *typed) for part in re.split("(:)", word) if part]
    asked = {"COMP_WORDS": "\n".join(apart), "COMP_CWORD": str(len(apart) - 1)}
    found = run_cockpit(folder, _COCKPIT_COMPLETE="complete_bash", **asked)
    assert (found.stdout.split(), found.stderr) == (offered_by_bash, "")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("cockpit doc", ["doctor"]),
        ("cockpit queue ann", ["annotate"]),
        ("cockpit queue add --batch-s", ["--batch-size"]),
        ("cockpit queue show fir", ["first-again", "first"]),
        ("cockpit queue pause first fir", ["first-again"]),
        ("cockpit plot first-", ["first-again"]),
        ("cockpit plot first --target digits", ["digits-a", "digits-b"]),
        ("cockpit diff first-again:l", ["first-again:layerwise"]),
        ("cockpit queue add dig", ["digits"]),
        ("cockpit queue add st", ["study/"]),
        ("cockpit run study/", ["study/paper.toml"]),
        ("cockpit queue add --source fashion", ["fashion-mnist", "fashion-mnist-a", "fashion-mnist-b"]),
        ("cockpit queue extend first --optimizer ad", ["adam", "adamw"]),
        ("cockpit queue list --status di", ["diverged"]),
        ("cockpit export --table r", ["runs"]),
        ("cockpit data get fa", ["fashion-mnist"]),
        ("cockpit data path image", ["imagenet"]),
        ("cockpit data check cifar100-", ["cifar100-a", "cifar100-b"]),
        ("cockpit models show lenet-5", ["lenet-5"]),
        ("cockpit presets show figA", ["figA1"]),
        ("cockpit show first-", ["first-again"]),
        ("cockpit tickets list first-", ["first-again"]),
        ("cockpit tickets export first-again:l", ["first-again:layerwise"]),
    ],
)
def test_what_is_there_is_offered(folder: Path, line: str, names: list[str]) -> None:
    assert offered(folder, line) == names


def test_a_run_is_offered_by_the_first_digits_of_its_digest(folder: Path, cockpit: Cockpit) -> None:
    (shown,) = json.loads(cockpit("queue", "show", "first", "--runs", "--json").stdout)
    digest = shown["every_run"][0]["digest"][:12]
    assert offered(folder, f"cockpit diff {digest[:5]}") == [digest]


@pytest.mark.parametrize("content", [None, b"", b"no database, " * 100])
def test_without_a_database_nothing_is_offered(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "experiments.db").write_bytes(content)
    before = [path.name for path in tmp_path.iterdir()]
    assert offered(tmp_path, "cockpit queue show x") == []
    assert offered(tmp_path, "cockpit diff abc") == []
    assert offered(tmp_path, "cockpit queue add --source digits-") == ["digits-a", "digits-b"]
    assert offered(tmp_path, "cockpit run /nowhere/x") == []
    assert [path.name for path in tmp_path.iterdir()] == before


@pytest.mark.parametrize(
    ("shell", "said"), [("bash", "complete -o default -F"), ("zsh", "#compdef"), ("fish", "complete")]
)
def test_the_script_for_a_shell_is_printed(tmp_path: Path, shell: str, said: str) -> None:
    found = run_cockpit(tmp_path, _COCKPIT_COMPLETE=f"source_{shell}")
    assert found.returncode == 0
    assert said in found.stdout


def test_completing_imports_nothing_heavy(folder: Path) -> None:
    import subprocess

    script = "import sys; import cockpit.cli; print([m for m in ('torch', 'numpy', 'textual') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
