"""A screen reads a damaged row: the dashboard closes and names the row, without a traceback."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from textual import events

from cockpit.tui.app import Cockpit
from tests.conftest import copied
from tests.tui.make_fixture import FIXTURE


@pytest.mark.asyncio
async def test_a_damaged_row_closes_the_dashboard_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(FIXTURE, tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE experiments SET created_at = 'yesterday' WHERE id = 2")
    app = Cockpit(path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.post_message(events.Key("5", "5"))
        while app.return_code is None:
            await asyncio.sleep(0.05)
    assert app.return_code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is damaged: created_at of row 2 of table experiments is 'yesterday'" in said
    assert "Traceback" not in said
