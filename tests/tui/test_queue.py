"""The screen Queue: order, filter, marks, and all actions."""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs
from textual.app import ComposeResult
from textual.widgets import Input, Static

from cockpit.tui.actions import ACTIONS
from cockpit.tui.app import Cockpit
from cockpit.tui.dialogs import Ask, Confirm
from cockpit.tui.screens.base import CockpitScreen
from engine.machine import processes
from engine.store import database, labels, leases, queue
from tests.conftest import add
from tests.databases import by_name, finish, worker
from tests.tui.driving import ONE, choose, listed, opened, table, until

pytestmark = pytest.mark.asyncio


class Shown(CockpitScreen):
    """Stands for the screen that enter opens."""

    def body(self) -> ComposeResult:
        yield Static()


@pytest.fixture(autouse=True)
def _experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The screen that enter opens."""
    monkeypatch.setitem(Cockpit.MODES, "experiment", Shown)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """One, other and third wait; other comes first."""
    found = tmp_path / "experiments.db"
    for seed, name in enumerate(("one", "other", "third")):
        add(found, name, seed=10 * seed, **ONE)
    with closing(database.writer(found)) as connection:
        queue.move(connection, 2, 5)
    return found


async def test_experiments_are_in_the_order_of_training_and_s_sorts_otherwise(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        queue.set_state(connection, queue.experiment_id(connection, "one"), "paused")
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        assert listed(pilot) == ["other", "third", "one"]
        await pilot.press("s")
        assert listed(pilot) == ["one", "other", "third"]
        await pilot.press("s", "s", "s")
        assert listed(pilot) == ["third", "other", "one"]


async def test_the_filter_takes_keys_words_and_negation_and_esc_clears_it(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        labels.annotate(connection, 1, tags=["paper"], notes="first try")
        queue.set_state(connection, 2, "paused")
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.press("slash")
        box = pilot.app.screen.query_one("#filter", Input)
        for text, names in {
            "tag:pap": ["one"],
            "first": ["one"],
            "-status:paused": ["one", "third"],
            "!paper status:wait": ["third"],
            "target:digits-a th": ["third", "other"],
            "status:": ["one", "third", "other"],
            "nothing-like-it": [],
        }.items():
            box.value = text
            await pilot.pause()
            assert listed(pilot) == names, text
        assert "Esc clears" in str(pilot.app.screen.query_one("#nothing", Static).render())
        await pilot.press("escape")
        assert len(listed(pilot)) == 3
        await pilot.press("escape")
        assert pilot.app.current_mode == "dashboard"


async def test_an_action_works_on_all_that_are_marked_and_says_the_command_that_does_the_same(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.press("space", "space")  # other, then one: marking moves the cursor
        assert app.chosen() == ["other", "one"]
        await pilot.press("P")
        await until(pilot, lambda: by_name(path)["one"].state == "paused")
        await until(pilot, lambda: app.done)
        assert [row.state for row in by_name(path).values()] == ["paused", "paused", "active"]
        assert app.done == f"cockpit queue pause other one --db {path}"
        await pilot.press("Y")
        assert app.clipboard == app.done
        await pilot.press("P")
        await until(pilot, lambda: by_name(path)["one"].state == "active")
        await pilot.press("escape")
        assert app.marked == set()
        await pilot.press("y")
        assert app.clipboard == f"cockpit queue list --db {path}"


@pytest.mark.parametrize(
    ("key", "answer", "left"),
    [
        ("C", "y", "cancelled"),
        ("C", "enter", "active"),
        ("C", "escape", "active"),
        ("D", "y", None),
        ("D", "n", "active"),
    ],
)
async def test_what_takes_something_away_asks_first(path: Path, key: str, answer: str, left: str | None) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.pause()
        assert app.focused is not None
        assert app.focused.id == "no"
        text = " ".join(str(shown.render()) for shown in app.screen.query(Static))
        assert "other: queued" in text
        assert "ago, 0/1 done" in text
        assert f"cockpit queue {'cancel' if key == 'C' else 'remove'} other --db {path}" in text
        await pilot.press(answer)
        await until(pilot, lambda: isinstance(app.screen, CockpitScreen))
        if left != "active":
            await until(pilot, lambda: app.done)
        found = by_name(path)
        assert (found["other"].state if "other" in found else None) == left
        assert (found["one"].state, found["third"].state) == ("active", "active")


async def test_priority_retry_and_archive(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        claim = leases.claim(connection, worker(connection))  # the run of `other`
        assert claim is not None
        finish(connection, claim, 0.5)
        lost = connection.execute(
            "SELECT run_id FROM curve_points p JOIN experiment_curves c ON c.id = p.curve_id WHERE c.experiment_id = 3"
        ).fetchone()[0]
        connection.execute("UPDATE runs SET status = 'failed', error = 'x' WHERE id = ?", (lost,))
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        assert listed(pilot)[0] == "one"
        await choose(pilot, "one")
        await pilot.press("plus", "plus", "minus")
        await until(pilot, lambda: by_name(path)["one"].priority == 1)
        await choose(pilot, "third")
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert by_name(path)["third"].status == "failed"
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: by_name(path)["third"].status == "waiting")
        await pilot.press("A")  # `one` has runs left
        await until(pilot, lambda: any("left to train" in note.message for note in app._notifications))
        await choose(pilot, "other")
        await pilot.press("A")
        await until(pilot, lambda: "other" not in listed(pilot))
        await pilot.press("a")
        assert "other" in listed(pilot)
        await choose(pilot, "other")
        await pilot.press("A")
        await until(pilot, lambda: not by_name(path)["other"].archived)


async def test_tags_and_notes_are_typed(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        labels.annotate(connection, 2, tags=["old", "paper"])
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        app.screen.query_one(Input).value = "paper new"
        await pilot.press("enter")
        await until(pilot, lambda: by_name(path)["other"].tags == ("new", "paper"))
        await until(pilot, lambda: app.done)
        assert app.done == f"cockpit queue annotate other --tag new --untag old --db {path}"
        await pilot.press("N")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("a", "space", "b", "ctrl+s")
        await until(pilot, lambda: by_name(path)["other"].notes == "a b")
        await until(pilot, lambda: "annotate other --notes 'a b'" in app.done)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("escape")
        await pilot.pause()
        assert by_name(path)["other"].tags == ("new", "paper")


async def test_a_run_whose_worker_is_dead_is_shown_as_such(path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        identity = processes.identity(dead.pid)
    with closing(database.writer(path)) as connection:
        connection.execute(
            "INSERT INTO workers (pid, process_started, host, boot, pid_namespace, device, heartbeat_at)"
            " VALUES (?, ?, ?, ?, ?, 'cpu', ?)",
            (*structs.astuple(identity), database.now()),
        )
        assert leases.claim(connection, 1) is not None
    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await until(pilot, lambda: "✗ dead" in [cells[0] for cells in table(pilot, "runs").shown.values()])
        (cells,) = table(pilot, "runs").shown.values()
        assert cells[2] == f"its worker, pid {dead.pid}, is gone"


async def test_changes_keep_the_cursor_and_enter_opens_the_experiment(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.press("j", "j")
        assert table(pilot).key == "third"
        add(path, "fourth", seed=90, **ONE)
        with closing(database.writer(path)) as connection:
            queue.move(connection, 3, 9)
        await until(pilot, lambda: listed(pilot) == ["third", "other", "one", "fourth"])
        await until(pilot, lambda: table(pilot).key == "third")
        assert app.experiment == "third"
        await pilot.press("enter")
        assert (app.experiment, app.current_mode) == ("third", "experiment")


async def test_nothing_is_offered_where_the_cockpit_is_read_only(path: Path) -> None:
    app = Cockpit(path, read_only=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.press("P", "C", "D", "n", "plus", "w")
        await pilot.pause(0.3)
        assert isinstance(app.screen, CockpitScreen)
        assert {row.state for row in by_name(path).values()} == {"active"}
        assert not [command for command in app.get_system_commands(app.screen) if "cockpit queue pause" in command.help]
        assert not [found for found in app.screen.active_bindings.values() if (found.binding.id or "")[:4] == "act."]
        assert "read-only" in str(app.screen.query_one("#status", Static).render())


async def test_an_empty_queue_names_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    database.writer(path).close()
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        nothing = app.screen.query_one("#nothing", Static)
        await until(pilot, lambda: "cockpit queue add --source" in str(nothing.render()))
        await pilot.press("P", "y")
        assert any("Press n to create one" in note.message for note in app._notifications)


async def test_what_cannot_be_written_is_an_error_that_says_why(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        with closing(database.writer(path)) as connection:
            queue.remove(connection, 2)
        app.marked.add("other")  # another program has removed it meanwhile
        app._act(ACTIONS["pause"], ["other"])
        await until(pilot, lambda: any("unknown experiment 'other'" in note.message for note in app._notifications))


async def test_a_sample_is_copied_before_something_is_done_to_it(path: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO about (key, value) VALUES ('sample', 'yes')")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(path, sample)
    app = Cockpit(sample)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        await pilot.press("P")
        local = tmp_path / "sample.local.db"
        await until(pilot, lambda: local.exists() and by_name(local)["other"].state == "paused")
        await until(pilot, lambda: "‖ paused" in table(pilot).shown["other"])  # shows the copy
        assert by_name(sample)["other"].state == "active"
        assert app.path == local


async def test_an_action_says_what_it_changed_and_does_all_or_nothing(path: Path) -> None:
    with closing(database.writer(path)) as connection, connection:
        connection.execute(
            "UPDATE runs SET status = 'done' WHERE id IN (SELECT run_id FROM curve_points p"
            " JOIN experiment_curves c ON c.id = p.curve_id WHERE c.experiment_id = 2)"
        )
    app = Cockpit(path)

    def said(text: str) -> bool:
        return any(text in note.message for note in app._notifications)

    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await opened(pilot)
        await choose(pilot, "other")
        for key, nothing in (("P", "other: nothing to pause"), ("R", "other: nothing to retry")):
            await pilot.press(key)
            if key == "R":  # it asks first
                await until(pilot, lambda: isinstance(app.screen, Confirm))
                await pilot.press("y")
            await until(pilot, partial(said, nothing))
        assert by_name(path)["other"].state == "active"
        assert app.done == ""  # no change
        app.marked.update(("one", "other"))
        await pilot.press("P")
        await until(pilot, lambda: said("one: 1 of 1 runs left\nother: nothing to pause"))
        assert [row.state for row in by_name(path).values()] == ["paused", "active", "active"]
        app.clear_notifications()
        await pilot.press("A")  # `one` has a run left, so neither is archived
        await until(pilot, lambda: said("left to train"))
        assert not any(row.archived for row in by_name(path).values())
