"""The form for a transfer: sources x targets x optimizers x replicates, and what it would come to, while one types."""

import asyncio
import inspect
import re
import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widgets import Button, Collapsible, Input, Label, Static

from cockpit.cli import adding
from cockpit.cli.options import Wanted, experiment_options
from cockpit.tui import actions
from cockpit.tui.reader import Query
from cockpit.tui.screens.base import CockpitScreen
from engine.datasets.catalog import REGISTERED
from engine.errors import InputError
from engine.models.catalog import MODELS
from engine.recipes import BatchNorm, MaskKind, Optimizer, Profile, Prunable, Rewinds, Schedule, Scope
from engine.store import database, queue, rows

PAUSE_SECONDS = 0.3  # in typing, after which what is typed is looked at
FIRST = (
    "source",
    "target",
    "optimizer",
    "target_optimizer",
    "replicates",
    "model",
    "width",
    "levels",
    "epochs",
    "batch_size",
    "scope",
    "random",
    "profile",
    "name",
)
ALLOWED: Mapping[str, Sequence[str]] = {
    "model": tuple(MODELS),
    "optimizer": get_args(Optimizer),
    "target_optimizer": get_args(Optimizer),
    "scope": get_args(Scope),
    "random": (*get_args(MaskKind), "none"),
    "profile": get_args(Profile),
    "evaluate": ("paper", "all"),
    "batch_norm": get_args(BatchNorm),
    "augmentation": ("standard", "none", "crop", "crop-flip"),
    "prunable": get_args(Prunable),
    "rewinds": get_args(Rewinds),
    "schedule": get_args(Schedule),
}
NO_SOURCE = "Name a source: the data set that tickets are found on."


@dataclass(frozen=True)
class Field:
    """An option of `cockpit queue add` as a field of the form."""

    name: str
    hint: str  # the default, and what it is
    kind: type
    several: bool

    @property
    def option(self) -> str:
        """As it is called on the command line."""
        return "--" + self.name.replace("_", "-")

    def read(self, text: str) -> Any:
        """What was typed. Raises InputError if it is no number where one is wanted."""
        if self.several:
            return [part.strip() for part in text.split(",") if part.strip()]
        try:
            return self.kind(text.strip())
        except ValueError:
            wanted = "a whole number" if self.kind is int else "a number"
            raise InputError(f"{self.option} {text.strip()!r} is not {wanted}") from None


def _fields() -> Iterator[Field]:
    """The options that `cockpit queue add` has for an experiment, with their help as hints."""
    for name, parameter in inspect.signature(experiment_options).parameters.items():
        if name == "preset":
            continue
        kind, _ = get_args(get_args(parameter.annotation)[0])  # of Annotated[kind | None, ...]
        help, _, default = parameter.annotation.__metadata__[0].help.partition(" Default: ")
        several = kind == list[str]
        hint = help.replace(" Repeatable.", " Several: commas.")
        default = default.removesuffix(".")
        yield Field(name, f"{default}: {hint}" if default else hint, str if several else kind, several)


FIELDS: Mapping[str, Field] = {field.name: field for field in _fields()}


def options(texts: Mapping[str, str]) -> dict[str, Any]:
    """What was typed, by the names of the fields, as the options of an experiment. Raises InputError."""
    return {name: FIELDS[name].read(text) for name, text in texts.items() if text.strip(" ,")}


def command(texts: Mapping[str, str], path: Path) -> str:
    """The command that adds the same experiment."""
    words = ["cockpit", "queue", "add"]
    for name, text in texts.items():
        field = FIELDS[name]
        for value in field.read(text) if field.several else [text.strip()] if text.strip() else []:
            words += [field.option, value]
    return actions.command(shlex.join(words), (), path)


def concerned(problem: str, texts: Mapping[str, str]) -> str | None:
    """The field that is to be mended: the one whose option, or whose data set, the problem names."""
    options: list[str] = re.findall(r"--([a-z-]+)", problem)
    for name in (option.replace("-", "_") for option in options):
        if name in FIELDS:
            return name
    for name in ("target", "source", "model"):
        if any(value in problem for value in map(str.strip, texts.get(name, "").split(",")) if value):
            return name
    return None


