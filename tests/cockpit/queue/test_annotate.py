"""`cockpit queue annotate`, `archive` and `unarchive`: notes, tags, and hidden experiments."""

import json
from pathlib import Path
from typing import Any

from tests.cockpit.queue.conftest import status
from tests.conftest import Cockpit, work_off


def listed(cockpit: Cockpit, *options: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(cockpit("queue", "list", "--json", *options).stdout)}


def test_tags_add_up_and_notes_are_replaced(cockpit: Cockpit, path: Path) -> None:
    cockpit("queue", "annotate", "one", "other", "--tag", "paper", "--tag", "a/b", "--notes", "first\nlines")
    assert cockpit("queue", "annotate", "one", "--tag", "new", "--untag", "paper", "--untag", "absent").returncode == 0
    rows = listed(cockpit)
    assert (rows["one"]["tags"], rows["one"]["notes"]) == (["a/b", "new"], "first\nlines")
    assert rows["other"]["tags"] == ["a/b", "paper"]
    assert "a/b new" in cockpit("queue", "list").stdout
    shown = cockpit("queue", "show", "one").stdout
    assert "  tags: a/b new\n  first\n  lines\n" in shown
    cockpit("queue", "annotate", "one", "--notes", "")
    assert listed(cockpit)["one"]["notes"] is None


def test_what_cannot_be_noted_is_said_and_nothing_changes(cockpit: Cockpit, path: Path) -> None:
    wrong = cockpit("queue", "annotate", "one", "--tag", "two words", "--notes", "lost")
    assert wrong.returncode == 2
    assert "tag 'two words' is not one word" in wrong.stderr
    assert listed(cockpit)["one"]["notes"] is None
    assert "give --notes, --tag or --untag" in cockpit("queue", "annotate", "one").stderr


def test_only_what_has_nothing_left_to_train_goes_into_the_archive(cockpit: Cockpit, path: Path) -> None:
    for halt in ("resume", "pause"):  # paused runs may be trained some day
        cockpit("queue", halt, "other")
        wrong = cockpit("queue", "archive", "other")
        assert wrong.returncode == 2
        assert "has 2 runs left to train" in wrong.stderr
        assert "`cockpit queue cancel other`" in wrong.stderr
    cockpit("queue", "cancel", "other")
    assert cockpit("queue", "archive", "other").returncode == 0
    work_off(path)
    assert cockpit("queue", "archive", "one").returncode == 0
    assert listed(cockpit) == {}
    assert "`cockpit queue list --archived`" in cockpit("queue", "list").stdout
    assert set(listed(cockpit, "--archived")) == {"one", "other"}
    cockpit("queue", "unarchive", "one")
    assert set(listed(cockpit)) == {"one"}
    assert set(listed(cockpit, "--all")) == {"one", "other"}


def test_what_is_given_work_again_comes_back_from_the_archive(cockpit: Cockpit, path: Path) -> None:
    for name, again in (("one", ("resume", "one")), ("other", ("extend", "other", "--replicates", "3"))):
        cockpit("queue", "cancel", name)
        cockpit("queue", "archive", name)
        assert name not in status(cockpit)
        assert cockpit("queue", *again).returncode == 0
        assert name in status(cockpit)
