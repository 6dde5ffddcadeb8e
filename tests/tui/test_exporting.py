"""`e`: export of the view to a file."""

import csv
from contextlib import closing
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from cockpit.tui.app import Cockpit
from cockpit.tui.exporting import ExportView
from engine.store import database, rows


async def write(pilot: Pilot[None], path: Path, form: str) -> None:
    """Press `e` and write the file."""
    await pilot.press("e")
    await pilot.pause(0.5)
    assert isinstance(pilot.app.screen, ExportView)
    pilot.app.screen.query_one(Select).value = form
    await pilot.pause(0.2)
    box = pilot.app.screen.query_one(Input)
    assert box.value.endswith(f".{form}")
    box.value = str(path)
    await pilot.press("enter")
    for _ in range(600):
        await pilot.pause(0.1)
        if path.exists():
            return


@pytest.mark.asyncio
async def test_a_chart_is_taken_as_csv_with_every_digit_and_as_a_figure(trained: Path, tmp_path: Path) -> None:
    async with Cockpit(trained).run_test(size=(120, 40)) as pilot:
        await pilot.pause(2.0)
        await write(pilot, tmp_path / "curves.csv", "csv")
        await write(pilot, tmp_path / "chart.png", "png")
        await write(pilot, tmp_path / "chart.svg", "svg")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert "matplotlib" in (tmp_path / "chart.svg").read_text()
    with closing(database.reader(trained)) as connection:
        means = {(row.curve, row.level): row.mean for row in rows.curves(connection, "tiny")}
    found = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert found
    for row in found:
        assert float(row["mean"]) == means[row["curve"], int(row["level"])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.png", "chart.svg", "curves.csv"]


@pytest.mark.asyncio
async def test_a_screen_without_a_chart_is_taken_as_a_picture(trained: Path, tmp_path: Path) -> None:
    async with Cockpit(trained).run_test(size=(120, 40)) as pilot:
        await pilot.press("6")
        await pilot.pause(1.5)
        await write(pilot, tmp_path / "devices.svg", "svg")
    assert "no&#160;workers" in (tmp_path / "devices.svg").read_text()


@pytest.mark.asyncio
async def test_an_existing_file_is_not_replaced_and_escape_writes_nothing(trained: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    async with Cockpit(trained).run_test(size=(120, 40)) as pilot:
        await pilot.pause(2.0)
        await write(pilot, kept, "csv")
        assert isinstance(pilot.app.screen, ExportView)
        pilot.app.screen.query_one(Input).value = str(tmp_path / "other.csv")
        await pilot.press("escape")
        await pilot.pause(0.3)
        assert not isinstance(pilot.app.screen, ExportView)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.asyncio
async def test_a_folder_that_is_not_there_is_said_and_nothing_else_happens(trained: Path, tmp_path: Path) -> None:
    async with Cockpit(trained).run_test(size=(120, 40)) as pilot:
        await pilot.pause(2.0)
        await pilot.press("e")
        await pilot.pause(0.5)
        pilot.app.screen.query_one(Input).value = str(tmp_path / "absent" / "x.csv")
        await pilot.press("enter")
        await pilot.pause(0.5)
        (notification,) = pilot.app._notifications
        assert "does not exist" in notification.message