class LastPart(Suggester):
    """Completes the last of several parts."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.words = words

    async def get_suggestion(self, value: str) -> str | None:
        """The text with its last part completed."""
        before, comma, last = value.rpartition(",")
        part = last.lstrip()
        found = next((word for word in self.words if part and word.startswith(part)), None)
        return None if found is None else f"{before}{comma}{last[: len(last) - len(part)]}{found}"


class Transfer(CockpitScreen):
    """A new experiment, in the words of the command line."""

    AUTO_FOCUS = "#source"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back", id="transfer.back"),
        Binding("ctrl+s", "add", "Queue it", id="transfer.add", priority=True),
        Binding("ctrl+y", "app.copy_shown", "Copy command", id="transfer.copy", priority=True),
        # A field would scroll with these, and only sometimes lets them through.
        Binding("down", "app.focus_next", "Next field", id="transfer.next", show=False, priority=True),
        Binding("up", "app.focus_previous", "Field before", id="transfer.previous", show=False, priority=True),
    ]

    def on_resize(self) -> None:
        """Where the terminal was too small for a while, no field has the focus any more."""
        if self.focused is None:
            self.query_one("#source").focus()

    def body(self) -> ComposeResult:
        with Vertical(id="transfer"):
            with VerticalScroll(id="form", can_focus=False) as form:
                form.border_title = "New transfer"
                for name in FIRST:
                    yield self._row(FIELDS[name])
                with Collapsible(title="More options"):
                    for name, field in FIELDS.items():
                        if name not in FIRST:
                            yield self._row(field)
            with Vertical(id="outlook") as outlook:
                outlook.border_title = "What it comes to"
                yield Static(NO_SOURCE, id="planned", markup=False)
                yield Static(id="add-command", markup=False)
                with Horizontal(classes="buttons"):
                    yield Button("Queue it", id="add", variant="primary", compact=True, tooltip="ctrl+s")
                    yield Button("Copy command", id="copy", compact=True, tooltip="ctrl+y, or y outside of fields")

    def _row(self, field: Field) -> Vertical:
        box = Input(placeholder=field.hint, id=field.name, compact=True)
        if field.name in ALLOWED:
            box.suggester = LastPart(ALLOWED[field.name])
        label = Label(field.name.replace("_", " "))
        label.tooltip = field.hint
        said = Horizontal(label, box, classes="said")
        return Vertical(said, Static(classes="wrong", id=f"wrong-{field.name}", markup=False), classes="field")

    def on_mount(self) -> None:
        self._typing: Timer | None = None
        self._show_command()

    def queries(self) -> Mapping[str, Query]:
        return {"data_sets": rows.data_sets}

    def chosen(self) -> Sequence[str]:
        """No experiment: what is shown here is not one yet."""
        return ()

    def command(self) -> str:
        return command(self._texts(), self.cockpit.path)

    def show_data_sets(self, found: Sequence[str]) -> None:
        """Complete the names of data sets."""
        for name in ("source", "target"):
            self.query_one(f"#{name}", Input).suggester = LastPart([*REGISTERED, *found])

    def _texts(self) -> dict[str, str]:
        return {name: self.query_one(f"#{name}", Input).value for name in FIELDS}

    @on(Input.Changed)
    def _changed(self) -> None:
        self._show_command()
        if self._typing:
            self._typing.stop()
        self._typing = self.set_timer(PAUSE_SECONDS, self._look)

    def _show_command(self) -> None:
        self.query_one("#add-command", Static).update(self.command())

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """Check what was typed, and say what it comes to."""
        texts = self._texts()
        if not texts["source"].strip(" ,"):
            self._say(NO_SOURCE, None)
            return
        try:
            lines = await asyncio.to_thread(_outlook, texts, self.cockpit.path)
        except (InputError, sqlite3.Error, OSError) as error:
            self._wrong(error, texts)
        else:
            self._say("\n".join(lines), None)

    def _wrong(self, error: Exception, texts: Mapping[str, str]) -> None:
        problem = str(error)
        field = concerned(problem, texts)
        self._say(f"Not yet: see {field.replace('_', ' ')}" if field else problem, field, problem)

    def _say(self, outlook: str, wrong: str | None, problem: str = "") -> None:
        """Show what it comes to, and what is wrong under the field where it is."""
        self.query_one("#planned", Static).update(outlook)
        for name in FIELDS:
            said = self.query_one(f"#wrong-{name}", Static)
            said.display = name == wrong
            said.update(problem if name == wrong else "")
        if wrong and wrong not in FIRST:
            self.query_one(Collapsible).collapsed = False

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "add":
            self.action_add()
        else:
            self.cockpit.action_copy_shown()

    def action_add(self) -> None:
        """Put the experiment into the queue."""
        self._add()

    @work(exclusive=True, group="add")
    async def _add(self) -> None:
        texts = self._texts()
        try:
            said = self.command()
            path = await self.cockpit.writable()
            added = await asyncio.to_thread(_queue, texts, path, said)
        except (InputError, sqlite3.Error, OSError) as error:
            self._wrong(error, texts)
            self.cockpit.failed("Not queued", error)
            return
        self.cockpit.say_done("Queued", adding.describe(added.name, added), said)
        self.cockpit.experiment = added.name
        self.app.pop_screen()
        self.app.switch_mode("queue")


def wanted(texts: Mapping[str, str]) -> Wanted:
    """The experiment that was typed. Raises InputError."""
    found: Wanted = experiment_options(**options(texts))
    return found


def _outlook(texts: Mapping[str, str], path: Path) -> list[str]:
    """What adding the experiment would come to."""
    asked = wanted(texts)
    found, workers = adding.preview(asked, path)
    _, device_time, done_in, files = adding.cells(found.estimate)
    lines = [f"{asked.name}: {found.curves} curves, {found.runs} runs", f"{found.new} new, {found.existing} there"]
    if found.estimate.runs:
        lines.append(f"done in {done_in}, device time {device_time}, ticket files {files}")
    else:
        lines.append("nothing is left to train")
    return lines + adding.basis(found.estimate, workers) + [str(one) for one in adding.absent([asked.definition])]


def _queue(texts: Mapping[str, str], path: Path, said: str) -> queue.Added:
    with closing(database.writer(path)) as connection:
        return wanted(texts).add(connection, said)
