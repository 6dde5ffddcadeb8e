"""Export of a view as a file, or as a download if the dashboard runs in a browser."""

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, cast

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Select

from cockpit.tui.insides import Dialog
from cockpit.tui.plain import Plain
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.widgets.chart import Chart
from cockpit.tui.widgets.table import LiveTable
from cockpit.views import curves, export, figures
from cockpit.views.legends import View
from engine.errors import InputError
from engine.machine import paths

Form = Literal["csv", "png", "svg"]
Forms = dict[Form, Callable[[Path], None]]  # writes a file of each format, outside the event loop
WHAT: dict[Form, str] = {"csv": "CSV, the figures", "png": "PNG", "svg": "SVG"}


def name_of(screen: CockpitScreen) -> str:
    """The name of this screen's export, without its ending."""
    parts = [screen.app.current_mode, screen.cockpit.experiment]
    return re.sub(r"[^\w.+-]+", "-", "-".join(filter(None, parts))).strip("-.") or "cockpit"


def forms_of(screen: CockpitScreen) -> Forms:
    """The export formats of this screen: those of its chart if that has curves, else those of the focused table."""
    chart = next(
        (chart for chart in screen.query(Chart) if any(one.levels for one in chart.shown) and chart.display), None
    )
    if chart is not None:
        shown = {chart.title: tuple(one for one in chart.shown if one.levels)}
        draw = partial(_draw, shown, chart.view, chart.what)
        tidy = list(curves.tidy(one for one in chart.shown if one.name not in chart.view.hidden))
        return {"csv": partial(_tabulate, list(curves.TIDY), tidy), "png": draw, "svg": draw}
    forms: Forms = {"svg": partial(_keep, screen.app.export_screenshot())}
    tables = sorted((table for table in screen.query(LiveTable) if table.display), key=lambda one: not one.has_focus)
    if tables:
        cells = [tuple(map(str, row)) for row in tables[0].shown.values()]
        forms = {"csv": partial(_tabulate, list(tables[0].headings), cells), **forms}
    return forms


def _draw(shown: dict[str, tuple[curves.Series, ...]], view: View, what: str, path: Path) -> None:
    figures.write_apart(path, shown, view, what)


def _tabulate(heading: list[str], rows: Sequence[tuple[object, ...]], path: Path) -> None:
    export.write(heading, rows, path, "csv")


def _keep(picture: str, path: Path) -> None:
    with export.whole(path) as partly:
        partly.write_text(picture, encoding="utf-8")


class ExportView(Dialog[tuple[Form, Path] | None]):
    """Asks for the format and the file of an export."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="export.cancel", tooltip="Write nothing"),
    ]

    def __init__(self, name: str, forms: Forms, local: bool) -> None:
        super().__init__()
        self.stem, self.forms, self.local = name, forms, local

    def compose(self) -> ComposeResult:
        first = next(iter(self.forms))
        with Vertical(id="export") as box:
            box.border_title = "export view"
            yield Select([(WHAT[form], form) for form in self.forms], value=first, allow_blank=False, compact=True)
            yield Input(f"{self.stem}.{first}", select_on_focus=False, compact=True)
            yield Plain("Enter: save, Esc: cancel", id="export-hint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Select.Changed)
    def _form(self, event: Select.Changed) -> None:
        box = self.query_one(Input)
        path = Path(box.value)
        if path.suffix.removeprefix(".") in WHAT:
            box.value = str(path.with_suffix(f".{event.value}"))

    @on(Input.Submitted)
    def _write(self) -> None:
        form = cast(Form, self.query_one(Select).value)
        try:
            path = paths.given(self.query_one(Input).value.strip() or self.stem)
        except InputError as error:
            self.query_one("#export-hint", Plain).update(str(error))
            return
        path = path if path.suffix == f".{form}" else path.with_name(f"{path.name}.{form}")
        if self.local and path.exists():
            self.query_one("#export-hint", Plain).update(f"{path} exists: give another name")
        else:
            self.dismiss((form, path))


async def export_view(app: App[None], screen: CockpitScreen) -> None:
    """Ask for format and file, then export the view; in a browser the file is downloaded."""
    forms = forms_of(screen)
    chosen = await app.push_screen_wait(ExportView(name_of(screen), forms, not app.is_web))
    if chosen is None:
        return
    form, path = chosen
    try:
        if app.is_web:
            with TemporaryDirectory(prefix="cockpit-") as folder:
                kept = Path(folder) / path.name
                await asyncio.to_thread(forms[form], kept)
                app.deliver_binary(kept.open("rb"), save_filename=path.name)
            return
        await asyncio.to_thread(forms[form], path)
    except InputError as error:
        app.notify(str(error), severity="error", timeout=10)
    except OSError as error:
        app.notify(f"{path} cannot be written ({error.strerror})", severity="error", timeout=10)
    else:
        app.notify(f"written: {path.absolute()}")
