"""The transfer form: its messages while the user types, and that it queues the same as the command."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Collapsible, Input, Static

from cockpit.tui.app import Cockpit
from cockpit.tui.screens.form import LastPart
from cockpit.tui.screens.queue import Queue
from cockpit.tui.screens.transfer import Extend, Transfer
from engine.plan import experiments
from engine.plan.options import OPTIONS
from engine.store import database, queue, rows
from tests.conftest import TINY, add, run_cockpit
from tests.databases import by_name
from tests.tui.driving import until

pytestmark = pytest.mark.asyncio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with the waiting experiment `tiny`."""
    found = tmp_path / "experiments.db"
    add(found, "tiny")
    return found


async def form(pilot: Pilot[None]) -> None:
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, Transfer) and pilot.app.focused is not None)
    await until(pilot, lambda: bool(pilot.app.screen.query(Collapsible)))  # loads last


async def more(pilot: Pilot[None]) -> None:
    """Look at what is under "More options", once."""
    section = pilot.app.screen.query_one(Collapsible)
    section.collapsed = False
    await until(pilot, lambda: bool(section.query(Input)))
    section.collapsed = True


def fill(pilot: Pilot[None], **texts: str) -> None:
    for name, text in texts.items():
        pilot.app.screen.query_one(f"#{name}", Input).value = text


def said(pilot: Pilot[None], id: str) -> str:
    return " ".join(str(one.render()) for one in pilot.app.screen.query(f"#{id}").results(Static))


async def test_the_form_has_every_option_of_the_command_and_reads_what_is_typed() -> None:
    typed = {"source": "digits-a, digits", "levels": "3", "width": "0.5", "profile": "exact", "name": ""}
    assert Transfer().options(typed) == {
        "source": ["digits-a", "digits"],
        "levels": 3,
        "width": 0.5,
        "profile": "exact",
    }
    assert set(Transfer.FIELDS) == set(OPTIONS) - {"preset"}
    assert await LastPart(["digits-a"]).get_suggestion("digits, dig") == "digits, digits-a"


async def test_what_it_comes_to_is_said_while_one_types(path: Path) -> None:
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        await form(pilot)
        await pilot.press(*"digits-a", "down", *"digits-b")
        fill(pilot, width="0.25", levels="3", epochs="2", replicates="3", profile="exact")
        await until(pilot, lambda: "13 new, 26 there" in said(pilot, "planned"))
        assert "unknown until the first run ends" in said(pilot, "planned")
        fill(pilot, replicates="2")
        await until(pilot, lambda: "0 new, 26 there" in said(pilot, "planned"))
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, Transfer)


@pytest.mark.parametrize(
    ("typed", "field", "problem"),
    [
        ({"source": "digitz"}, "source", "did you mean 'digits'?"),
        ({"source": "digits", "target": "npz:absent.npz"}, "target", "absent.npz"),
        ({"source": "digits", "replicates": "0"}, "replicates", "replicates 0 is out of range"),
        ({"source": "digits", "levels": "many"}, "levels", "levels 'many' is not a whole number"),
        ({"source": "digits", "optimizer": "sgd, adm"}, "optimizer", "did you mean 'adam'?"),
        ({"source": "digits", "prune_rate": "2"}, "prune_rate", "prune rate 2 is out of range"),
        ({"source": "digits", "name": "tiny"}, "name", "exists with another definition"),
    ],
)
async def test_what_is_wrong_is_said_under_its_field(
    path: Path, typed: dict[str, str], field: str, problem: str
) -> None:
    async with Cockpit(path).run_test(size=(160, 48)) as pilot:
        await form(pilot)
        if field not in Transfer.FIRST:
            await more(pilot)
        fill(pilot, **typed)
        await until(pilot, lambda: problem in said(pilot, f"wrong-{field}"))
        assert [one.id for one in pilot.app.screen.query(".wrong")] == [f"wrong-{field}"]
        assert pilot.app.screen.query_one(Collapsible).collapsed == (field != "prune_rate")
        await pilot.press("ctrl+s")
        await pilot.pause(0.5)
        assert set(by_name(path)) == {"tiny"}


async def test_every_field_that_is_wrong_says_so_at_once(path: Path) -> None:
    typed = {"source": "digitz", "levels": "many", "replicates": "0", "optimizer": "adm", "target": "digits"}
    async with Cockpit(path).run_test(size=(160, 48)) as pilot:
        await form(pilot)
        fill(pilot, **typed)
        wrong = {f"wrong-{field}" for field in ("source", "optimizer", "replicates", "levels")}
        await until(pilot, lambda: {one.id for one in pilot.app.screen.query(".wrong")} == wrong)
        assert said(pilot, "planned") == 'Fix "source", "replicates", "levels", "optimizer" first'
        fill(pilot, source="digits", optimizer="adam", replicates="1", levels="1")
        await until(pilot, lambda: not pilot.app.screen.query(".wrong"))


async def test_queueing_does_what_the_command_does(path: Path, tmp_path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await form(pilot)
        fill(pilot, **{key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in TINY.items()})
        fill(pilot, optimizer="sgd, adam", name="my own")
        await pilot.press("ctrl+y")
        copied = app.clipboard
        assert copied.startswith("cockpit queue add --name 'my own' --source digits-a --target digits-b")
        assert "--optimizer sgd --optimizer adam" in copied
        assert copied.endswith(f"--db {path}")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, Queue))
        assert app.experiment == "my own"
        assert app.done == copied
    import shlex

    other = tmp_path / "other.db"
    words = [str(other) if word == str(path) else word for word in shlex.split(copied)[1:]]
    assert run_cockpit(tmp_path, *words).returncode == 0
    definitions = []
    for one in (path, other):
        with closing(database.reader(one)) as connection:
            (row,) = [row for row in rows.experiments(connection) if row.name == "my own"]
            definitions.append(json.dumps(rows.experiment(connection, row.id).definition))
    assert definitions[0] == definitions[1]


async def test_an_experiment_is_extended_as_the_command_does_it(path: Path, tmp_path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: app.chosen() == ["tiny"])
        await pilot.press("E")
        await until(pilot, lambda: isinstance(pilot.app.screen, Extend) and pilot.app.focused is not None)
        fill(pilot, replicates="1")
        await until(pilot, lambda: "replicates 1 is less than the 2 that are there" in said(pilot, "wrong-replicates"))
        fill(pilot, replicates="3", target="digits")
        await until(pilot, lambda: " new, 26 there" in said(pilot, "planned"))
        assert "cockpit queue extend tiny --target digits --replicates 3" in said(pilot, "add-command")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, Queue))
    other = tmp_path / "other" / "experiments.db"
    other.parent.mkdir()
    add(other, "tiny")
    run_cockpit(other.parent, "queue", "extend", "tiny", "--replicates", "3", "--target", "digits")
    with closing(database.reader(path)) as ours, closing(database.reader(other)) as theirs:
        assert list(experiments.runs(experiments.curves(queue.definition_of(ours, 1)))) == list(
            experiments.runs(experiments.curves(queue.definition_of(theirs, 1)))
        )
        assert rows.experiments(ours)[0].runs == rows.experiments(theirs)[0].runs > 26
