"""Closing the dashboard at any moment."""

import asyncio

import pytest

from cockpit.tui import app
from cockpit.tui.app import Cockpit
from cockpit.tui.reader import Trouble
from tests.tui.conftest import recorded

pytestmark = [pytest.mark.usefixtures("fixed"), pytest.mark.asyncio]


@pytest.mark.parametrize("milliseconds", range(0, 200, 10))
async def test_closing_while_the_other_screens_are_being_made_is_no_error(
    milliseconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "TIDY_SECONDS", 0.0)
    monkeypatch.setattr(app, "QUIET_SECONDS", 0.0)
    cockpit = Cockpit(recorded())
    async with cockpit.run_test():
        while not cockpit.screen.query("#status") or not cockpit.screen.is_mounted:
            await asyncio.sleep(0.001)
        await asyncio.sleep(milliseconds / 1000)


async def test_what_the_reader_says_while_the_screens_are_closed_is_no_error() -> None:
    cockpit = Cockpit(recorded())

    async def say() -> None:
        while True:
            cockpit.post_message(Trouble("there is no database", is_error=True))
            await asyncio.sleep(0)

    async with cockpit.run_test() as pilot:
        await pilot.pause()
        saying = asyncio.create_task(say())
    saying.cancel()
