"""Actions on all screens: keys from the configuration file, the palette, the help, and the workers."""

import asyncio
import json
import time
from contextlib import closing
from pathlib import Path

import pytest
import typer
from textual.binding import Binding
from textual.widgets import Input, RichLog, Static

from cockpit.cli import app as cli
from cockpit.tui import keys
from cockpit.tui.actions import ACTIONS, SCREENS, binding, carry_out, command_of
from cockpit.tui.app import Cockpit
from cockpit.tui.dialogs import Confirm
from cockpit.tui.help import Help
from cockpit.tui.screens.starting import Start
from engine.errors import InputError
from engine.store import database
from tests.conftest import add, run_cockpit
from tests.databases import by_name
from tests.images import gray, save
from tests.tui.driving import ONE, choose, opened, until


def test_every_action_names_a_command_that_there_is(tmp_path: Path) -> None:
    root = typer.main.get_command(cli)
    for template in [*(action.command for action in ACTIONS.values()), *SCREENS.values()]:
        words = [word for word in template.split()[1:] if not word.startswith("{")]
        group = root
        while words and not words[0].startswith("-") and hasattr(group, "commands"):
            if words[0] == "diff":  # on the screen Layers
                break
            group = group.commands[words.pop(0)]
        options = {option for parameter in group.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, template


def test_every_binding_has_an_id_and_says_what_it_does() -> None:
    found = keys.bindings()
    assert {f"act.{action.id}" for action in ACTIONS.values() if action.key} <= set(found)
    for id, found_binding in found.items():
        assert found_binding.description, id
    for screen in [Cockpit, *Cockpit.MODES.values()]:
        own = [one for one in screen.BINDINGS if isinstance(one, Binding)]
        assert all(binding.id for binding in own), screen


def test_a_command_is_quoted_and_names_the_database_unless_it_is_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COCKPIT_DB", raising=False)
    assert command_of("act.pause", ["my own", "b"], Path("experiments.db")) == "cockpit queue pause 'my own' b"
    assert command_of("act.pause", [], Path("a b.db")) == "cockpit queue pause NAME --db 'a b.db'"
    assert command_of("screen.devices", [], Path("experiments.db")) == "cockpit work --status"


def test_keys_of_the_configuration_file_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("COCKPIT_CONFIG", str(file))
    file.write_text('[keys]\nact.pause = "f9, p"\n"queue.sort" = "ctrl+o"\napp.take-away = "x"\n')
    assert keys.chosen() == {"act.pause": "f9, p", "queue.sort": "ctrl+o", "app.export": "x"}
    for text, problem in {
        'act.pase = "p"': "unknown binding of [keys] 'act.pase'",
        'act.pause = "pp"': "'pp' for act.pause of [keys] is no key",
        'act.pause = "hyperdrive+p"': "is no key",
        "act.pause = 1": "act.pause of [keys] is 1, must be a key",
    }.items():
        file.write_text(f"[keys]\n{text}\n")
        with pytest.raises(InputError) as caught:
            keys.chosen()
        assert problem in str(caught.value)
        assert str(file) in str(caught.value)
    file.write_text('[keys]\nact.pase = "p"\n')
    with pytest.raises(InputError, match=r"did you mean 'act.pause'"):
        keys.chosen()


@pytest.mark.asyncio
async def test_a_key_that_was_changed_does_the_action_and_the_old_one_does_not(path: Path) -> None:
    app = Cockpit(path, keys={"act.pause": "f9", "queue.sort": "o"})
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, 1)
        await pilot.press("P")
        await pilot.pause(0.3)
        assert by_name(path)["one"].state == "active"
        await pilot.press("f9")
        await until(pilot, lambda: by_name(path)["one"].state == "paused")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        assert isinstance(app.screen, Help)
        (line,) = [line for line in app.screen.lines if line.label == "Pause / Resume"]
        assert line.keys == "f9"


