"""Starting workers on chosen cards, after a question; and undoing actions."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import SelectionList

from cockpit.requests import background
from cockpit.tui import acting
from cockpit.tui.app import Cockpit
from cockpit.tui.screens import starting
from cockpit.tui.screens.starting import Offered, Start
from engine.errors import InputError
from engine.machine import devices
from engine.machine.devices import Device
from engine.store import database, workers
from tests.conftest import add
from tests.databases import by_name
from tests.tui.driving import ONE, opened, until

EIGHT = [Device(f"cuda:{card}", f"GPU-{card}", True, card=f"GPU-{card}") for card in range(8)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "one.db"
    add(path, "one", **ONE)
    return path


async def arguments(
    path: Path, monkeypatch: pytest.MonkeyPatch, offered: Offered, keys: Sequence[str]
) -> list[Sequence[str]]:
    """The arguments with which workers start when these keys are pressed after `w`."""
    started: list[Sequence[str]] = []
    monkeypatch.setattr(starting, "offered", lambda _: offered)

    def start(_: Path, given: Sequence[str]) -> str:
        started.append(given)
        return "started"

    monkeypatch.setattr(acting, "_start_workers", start)
    app = Cockpit(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, 1)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, Start))
        assert not started  # it asks first
        await pilot.press(*keys)
        await until(pilot, lambda: not isinstance(app.screen, Start))
        await pilot.pause()
    return started


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["enter"], "0-7"),
        (["4", "5", "6", "7", "enter"], "0-3"),
        (["a", "0", "1", "enter"], "0-1"),
        (["a", "2", "5", "6", "enter"], "2,5-6"),
        (["escape"], None),
    ],
    ids=str,
)
async def test_w_asks_on_which_cards(
    path: Path, monkeypatch: pytest.MonkeyPatch, keys: Sequence[str], expected: str | None
) -> None:
    started = await arguments(path, monkeypatch, Offered(EIGHT, {}, frozenset()), keys)
    assert started == ([["--devices", expected]] if expected else [])


@pytest.mark.asyncio
async def test_chosen_cards_have_a_sign_besides_their_colour(path: Path) -> None:
    def signs() -> str:
        cards = dialog.query_one(SelectionList)
        return "".join(str(cards.get_option_at_index(number).prompt)[0] for number in range(len(EIGHT)))

    async with Cockpit(path).run_test(size=(120, 40)) as pilot:
        dialog = Start(Offered(EIGHT, {}, frozenset({"cuda:7"})), path)
        pilot.app.push_screen(dialog)
        await until(pilot, lambda: dialog.query(SelectionList) and signs() == "✓✓✓✓✓✓✓ ")
        await pilot.press("a", "a", "2", "3")
        await until(pilot, lambda: signs() == "  ✓✓    ")


@pytest.mark.asyncio
async def test_a_card_with_a_worker_is_left_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = frozenset({"cuda:0", "cuda:1"})
    assert await arguments(path, monkeypatch, Offered(EIGHT, {}, taken), ["enter"]) == [["--devices", "2-7"]]


@pytest.mark.asyncio
async def test_without_cards_w_asks_how_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = [Device("cpu", None, False)] * 4
    keys = ["backspace", "9", "enter", "backspace", "3", "enter"]  # nine exceed the cores
    assert await arguments(path, monkeypatch, Offered(cores, {}, frozenset()), keys) == [["--workers", "3"]]


@pytest.mark.parametrize(("text", "cards"), [("0-3", [0, 1, 2, 3]), ("6", [6]), ("5,0-1, 7", [0, 1, 5, 7])])
def test_devices_are_named_by_numbers(monkeypatch: pytest.MonkeyPatch, text: str, cards: list[int]) -> None:
    monkeypatch.setattr(devices, "usable", lambda: EIGHT)
    assert devices.chosen(None, only=text) == [EIGHT[card] for card in cards]
    assert devices.numbered(starting.spans(cards), 8) == cards


@pytest.mark.parametrize("text", ["8", "3-1", "0-8", "", "a", "cuda:0", "-1", "1,,2"])
def test_other_devices_are_refused_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(devices, "usable", lambda: EIGHT)
    with pytest.raises(InputError, match="numbers from 0 to 7 as in 0-3,6"):
        devices.chosen(None, only=text)


def test_devices_need_cards_and_exclude_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable", lambda: EIGHT)
    with pytest.raises(InputError, match="excludes"):
        devices.chosen(2, only="0-3")
    monkeypatch.setattr(devices, "usable", lambda: [Device("cpu", None, False)])
    with pytest.raises(InputError, match="needs CUDA devices"):
        devices.chosen(None, only="0")


def test_more_workers_are_refused_only_on_the_same_cards(path: Path) -> None:
    with closing(database.writer(path)) as connection:
        pool = workers.open_pool(connection, "some.log")
        workers.open_worker(connection, "cuda:0", pool, None)
        background.refuse_more(connection, {"cuda:1", "cuda:2"})
        for names in (None, {"cuda:0"}, {"cuda:0", "cuda:1"}):
            with pytest.raises(InputError, match="already running"):
                background.refuse_more(connection, names)


async def pressed(pilot: Pilot[None], path: Path, keys: Sequence[str], field: str, value: Any) -> None:
    await pilot.press(*keys)
    await until(pilot, lambda: getattr(by_name(path)["one"], field) == value)


@pytest.mark.asyncio
async def test_u_takes_back_what_was_last_done(path: Path) -> None:
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, 1)
        assert app.check_action("undo", ()) is False
        for keys, field, after, before in (
            (["P"], "state", "paused", "active"),
            (["plus"], "priority", 1, 0),
            (["C", "y"], "state", "cancelled", "active"),
            (["t", *"paper", "enter"], "tags", ("paper",), ()),
        ):
            await pressed(pilot, path, keys[:1], field, before if len(keys) > 1 else after)
            if len(keys) > 1:
                await until(pilot, lambda: len(app.screen_stack) > 1)
                await pressed(pilot, path, keys[1:], field, after)
            await until(pilot, lambda: app.undoable is not None)
            await pressed(pilot, path, ["u"], field, before)
            await until(pilot, lambda: app.undoable is None)
