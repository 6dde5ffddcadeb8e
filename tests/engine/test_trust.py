"""Models named by files from elsewhere run only after the user has allowed it."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

import engine
from cockpit.requests import trusting
from engine.errors import InputError
from engine.models import trust, user_model
from engine.plan import defining
from engine.store import adding, database
from tests.conftest import Cockpit, copied, work_off

RAN = Path("ran")  # importing the model creates it
NET = f"""
from pathlib import Path
from torch import nn
Path(__file__).with_name("{RAN}").write_text("")

def small(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
"""
TINY = ("--source", "digits-a", "--levels", 1, "--replicates", 1, "--epochs", 1, "--random", "none")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another user's folder: a model, a database with finished and waiting runs of it, and a ticket of it."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "evil.py").write_text(NET)
    with pytest.MonkeyPatch.context() as there:
        there.chdir(folder)
        there.setenv(trust.VARIABLE, str(folder / "trusted"))
        tiny: dict[str, Any] = {
            "source": ["digits-a"],
            "replicates": 1,
            "epochs": 1,
            "random": ["none"],
            "profile": "exact",
        }
        with closing(database.writer(folder / "experiments.db")) as connection:
            adding.add(connection, "study", defining.define(**tiny, levels=1, model="evil:small"), "")
            work_off(folder / "experiments.db")
            adding.add(connection, "more", defining.define(**tiny, levels=2, model="evil:small"), "")
            adding.add(connection, "plain", defining.define(**tiny, levels=0, width=0.25), "")
        from engine.results import ticket_export

        with engine.open(folder / "experiments.db") as found:
            digest = found.run("study:global")
        ticket_export.export(folder / "experiments.db", digest, digest, folder / "ticket.safetensors")
    return folder


@pytest.fixture
def here(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with these files, of a user who has never run the model."""
    (tmp_path / "evil.py").write_text(NET)
    (tmp_path / "ticket.safetensors").write_bytes((theirs / "ticket.safetensors").read_bytes())
    copied(theirs / "experiments.db", tmp_path).rename(tmp_path / "theirs.db")
    shutil.copytree(theirs / "experiments.db.files", tmp_path / "theirs.db.files")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(trust.VARIABLE, str(tmp_path / "state" / "trusted"))
    sys.modules.pop("evil", None)
    (theirs / RAN).unlink(missing_ok=True)
    return tmp_path


def ran(here: Path, theirs: Path) -> bool:
    return (here / RAN).exists() or (theirs / RAN).exists()


QUEUED = ("queue", "add", "--source", "ticket:ticket.safetensors", "--target", "digits-b", "--epochs", 1)
QUIET = [
    ("tickets", "verify", "ticket.safetensors"),
    ("tickets", "import", "ticket.safetensors"),
    ("store", "merge", "theirs.db"),
    ("queue", "list", "--db", "theirs.db"),
    ("queue", "show", "study", "--db", "theirs.db"),
    ("queue", "estimate", "--db", "theirs.db"),
    ("tickets", "list", "--db", "theirs.db"),
    ("export", "--db", "theirs.db"),
]


@pytest.mark.parametrize("command", QUIET, ids=" ".join)
def test_looking_at_what_others_gave_runs_nothing_and_needs_no_trust(
    command: tuple[str, ...], here: Path, theirs: Path, cockpit: Cockpit
) -> None:
    done = cockpit(*command)
    assert done.returncode == 0, done.stderr
    assert not ran(here, theirs)


ASKING = [
    (*QUEUED, "--dry-run"),
    QUEUED,
    ("run", *QUEUED[2:]),
    ("queue", "extend", "study", "--replicates", "2", "--db", "theirs.db"),
    ("tickets", "export", "study:global", "--db", "theirs.db"),
]


@pytest.mark.parametrize("command", ASKING, ids=lambda command: " ".join(map(str, command)))
def test_what_must_run_a_model_from_elsewhere_says_so_once(
    command: tuple[str, ...], here: Path, theirs: Path, cockpit: Cockpit
) -> None:
    refused = cockpit(*command)
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
    assert "evil.py, then give --trust-models once" in refused.stderr
    assert not ran(here, theirs)
    assert not (here / "experiments.db").exists()
    if command[0] != "run":
        assert cockpit(*command, "--trust-models").returncode == 0
        assert ran(here, theirs)
        assert cockpit(*QUEUED, "--name", "again").returncode == 0


def test_a_worker_leaves_alone_what_it_may_not_run_and_trains_the_rest(
    here: Path, theirs: Path, cockpit: Cockpit
) -> None:
    def statuses() -> dict[str, set[str]]:
        with closing(sqlite3.connect(here / "theirs.db")) as connection:
            found: dict[str, set[str]] = {}
            for model, status in connection.execute("SELECT model, status FROM runs"):
                found.setdefault(model.partition("@")[0], set()).add(status)
            return found

    done = cockpit("work", "--drain", "--workers", 1, "--db", "theirs.db")
    assert done.returncode == 1  # runs are left
    assert "not trained: model evil:small is Python code" in done.stderr
    assert statuses() == {"evil:small": {"done", "waiting"}, "vgg-digits": {"done"}}
    assert not ran(here, theirs)
    assert cockpit("work", "--drain", "--workers", 1, "--db", "theirs.db", "--trust-models").returncode == 0
    assert statuses()["evil:small"] == {"done"}


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_it_is_asked_and_the_answer_is_remembered(
    answer: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answered(source: user_model.Source) -> bool:
        asked.append(source.name)
        return answer

    monkeypatch.setattr(trusting, "_answered", answered)
    for _ in range(2):
        with nullcontext() if answer else pytest.raises(trust.Untrusted):
            trusting.asking(False, lambda: trust.require("evil:small"))
    assert asked == ["evil:small"] * (1 if answer else 2)


def test_python_is_asked_too(here: Path, theirs: Path) -> None:
    with engine.open(here / "theirs.db") as found, pytest.raises(trust.Untrusted):
        found.ticket(found.run("study:global"))
    assert not ran(here, theirs)


def test_what_a_person_names_is_trusted_by_its_hash_and_not_by_its_name(here: Path, cockpit: Cockpit) -> None:
    assert cockpit("queue", "add", *TINY, "--model", "evil:small").returncode == 0
    assert trust.trusted(user_model.find("evil:small"))
    identity = user_model.find("evil:small").identity
    (here / "evil.py").write_text(NET + "# changed\n")
    assert not trust.trusted(user_model.find("evil:small"))
    with pytest.raises(InputError, match="is not what it was"):
        trust.named(identity)


def test_a_name_with_a_hash_is_from_a_record_and_trusts_nothing(here: Path, theirs: Path, cockpit: Cockpit) -> None:
    identity = user_model.find("evil:small").identity
    shown = cockpit("queue", "show", "study", "--toml", "--db", "theirs.db").stdout
    assert identity in shown
    (here / "study.toml").write_text(shown)
    for command in (("queue", "add", "study.toml"), ("models", "show", identity, "--size", "1x8x8")):
        done = cockpit(*command)
        assert done.returncode == 2
        assert "--trust-models" in done.stderr
    assert not ran(here, theirs)
    assert cockpit("queue", "add", "study.toml", "--trust-models").returncode == 0


def test_a_database_cannot_bring_its_own_trust(here: Path, theirs: Path) -> None:
    assert trust.path().is_relative_to(here / "state")
    with closing(sqlite3.connect(here / "theirs.db")) as connection:
        keys = [row[0] for row in connection.execute("SELECT key FROM about")]
    assert not any("trust" in key for key in keys)


def test_where_trust_cannot_be_remembered_that_is_said_in_a_line(here: Path, cockpit: Cockpit) -> None:
    (here / "file").write_text("")
    environment = {trust.VARIABLE: str(here / "file" / "trusted")}
    done = cockpit("queue", "add", *TINY, "--model", "evil:small", **environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert trust.VARIABLE in done.stderr


def test_a_ticket_of_other_layers_than_its_models_is_refused_when_it_is_queued(here: Path, cockpit: Cockpit) -> None:
    assert json.loads(cockpit("tickets", "verify", "ticket.safetensors", "--json").stdout)[0]["compared"] is False
    from engine.tickets import starts, tensorfiles, ticketfiles

    tensors, about = tensorfiles.unpack((here / "ticket.safetensors").read_bytes())
    del tensors["0.bias"]
    content = ticketfiles.content_digest(tensorfiles.pack(tensors, about))
    (here / "ticket.safetensors").write_bytes(tensorfiles.pack(tensors, {**about, "digest": content}))
    assert starts.unpack_ticket((here / "ticket.safetensors").read_bytes())
    done = cockpit(*QUEUED, "--trust-models")
    assert done.returncode == 2
    assert "0.bias is missing" in done.stderr