@pytest.mark.asyncio
async def test_the_help_shows_every_action_with_its_command_and_is_filtered(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 1)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        assert isinstance(app.screen, Help)
        lines = {line.label: line for line in app.screen.lines}
        for action in ACTIONS.values():
            if action.key:
                assert lines[binding(action.id).description].command == action.named(["one"], database.default_path())
        assert app.screen.option == f"--db {path}"
        assert lines["Queue"].command == "cockpit queue list"
        assert lines["Filter"].group == "On this screen"
        assert lines["Retry"].group.startswith("Actions")
        await until(pilot, lambda: len(app.screen.query_one(RichLog).lines) > 20)
        await pilot.press(*"retry")
        await until(pilot, lambda: len(app.screen.query_one(RichLog).lines) < 8)
        assert "cockpit queue retry one" in app.export_screenshot().replace(
            "&#160;", " "
        )  # the whole command is visible
        assert app.screen.query_one(Input).value == "retry"
        await pilot.press("escape")
        assert not isinstance(app.screen, Help)


@pytest.mark.asyncio
async def test_the_palette_offers_every_action_and_screen_with_its_command_and_does_it(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, 1)
        offered = {command.title: command for command in app.get_system_commands(app.screen)}
        for action in ACTIONS.values():
            title = binding(action.id).description if action.key else action.label
            assert offered[title].help == action.named(["one"], path)
        assert offered["Dashboard"].help == f"cockpit --db {path}"
        assert "Sort" in offered
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press(*"Raise")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await until(pilot, lambda: by_name(path)["one"].priority == 1)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_workers_are_started_and_stopped(tmp_path: Path, path: Path) -> None:
    add(path, "long", **{**ONE, "epochs": 5000, "seed": 7})
    app = Cockpit(path)

    async def status() -> list[dict[str, object]]:
        done = await asyncio.to_thread(run_cockpit, tmp_path, "work", "--status", "--json")
        found: list[dict[str, object]] = json.loads(done.stdout)["workers"]
        return found

    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, 2)
        await choose(pilot, "long")
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, Start))
        await pilot.press("enter")
        await until(pilot, lambda: "cockpit work --detach" in app.done, 60)
        deadline = time.monotonic() + 120
        while not any(row["run_id"] for row in await status()):
            assert time.monotonic() < deadline, "no worker trains"
        await pilot.press("W")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        text = " ".join(str(one.render()) for one in app.screen.query(Static))
        assert "running for" in text
        await pilot.press("y")
        await until(pilot, lambda: "cockpit work --stop" in app.done, 120)
        assert await status() == []
        await pilot.press("W")
        await until(pilot, lambda: any("No workers on this machine" in note.message for note in app._notifications))


def test_retry_says_which_files_are_gone(tmp_path: Path) -> None:
    path, retry = tmp_path / "experiments.db", ACTIONS["retry"].act
    assert retry is not None
    add(path, "own", source=[save(tmp_path / "photos.npz", gray(40))], target=(), model="resnet20", batch_size=4)
    assert carry_out(path, retry, ["own"])["own"].said == "nothing to retry: no run failed"
    (tmp_path / "photos.npz").unlink()
    with closing(database.writer(path)) as connection:
        connection.execute("UPDATE runs SET status = 'failed' WHERE unmet = 0")
    outcome = carry_out(path, retry, ["own"])["own"]
    assert outcome.changed
    assert "again; " in outcome.said
    assert "photos.npz" in outcome.said


def test_a_key_of_the_application_means_the_same_on_every_screen() -> None:
    """Except the keys of pagers, n and N, and N on Compare, which renames the curve, not the experiment."""
    own = {"logs.next", "logs.previous", "compare.rename"}
    found = keys.bindings()
    everywhere = {binding.key for id, binding in found.items() if id.partition(".")[0] in ("app", "act", "screen")}
    elsewhere = {
        id: binding.key
        for id, binding in found.items()
        if id.partition(".")[0] not in ("app", "act", "screen", "dialog", "start")  # dialogs take all keys
    }
    assert {id for id, pressed in elsewhere.items() if everywhere & set(pressed.split(","))} == own
