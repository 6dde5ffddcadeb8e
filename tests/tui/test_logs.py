"""The screen of logs: the end of files however large, searching, following, events."""

import time
from contextlib import closing
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from cockpit.text import words
from cockpit.tui import states
from cockpit.tui.app import Cockpit
from cockpit.tui.screens.dashboard import Dashboard
from cockpit.tui.widgets.logview import LogView
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import events
from engine.store import database, history, queue
from tests.conftest import copied
from tests.tui.driving import table, until
from tests.tui.make_fixture import FIXTURE

LINES = 2000


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A database with two logs, of which `pool-2.log` is the newer."""
    path = copied(trained, tmp_path)
    folder = tmp_path / "experiments.db.files" / "logs"
    folder.mkdir(parents=True)
    (folder / "pool-1.log").write_text("an older log\n")
    time.sleep(0.05)
    (folder / "pool-2.log").write_text("".join(f"line {number}\n" for number in range(LINES)))
    return path


async def shown(pilot: Pilot[None], seconds: float = 0.5) -> str:
    await pilot.pause(seconds)
    return str(pilot.app.screen.query_one(LogView).render())


def subtitle(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one(LogView).border_subtitle)


async def opened(pilot: Pilot[None]) -> LogView:
    await pilot.press("7", "v")
    assert f"line {LINES - 1}" in await shown(pilot, 1.5)
    return pilot.app.screen.query_one(LogView)


@pytest.mark.asyncio
async def test_the_newest_log_opens_at_its_end_and_follows(path: Path) -> None:
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        assert "following" in subtitle(pilot)
        log = path.parent / "experiments.db.files" / "logs" / "pool-2.log"
        with log.open("a") as file:
            file.write("it grew\n")
        assert "it grew" in await shown(pilot, 1.2)
        await pilot.press("f")
        with log.open("a") as file:
            file.writelines(f"more {number}\n" for number in range(100))
        assert "more 99" not in await shown(pilot, 1.2)
        await pilot.press("f")
        assert "more 99" in await shown(pilot)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keys", "first"),
    [
        (["g"], "line 0"),
        (["home"], "line 0"),
        (["g", "down"], "line 1"),
        (["g", "j", "j", "k"], "line 1"),
        (["g", "j", "up"], "line 0"),
        (["g", "pagedown"], "line {page}"),
        (["g", "space", "pageup"], "line 0"),
        (["g", "end"], "line {end}"),
        (["g", "G"], "line {end}"),
        (["g", "down", "right"], ""),
        (["g", "down", "l", "h"], "line 1"),
        (["g", "down", "right", "left"], "line 1"),
    ],
)
async def test_keys_move(path: Path, keys: list[str], first: str) -> None:
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot)
        await pilot.press(*keys)
        place = {"page": view.size.height - 1, "end": LINES - view.size.height}
        assert (await shown(pilot)).split("\n")[0] == first.format(**place)
        assert "following" not in subtitle(pilot)


@pytest.mark.asyncio
async def test_a_search_finds_the_next_and_the_last_and_escape_ends_it(path: Path) -> None:
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot)
        await pilot.press("g", "slash", *"LINE 12", "enter")
        await shown(pilot)
        assert "no “LINE 12” below" in subtitle(pilot)
        await pilot.press("slash")
        pilot.app.screen.query_one("#search", Input).value = "line 12"
        await pilot.press("enter")
        assert "line 12" in await shown(pilot)
        twelve = view.match
        await pilot.press("n")
        assert "line 120" in await shown(pilot)
        await pilot.press("n")
        assert view.match > twelve
        await pilot.press("N", "N")
        await shown(pilot)
        assert view.match == twelve
        await pilot.press("escape")
        assert view.sought == ""
        await pilot.press("escape")
        await pilot.pause(0.2)
        assert isinstance(pilot.app.screen, Dashboard)


@pytest.mark.asyncio
async def test_escape_leaves_the_search_as_it_was(path: Path) -> None:
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot)
        await pilot.press("slash", "x", "escape")
        assert (view.sought, view.has_focus) == ("", True)


@pytest.mark.asyncio
async def test_another_log_is_chosen_from_the_list(path: Path) -> None:
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        table = pilot.app.screen.query_one("#files", LiveTable)
        assert [cells[0] for cells in table.shown.values()] == ["pool-2.log", "pool-1.log"]
        table.focus()
        await pilot.press("down", "enter")
        assert "an older log" in await shown(pilot)


@pytest.mark.asyncio
async def test_files_that_are_cut_or_replaced_or_removed_say_so(path: Path) -> None:
    async with Cockpit(path).run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        log = path.parent / "experiments.db.files" / "logs" / "pool-2.log"
        log.write_text("begun again\n")
        assert "begun again" in await shown(pilot, 1.2)
        assert "it was cut short" in subtitle(pilot)
        other = log.with_name("other")
        other.write_text("a file of its own\n")
        other.replace(log)
        assert "a file of its own" in await shown(pilot, 1.2)
        assert "another file has taken its place" in subtitle(pilot)
        log.unlink()
        assert "it was removed" in await shown(pilot, 1.2)


@pytest.mark.asyncio
async def test_events_come_first_and_files_second(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.experiment)
        await pilot.press("7")
        await until(pilot, lambda: table(pilot, "events").shown)
        cells = next(iter(table(pilot, "events").shown.values()))
        assert str(cells[1]) == "✓ done"
        assert "level" in str(cells[2])
        await pilot.press("v")
        assert f"line {LINES - 1}" in await shown(pilot, 1.5)
        await pilot.press("v")
        await until(pilot, lambda: table(pilot, "events").display)


def test_the_same_error_again_is_one_row_with_a_count() -> None:
    with closing(database.reader(FIXTURE)) as connection:
        found = history.events(connection, queue.experiment_id(connection, "lost"))
        rows = events.folded(found)
        done = events.folded(history.events(connection, queue.experiment_id(connection, "halves")))
    assert len(found) == 6  # three starts, three failures
    (row,) = rows.values()
    assert "and 2 more" in str(row.cells[2])
    assert str(row.cells[3]).endswith("(x3)")
    assert len(done) == 94  # the start of an ended attempt is left out
    assert {str(row.cells[1]) for row in done.values()} == {"✓ done"}


@pytest.mark.asyncio
async def test_without_logs_the_next_command_is_named(trained: Path, tmp_path: Path) -> None:
    path = copied(trained, tmp_path)
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7", "v")
        assert await shown(pilot, 1.5) == f"No logs yet: {states.no_workers(app)}"


def test_nothing_that_a_terminal_obeys_is_shown() -> None:
    line = "\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 back\x08 \x1bc tab\tend \u202eturned \x9b2J"
    assert words.harmless(line) == "red bell␇ back␈  tab    end \ufffdturned \ufffd2J"
    assert words.harmless(line).isprintable()
