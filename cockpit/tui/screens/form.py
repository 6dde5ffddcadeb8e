"""A form with the options of a command, and a summary of the result while the user types."""

import asyncio
import shlex
import sqlite3
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Button, Collapsible, Input, Label

from cockpit.text import hints
from cockpit.tui import actions
from cockpit.tui.plain import Plain, plain
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from engine.datasets.catalog import REGISTERED
from engine.errors import InputError
from engine.plan.option import NO, SAID, Option
from engine.plan.options import OPTIONS
from engine.store import rows

PAUSE_SECONDS = 0.3  # without typing, before the fields are checked
AT_ONCE = 3  # fields added to the form between two paints


def hint(option: Option, help: str, default: str = "") -> str:
    """The hint of an empty field: the default, and the option's help."""
    several = ". Several: commas" if option.several else ""
    return f"{default}: {help}{several}" if default else f"{help}{several}"


def _spoken(error: Exception) -> str:
    """The message of an error, with options named as in the form."""
    if not isinstance(error, InputError):
        return str(error)
    return error.worded(lambda name: OPTIONS[name].spoken if name in OPTIONS else hints.flag(name))


class LastPart(Suggester):
    """Completes the last of several parts of a text."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.words = words

    async def get_suggestion(self, value: str) -> str | None:
        """The text with its last part completed."""
        before, comma, last = value.rpartition(",")
        part = last.lstrip()
        found = next((word for word in self.words if part and word.startswith(part)), None)
        return None if found is None else f"{before}{comma}{last[: len(last) - len(part)]}{found}"


class Form(CockpitScreen):
    """The options of a command as fields, a summary of the result, and the command that does the same."""

    FILTER_HINT = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back", id="form.back"),
        Binding("ctrl+s", "add", "Queue it", id="form.add", priority=True),
        Binding("ctrl+y", "app.copy_shown", "Copy command", id="form.copy", priority=True),
        # Fields use these keys to scroll, and pass them on only sometimes.
        Binding("down", "app.focus_next", "Next field", id="form.next", show=False, priority=True),
        Binding("up", "app.focus_previous", "Field before", id="form.previous", show=False, priority=True),
    ]
    FIELDS: ClassVar[Mapping[str, str]]  # the hints of its options, by name
    FIRST: ClassVar[Sequence[str]]  # the fields above "More options"
    COMMAND: ClassVar[str]  # {names} stands for the names of the experiments
    heading: str
    empty: str  # the summary while required fields are empty

    def __init__(self) -> None:
        super().__init__()
        # Completions of the fields.
        self.offered: dict[str, Sequence[str]] = {
            name: SAID if OPTIONS[name].kind is bool else OPTIONS[name].choices for name in self.FIELDS
        }

    @abstractmethod
    def enough(self, options: Mapping[str, Any]) -> bool:
        """Whether the options suffice for a summary."""

    @abstractmethod
    def outlook(self, options: Mapping[str, Any]) -> list[str]:
        """The summary of these options. Runs outside the event loop. Raises InputError."""

    @abstractmethod
    def carry_out(self, options: Mapping[str, Any], path: Path, said: str) -> list[tuple[str, str]]:
        """Carry out the request; returns names and outcomes of experiments. Runs outside the event loop.

        Raises InputError.
        """

    def on_resize(self) -> None:
        """Focus a field again after the terminal was too small for the form."""
        if self.focused is None:
            self.query_one(f"#{self.FIRST[0]}").focus()

    def body(self) -> ComposeResult:
        with Vertical(id="transfer"):
            with VerticalScroll(id="form", can_focus=False) as form:
                form.border_title = plain(self.heading)
                yield from self._rows(self.FIRST[:AT_ONCE])
            with Vertical(id="outlook") as outlook:
                outlook.border_title = "Summary"
                yield Plain(self.empty, id="planned")
                yield Plain(id="add-command")
                with Horizontal(classes="buttons"):
                    yield Button("Queue it", id="add", variant="primary", compact=True, tooltip="ctrl+s")
                    yield Button("Copy command", id="copy", compact=True, tooltip="ctrl+y, or y outside of fields")

    @work
    async def _mount_rest(self) -> None:
        """Add the other fields after the first have been painted, a few at a time: all at once take 50 ms longer."""
        form = self.query_one("#form")
        for place in range(AT_ONCE, len(self.FIRST), AT_ONCE):
            await form.mount(*self._rows(self.FIRST[place : place + AT_ONCE]))
        if any(name not in self.FIRST for name in self.FIELDS):
            await form.mount(Collapsible(title="More options"))

    @on(Collapsible.Expanded)
    async def _mount_more(self) -> None:
        """Add the fields under "More options" when the user opens them."""
        if not self.query("Contents Input"):
            more = [name for name in self.FIELDS if name not in self.FIRST]
            await self.query_one("#form Contents").mount(*self._rows(more))
            section = self.query_one(Collapsible)
            section.call_after_refresh(section.scroll_visible)

    def _rows(self, names: Sequence[str]) -> Iterator[Widget]:
        for name in names:
            yield from self._row(name)

    def _row(self, name: str) -> tuple[Label, Input]:
        box = Input(placeholder=self.FIELDS[name], id=name, compact=True)
        if self.offered[name]:
            box.suggester = LastPart(self.offered[name])
        label = Label(plain(OPTIONS[name].spoken), id=f"label-{name}")
        label.tooltip = plain(self.FIELDS[name])
        return label, box

    def on_mount(self) -> None:
        self._typing: Timer | None = None
        self._show_command()
        self.call_after_refresh(self._mount_rest)

    def queries(self) -> Mapping[str, Query]:
        return {"data_sets": rows.data_sets}

    def command(self) -> str:
        words = []
        for name, typed in self._texts().items():
            option, text = OPTIONS[name], typed.strip()
            if option.kind is bool and text:
                words.append(hints.flag(f"no_{name}" if text.casefold() in NO else name))
                continue
            for value in option.parsed(text) if option.several else [text] if text else []:
                words += [hints.flag(name), value]
        return actions.command(
            " ".join(filter(None, [self.COMMAND, shlex.join(words)])), self.chosen(), self.cockpit.path
        )

    def show_data_sets(self, found: Sequence[str]) -> None:
        """Complete the names of data sets."""
        named = [name for name in self.FIELDS if OPTIONS[name].data_set]
        self.offered |= {name: [*REGISTERED, *found] for name in named}
        for box in self.query(Input):  # some may not have been added yet
            if box.id in named:
                box.suggester = LastPart(self.offered[box.id])

    def _texts(self) -> dict[str, str]:
        typed = {box.id: box.value for box in self.query(Input)}  # some may not have been added yet
        return {name: typed.get(name, "") for name in self.FIELDS}

    def options(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """The options of the texts typed, by field. Raises InputError."""
        return {name: OPTIONS[name].parsed(text) for name, text in texts.items() if text.strip(" ,")}

    def checked(self, texts: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """The summary of the fields, and the error of each wrong one. Call it in a thread, not in the event loop.

        A wrong field is left out, or replaced by its stand-in, so that errors of other fields are found as well.
        """
        options: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, text in texts.items():
            try:
                typed = self.options({name: text})
                for value in typed.values():
                    OPTIONS[name].read(value)
                options |= typed
            except InputError as error:
                wrong[name] = _spoken(error)
                options |= self.stand_in(name)
        lines = [self.empty]
        while self.enough(options):
            try:
                lines = self.outlook(options)
                break
            except InputError as error:
                field = error.option
                if field not in options or field in wrong:
                    return [_spoken(error)], wrong
                wrong[field] = _spoken(error)
                del options[field]
                options |= self.stand_in(field)
        named = ", ".join(f'"{OPTIONS[name].spoken}"' for name in self.FIELDS if name in wrong)
        return ([f"Fix {named} first"] if wrong else lines), wrong

    def stand_in(self, field: str) -> Mapping[str, Any]:
        """The options that replace a wrong field while the others are checked; empty if the field is optional."""
        return {}

    @on(Input.Changed)
    def _changed(self) -> None:
        self._show_command()
        if self._typing:
            self._typing.stop()
        self._typing = self.set_timer(PAUSE_SECONDS, self._look)

    def _show_command(self) -> None:
        self.query_one("#add-command", Plain).update(self.command())

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """Check the fields and show the summary."""
        try:
            lines, wrong = await asyncio.to_thread(self.checked, self._texts())
        except (sqlite3.Error, OSError) as error:
            lines, wrong = [str(error)], {}
        self.query_one("#planned", Plain).update("\n".join(lines))
        await self._show_wrong(wrong)

    async def _show_wrong(self, wrong: Mapping[str, str]) -> None:
        """Show the error of each wrong field below it."""
        if not wrong.keys() <= {*self.FIRST}:
            await self._mount_more()
            self.query_one(Collapsible).collapsed = False
        await self.query(".wrong").remove()
        for label in self.query("#form Label"):
            label.set_class((label.id or "").removeprefix("label-") in wrong, "-beside-wrong")
        for name, problem in wrong.items():
            box = self.query_one(f"#{name}")
            assert isinstance(box.parent, Widget)
            await box.parent.mount(Plain(problem, classes="wrong", id=f"wrong-{name}"), after=box)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "add":
            self.action_add()
        else:
            self.cockpit.action_copy_shown()

    def action_add(self) -> None:
        """Carry out the request of the form."""
        self._add()

    @work(exclusive=True, group="add")
    async def _add(self) -> None:
        texts = self._texts()
        try:
            said = self.command()
            path = await self.cockpit.writable()
            done = await asyncio.to_thread(self.carry_out, self.options(texts), path, said)
        except (InputError, sqlite3.Error, OSError) as error:
            self._look()
            self.cockpit.failed("Not queued", InputError(_spoken(error)))
            return
        self.cockpit.say_done("Queued", "\n".join(what for _, what in done), said)
        self.cockpit.experiment = done[0][0]
        self.app.pop_screen()
        self.app.switch_mode("queue")
