"""The commands of `cockpit tickets`, with the real program in an empty folder."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from engine.store import care, database
from tests.conftest import Cockpit
from tests.databases import silently


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A trained database with links to its files, which may be deleted but not changed."""
    care.backup(trained, tmp_path / "experiments.db", silently)
    return tmp_path / "experiments.db"


def test_list_names_each_chain_and_whether_its_tickets_are_here(cockpit: Cockpit, path: Path) -> None:
    lines = cockpit("tickets", "list").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["tiny:global", "0-3", "2", "51.21", "%", "8", "of", "8"],
        ["tiny:layerwise", "0-3", "2", "51.25", "%", "8", "of", "8"],
    ]
    told = json.loads(cockpit("tickets", "list", "tiny", "--json").stdout)
    assert {ticket["here"] for ticket in told["tickets"]} == {True}
    for file in path.with_name("experiments.db.files").glob("tickets/*"):
        file.unlink()
    assert {ticket["here"] for ticket in json.loads(cockpit("tickets", "list", "--json").stdout)["tickets"]} == {False}
    refused = cockpit("tickets", "export", "tiny:global")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "the rewind file of run" in refused.stderr
    assert not list(path.parent.glob("*.safetensors"))


def test_a_ticket_goes_out_is_verified_and_comes_in_elsewhere(cockpit: Cockpit, path: Path, tmp_path: Path) -> None:
    said = cockpit("tickets", "export", "tiny:global", "--level", 2, "--replicate", 1)
    (file,) = tmp_path.glob("digits-a@*-level-2-*.safetensors")
    assert said.stdout.startswith(f"{file.name}: winning ticket of level 2 from digits-a, seed 1: vgg-digits x 0.25")
    told = cockpit("tickets", "verify", file, "--json")
    assert told.returncode == 0
    assert [one["ok"] for one in json.loads(told.stdout)] == [True]
    source = cockpit("tickets", "import", file, "--db", "other.db").stdout.split()
    assert source[0] == "--source"
    file.unlink()
    added = cockpit(
        *("queue", "add", *source, "--target", "digits-b", "--epochs", 1, "--replicates", 2, "--db", "other.db")
    )
    assert added.returncode == 0, added.stderr
    assert "3 curves, 6 runs: 6 new" in added.stdout
    assert cockpit("tickets", "list", "--db", "other.db").stdout.splitlines()[-1] == source[1]


def test_a_ticket_with_its_code_loads_without_cockpit(cockpit: Cockpit, path: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    said = cockpit("tickets", "export", "tiny:global", "--level", 2, "--code", "-o", "place/my ticket.safetensors")
    assert said.stdout.splitlines()[1:] == [str(place / "load_my_ticket.py")]
    told = cockpit("tickets", "export", "tiny:global", "--code", "--json", "-o", "place")
    assert [Path(file).parent for file in json.loads(told.stdout)["code"]] == [Path("place")]
    assert len(list(place.iterdir())) == 4
    script = (
        "import sys\nsys.modules['engine'] = sys.modules['cockpit'] = None\nfrom load_my_ticket import load\n"
        "print(sum(int(mask.sum()) for name, mask in load().named_buffers() if name.endswith('_mask')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{int(done.stdout):,} of" in said.stdout
    refused = cockpit("tickets", "export", "tiny:global", "--code", "-o", "/dev/stdout")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--code needs a file to write next to, not /dev/stdout" in refused.stderr


def test_an_experiment_of_a_ticket_is_printed_as_a_file_that_makes_the_same(
    cockpit: Cockpit, path: Path, tmp_path: Path
) -> None:
    cockpit("tickets", "export", "tiny:global", "--level", 2, "-o", "t.safetensors")
    cockpit("queue", "add", "--name", "theirs", "--source", "ticket:t.safetensors", "--target", "digits-b")
    (tmp_path / "t.safetensors").unlink()
    (tmp_path / "again.toml").write_text(cockpit("queue", "show", "theirs", "--toml").stdout)
    assert " 0 new" in cockpit("queue", "add", "again.toml").stdout


def test_what_is_wrong_is_said_and_nothing_is_imported(cockpit: Cockpit, path: Path, tmp_path: Path) -> None:
    cockpit("tickets", "export", "tiny:global", "--level", 2, "-o", "t.safetensors")
    file = tmp_path / "t.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 64  # in the tensors
    file.write_bytes(data)
    checked = cockpit("tickets", "verify", "t.safetensors")
    assert checked.returncode == 1
    assert "does not have the digest" in checked.stdout
    for command in (("tickets", "import", "t.safetensors"), ("queue", "add", "--source", "ticket:t.safetensors")):
        refused = cockpit(*command, *(("--target", "digits-b") if command[0] == "queue" else ()), "--db", "other.db")
        assert refused.returncode == 2
        assert "does not have the digest" in refused.stderr
    assert not (tmp_path / "other.db").exists()


def test_a_file_that_is_no_ticket_hides_nothing_of_those_beside_it(
    cockpit: Cockpit, path: Path, tmp_path: Path
) -> None:
    cockpit("tickets", "export", "tiny:global", "--level", 2, "-o", "t.safetensors")
    (tmp_path / "no.safetensors").write_text("hello")
    checked = cockpit("tickets", "verify", "no.safetensors", "t.safetensors")
    assert (checked.returncode, checked.stderr) == (1, "")
    marks = [line[0] for line in checked.stdout.splitlines() if not line.startswith(" ")]
    assert marks == ["✗", "✓"]
    refused = cockpit("tickets", "import", "t.safetensors", "no.safetensors", "--db", "other.db")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "no.safetensors: not a cockpit ticket file" in refused.stderr
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "tiny:global", "--level", 9), "tiny:global has no ticket of level 9 (--level): it has 0, 1, 2, 3"),
        (("export", "tiny:global", "--replicate", 7), "has no replicate 7 at level 3 (--replicate): it has 0, 1"),
        (("export", "tiny:globl"), "did you mean 'global'?"),
        (("export", "tiny:global", "-o", "no/where.safetensors"), "folder no for where.safetensors does not exist"),
        (("verify", "none.safetensors"), "file none.safetensors does not exist"),
        (("list", "tyni"), "did you mean 'tiny'?"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(
    cockpit: Cockpit, path: Path, arguments: tuple[object, ...], said: str
) -> None:
    done = cockpit("tickets", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cockpit: error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_extending_on_a_ticket_whose_file_was_freed_says_how_to_put_it_back(
    cockpit: Cockpit, path: Path, tmp_path: Path
) -> None:
    cockpit("tickets", "export", "tiny:global", "--level", 2, "-o", "t.safetensors")
    made = ("--name", "theirs", "--source", "ticket:t.safetensors", "--target", "digits-b", "--replicates", 1)
    cockpit("queue", "add", *made)
    with closing(database.writer(path)) as connection:
        connection.execute("DELETE FROM files WHERE kind = 'ticket'")
    refused = cockpit("queue", "extend", "theirs", "--replicates", 2)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "was freed: `cockpit queue add`" in refused.stderr
    cockpit("queue", "add", *made)
    assert cockpit("queue", "extend", "theirs", "--replicates", 2).returncode == 0
