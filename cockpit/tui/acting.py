"""The application's actions: they ask before something is lost, and run outside the event loop."""

import asyncio
import shlex
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import SystemCommand
from textual.binding import ActiveBinding, Binding, BindingType
from textual.filter import LineFilter
from textual.markup import escape
from textual.notifications import SeverityLevel
from textual.screen import Screen

from cockpit.requests import background
from cockpit.text import hints, words
from cockpit.tui import actions
from cockpit.tui.actions import ACTIONS, Action
from cockpit.tui.dialogs import Ask, Confirm
from cockpit.tui.help import Help
from cockpit.tui.host import Host
from cockpit.tui.insides import Palette
from cockpit.tui.plain import Harmless
from cockpit.tui.screens import starting
from cockpit.tui.screens.base import CockpitScreen
from cockpit.tui.screens.starting import Start
from cockpit.tui.screens.transfer import Extend, Transfer
from cockpit.views import runs
from engine.errors import InputError
from engine.store import database, labels, workers
from engine.store.row_types import Experiment

HARMLESS = Harmless()


class ActingApp(Host):
    """An application with the actions, the command palette and the help."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(actions.binding(action.id) for action in ACTIONS.values() if action.key),
        Binding("question_mark", "help", "Keys", id="app.help", tooltip="All keys, and the commands that do the same"),
        Binding("u", "undo", "Undo", id="app.undo", show=False, tooltip="Take back what was last done to experiments"),
        Binding(
            "y", "copy_shown", "Copy command", id="app.copy", show=False, tooltip="The command that shows this view"
        ),
        Binding(
            "Y", "copy_done", "Copy last", id="app.copy-done", show=False, tooltip="The command of the last action"
        ),
    ]

    done: str = ""  # the command of the last action
    undoable: tuple[str, Sequence[Experiment]] | None = None  # the last action, and the experiments before it

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action is offered: not if it changes something and the dashboard is read-only or empty."""
        if action == "undo":
            return self.undoable is not None and not self.read_only
        too_small = self.screen.has_class("-tiny") or self.screen.has_class("-flat")
        return not (action == "act" and (self.read_only or too_small))

    def chosen(self) -> Sequence[str]:
        """The experiments that actions apply to."""
        return self.screen.chosen() if isinstance(self.screen, CockpitScreen) else ()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The filters of all lines before they are painted."""
        return [*super().get_line_filters(), HARMLESS]

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show a notice for some seconds, always as text and never as markup."""
        super().notify(
            words.visible(message), title=words.line(title), severity=severity, timeout=timeout, markup=False
        )

    def action_help(self) -> None:
        """Show all keys."""
        self.push_screen(Help(self.screen, self.chosen()))

    def action_command_palette(self) -> None:
        """Open the command palette."""
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def deliver_screenshot(
        self, filename: str | None = None, path: str | None = None, time_format: str | None = None
    ) -> str | None:
        """Save a picture of the screen, by default in the current folder, as a folder Downloads may not exist."""
        return super().deliver_screenshot(filename, path or str(Path.cwd()), time_format)

    def action_copy_shown(self) -> None:
        """Copy the command that shows this view."""
        if isinstance(self.screen, CockpitScreen):
            self.copy(self.screen.command())

    def action_copy_done(self) -> None:
        """Copy the command of the last action."""
        if self.done:
            self.copy(self.done)
        else:
            self.notify("nothing was done yet", severity="warning")

    def copy(self, command: str) -> None:
        """Copy a command to the clipboard and show it."""
        self.copy_to_clipboard(command)
        self.notify(command, title="Copied")

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The entries of the palette: the screen's bindings, the actions without a key, and Textual's commands."""
        active = {found.binding.id: found for found in screen.active_bindings.values() if found.binding.id}
        names = screen.chosen() if isinstance(screen, CockpitScreen) else ()
        for id, found in active.items():
            if said := actions.command_of(id, names, self.path) or found.binding.tooltip:
                yield SystemCommand(found.binding.description, escape(said), self._runs(found))
        for action in ACTIONS.values():
            if not action.key and not self.read_only:
                run = partial(self.action_act, action.id)
                yield SystemCommand(action.label, escape(action.named(names, self.path)), run)
        taken = {"Quit", "Keys"}
        yield from (command for command in super().get_system_commands(screen) if command.title not in taken)

    def _runs(self, found: ActiveBinding) -> Callable[[], Any]:
        return partial(self.run_action, found.binding.action, found.node)

    def action_act(self, name: str) -> None:
        """Carry out one of `ACTIONS` on the selected experiments."""
        action = ACTIONS[name]
        match name:
            case "add":
                self.push_screen(Transfer())
            case "start":
                self._start(action)
            case "stop":
                self._stop(action)
            case "extend" if names := self.chosen():
                self.push_screen(Extend(names))
            case _ if names := self.chosen():
                self._act(action, names)
            case _:
                self.notify("No experiment selected. Press n to create one.", severity="warning")

    @work(group="acting")
    async def _act(self, action: Action, names: Sequence[str]) -> None:
        try:
            found = await asyncio.to_thread(actions.look, self.path, names)
            if action.undo and all(map(action.already_applied, found)):
                action = ACTIONS[action.undo]
            given = await self._completed(action, found)
            if given is None or (given.loses and not await self._sure(given, found)):
                return
            assert given.act is not None
            outcomes = await asyncio.to_thread(actions.carry_out, await self.writable(), given.act, names)
        except (InputError, sqlite3.Error, OSError) as error:
            self.failed(action.label, error)
            return
        if action.id == "remove":
            self.marked.difference_update(names)
            self.undoable = None
        elif action.id in actions.REVERSIBLE and any(outcome.changed for outcome in outcomes.values()):
            self.undoable = (action.label, found)
        said = "\n".join(actions.outlined(outcomes))
        if any(outcome.changed for outcome in outcomes.values()):
            self.say_done(action.label, said, given.named(names, self.path))
        else:
            self.notify(said, title=action.label, severity="warning")

    @work(group="acting")
    async def action_undo(self) -> None:
        """Undo the last action on experiments, if it can be undone."""
        assert self.undoable is not None
        (label, found), self.undoable = self.undoable, None
        try:
            names = [row.name for row in found]
            outcomes = await asyncio.to_thread(actions.carry_out, self.path, actions.restoring(found), names)
        except (InputError, sqlite3.Error, OSError) as error:
            self.failed(f"Undo {label}", error)
        else:
            self.notify("\n".join(actions.outlined(outcomes)), title=f"Undo: {label}")

    async def _sure(self, action: Action, experiments: Sequence[Experiment]) -> bool:
        number = f"{len(experiments)} experiments" if len(experiments) > 1 else experiments[0].name
        command = action.named([row.name for row in experiments], self.path)
        verb = f"{action.label} {number}"
        return await self.push_screen_wait(
            Confirm(f"{verb}?", actions.describe(experiments), action.loses, verb, command)
        )

    async def _completed(self, action: Action, experiments: Sequence[Experiment]) -> Action | None:
        """The action with the text that the user types for it; None if it would change nothing."""
        names = ", ".join(row.name for row in experiments)
        if action.id == "tags":
            shared = set.intersection(*(set(row.tags) for row in experiments))
            hint = "Tags, separated by spaces. Enter: save, Esc: cancel"
            text = await self.push_screen_wait(Ask(f"Tags of {names}", " ".join(sorted(shared)), hint, lines=False))
            wanted = shared if text is None else set(text.replace(",", " ").split())
            more, less = sorted(wanted - shared), sorted(shared - wanted)
            options = [f"--tag {shlex.quote(tag)}" for tag in more] + [f"--untag {shlex.quote(tag)}" for tag in less]
            change = partial(labels.annotate, tags=more, untag=less)
        elif action.id == "notes":
            before = experiments[0].notes or ""
            hint = "Replaces the present notes. Ctrl+s: save, Esc: cancel"
            text = await self.push_screen_wait(Ask(f"Notes of {names}", before, hint, lines=True))
            options = [f"--notes {shlex.quote(text)}"] if text is not None and text.strip() != before else []
            change = partial(labels.annotate, notes=text)
        else:
            return action
        command = " ".join(["cockpit queue annotate {names}", *options])
        return replace(action, act=change, command=command) if options else None

    @work(group="acting")
    async def _start(self, action: Action) -> None:
        try:
            offered = await asyncio.to_thread(starting.offered, self.path)
            arguments = await self.push_screen_wait(Start(offered, self.path))
            if arguments is None:
                return
            self.notify("starting …", title=action.label)
            self.starting = 1  # until the pool has reported, which takes some seconds
            said = await asyncio.to_thread(_start_workers, await self.writable(), arguments)
        except (InputError, sqlite3.Error, OSError) as error:
            self.starting = 0
            self.failed(action.label, error)
        else:
            self.say_done(action.label, said, starting.command(arguments, self.path))

    @work(group="acting")
    async def _stop(self, action: Action) -> None:
        try:
            lines = await asyncio.to_thread(_at_work, self.path)
            if not lines:
                self.notify("No workers on this machine. Press w to start them.", title=action.label)
                return
            command = action.named((), self.path)
            asked = Confirm("Stop the workers of this machine?", lines, action.loses, action.label, command)
            if await self.push_screen_wait(asked):
                said = await asyncio.to_thread(_stop_workers, self.path, partial(self.call_from_thread, self._stopping))
                self.say_done(action.label, said, command)
        except (InputError, sqlite3.Error, OSError) as error:
            self.failed(action.label, error)

    def _stopping(self, said: str) -> None:
        self.notify(said)

    async def writable(self) -> Path:
        """The database to write to. For a sample it is a copy, which the dashboard shows from now on."""
        path = await asyncio.to_thread(database.writable_path, self.path)
        if path != self.path:
            self.notify(f"{self.path} is a read-only sample: now showing {path}")
            self.path = self.reader.path = path
        return path

    def say_done(self, title: str, what: str, command: str) -> None:
        """Report an action and the command that does the same."""
        self.done = command
        self.notify(f"{what}\n{command}" if what else command, title=title)

    def failed(self, title: str, error: Exception) -> None:
        """Report why an action failed."""
        self.notify(hints.complete(error), title=title, severity="error", timeout=10)


def _start_workers(path: Path, arguments: Sequence[str]) -> str:
    with closing(database.writer(path)) as connection:
        return background.start(path, connection, arguments)[1]


def _stop_workers(path: Path, say: Callable[[str], None]) -> str:
    with closing(database.reader(path)) as connection:
        return background.end(connection, say) or ""


def _at_work(path: Path) -> list[str]:
    """A line for each pool of this machine, with the runs of its workers."""
    if not path.exists():
        return []
    with closing(database.reader(path)) as connection:
        pools = workers.live_pools(connection)
        present = [row for row in workers.present(connection) if row.pool in {pool.id for pool in pools}]
    lines = [f"pool {pool.pid}: running for {words.duration(database.age(pool.started_at))}" for pool in pools]
    names = runs.named(present)
    return lines + [f"  {words.device(row)} trains {names[row.digest]}" for row in present if row.digest]
