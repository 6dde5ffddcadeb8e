"""The actions on experiments and workers, in one table that defines keys, palette and help."""

import shlex
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from msgspec import structs
from textual.binding import Binding

from cockpit.text import hints, words
from engine.store import database, labels, located, queue, rows
from engine.store.row_types import Experiment

Act = queue.Change

NAMED_AT_MOST = 8
# The command that shows the same as each screen, by the screen's mode.
SCREENS: Mapping[str, str] = {
    "dashboard": "cockpit",
    "experiment": "cockpit plot {names}",
    "compare": "cockpit plot {names}",
    "layers": "cockpit diff {names}",
    "queue": "cockpit queue list",
    "devices": "cockpit work --status",
    "logs": "cockpit queue logs {names}",
}


@dataclass(frozen=True)
class Action:
    """A change of the database, with the command that does the same."""

    id: str
    key: str  # empty: only in the palette
    label: str
    tooltip: str
    command: str  # {names} stands for the names of the experiments
    act: Act | None = None  # called for each experiment; None: the application does it
    loses: str = ""  # the loss, for an action that asks first
    undo: str = ""  # the action of the key if this one was done to all chosen experiments
    already_applied: Callable[[Experiment], bool] = lambda row: False
    works: Callable[[Experiment], bool] = lambda row: True  # whether it would change an experiment

    def label_for(self, experiments: Sequence[Experiment]) -> str:
        """The label of its key for these experiments; empty if it would change nothing."""
        action = (
            ACTIONS[self.undo] if self.undo and experiments and all(map(self.already_applied, experiments)) else self
        )
        return action.label if not experiments or any(map(action.works, experiments)) else ""

    def named(self, names: Sequence[str], path: Path) -> str:
        """The command for these experiments."""
        return command(self.command, names, path)


def _state(state: queue.State) -> Act:
    return lambda connection, experiment: queue.set_state(connection, experiment, state)


def _move(by: int) -> Act:
    return lambda connection, experiment: queue.move(connection, experiment, by, by=True)


def _retry(connection: sqlite3.Connection, experiment: int) -> queue.Outcome:
    """Retry, and name the missing files and folders that the runs read."""
    outcome = queue.retry_failed(connection, experiment)
    problems = map(str, located.lost(connection, experiment))
    return structs.replace(outcome, said="; ".join([outcome.said, *problems]))


def _archive(archived: bool) -> Act:
    return lambda connection, experiment: labels.archive(connection, experiment, archived)


def _is_open(row: Experiment) -> bool:
    return row.status in ("waiting", "running", "paused")


_TABLE = (
    Action(
        "pause",
        "P",
        "Pause",
        "Workers stop training it within seconds; P resumes it",
        "cockpit queue pause {names}",
        _state("paused"),
        undo="resume",
        already_applied=lambda row: row.state != "active",
        works=lambda row: row.status in ("waiting", "running"),
    ),
    Action(
        "resume",
        "",
        "Resume",
        "Workers continue paused or cancelled experiments",
        "cockpit queue resume {names}",
        _state("active"),
        works=lambda row: row.status in ("paused", "cancelled"),
    ),
    Action(
        "cancel",
        "C",
        "Cancel",
        "Cancel experiments; P resumes them",
        "cockpit queue cancel {names}",
        _state("cancelled"),
        loses="Runs that are done stay, and so do runs that another experiment wants. What is being trained stops at"
        " a checkpoint. P takes it up again.",
        works=_is_open,
    ),
    Action(
        "retry",
        "R",
        "Retry",
        "Train failed runs again, as new attempts, and what they blocked",
        "cockpit queue retry {names}",
        _retry,
        loses="Workers train failed runs again, and u does not take that back; C gives the experiments up."
        " Runs that are done stay.",
        works=lambda row: bool(row.failed or row.reason),
    ),
    Action(
        "raise", "plus", "Raise priority", "Priority + 1", "cockpit queue move {names} --by 1", _move(1), works=_is_open
    ),
    Action(
        "lower",
        "minus",
        "Lower priority",
        "Priority - 1",
        "cockpit queue move {names} --by -1",
        _move(-1),
        works=_is_open,
    ),
    Action(
        "remove",
        "D",
        "Remove",
        "Forget experiments; their finished runs stay",
        "cockpit queue remove {names}",
        queue.remove,
        loses="Definition, notes, tags and the runs that are not done are lost. Runs that are done stay in the"
        " database, for the next experiment that wants them.",
    ),
    Action(
        "tags",
        "t",
        "Tags",
        "Words to find experiments by",
        "cockpit queue annotate {names} --tag TAG --untag TAG",
    ),
    Action("notes", "N", "Notes", "What you want to remember", "cockpit queue annotate {names} --notes TEXT"),
    Action(
        "archive",
        "A",
        "Archive",
        "Hide experiments that have nothing left to train; A shows them again",
        "cockpit queue archive {names}",
        _archive(True),
        undo="unarchive",
        already_applied=lambda row: bool(row.archived),
        works=lambda row: row.status not in ("waiting", "running"),
    ),
    Action(
        "unarchive",
        "",
        "Unarchive",
        "Back from the archive",
        "cockpit queue unarchive {names}",
        _archive(False),
    ),
    Action(
        "add",
        "n",
        "New",
        "A transfer: sources, targets, optimizers, replicates",
        "cockpit queue add --source DATA --target DATA",
    ),
    Action(
        "extend",
        "E",
        "Extend",
        "More levels, replicates, data sets or tickets; only what is new is trained",
        "cockpit queue extend {names} --levels N",
    ),
    Action("start", "w", "Start workers", "Train here, in the background", "cockpit work --detach"),
    Action(
        "stop",
        "W",
        "Stop workers",
        "End the workers of this machine",
        "cockpit work --stop",
        loses="Each worker ends its step and leaves a checkpoint; nothing else is lost. w starts them again.",
    ),
)
ACTIONS: Mapping[str, Action] = {action.id: action for action in _TABLE}


PREFIX = "act."  # of the ids of the actions' bindings


def binding(id: str, show: bool = False) -> Binding:
    """The binding of an action. The application has all; a screen repeats those that its footer shows."""
    action = ACTIONS[id]
    label = f"{action.label} / {ACTIONS[action.undo].label}" if action.undo else action.label
    return Binding(action.key, f"app.act('{id}')", label, show=show, tooltip=action.tooltip, id=f"{PREFIX}{id}")


def of(binding: str | None) -> Action | None:
    """The action of the binding of this id; None for other bindings."""
    return ACTIONS.get(binding.removeprefix(PREFIX)) if binding and binding.startswith(PREFIX) else None


def command(template: str, names: Sequence[str], path: Path) -> str:
    """A shell command for these experiments and this database."""
    said = template.replace("{names}", shlex.join(names) if names else "NAME", 1)
    usual = path.absolute() == database.default_path().absolute()
    return said if usual else f"{said} --db {hints.quoted(str(path))}"


def command_of(binding: str, names: Sequence[str], path: Path) -> str:
    """The command that does the same as the binding of this id; empty if none does."""
    kind, _, rest = binding.partition(".")
    if binding.startswith(PREFIX):
        return ACTIONS[rest].named(names, path)
    return command(SCREENS[rest], names, path) if kind == "screen" and rest in SCREENS else ""


def look(path: Path, names: Sequence[str]) -> list[Experiment]:
    """These experiments, read from the database."""
    if not path.exists() or not names:
        return []
    with closing(database.reader(path)) as connection:
        ids = [queue.experiment_id(connection, name) for name in names]
        return [rows.experiments(connection, one)[0] for one in ids]


def carry_out(path: Path, act: Act, names: Sequence[str]) -> dict[str, queue.Outcome]:
    """Apply an action to all of these experiments, or to none; returns the outcomes by name."""
    with closing(database.writer(path)) as connection:
        return queue.change(connection, names, act)


REVERSIBLE = ("pause", "resume", "cancel", "raise", "lower", "tags", "notes", "archive", "unarchive")


def restoring(experiments: Sequence[Experiment]) -> Act:
    """An action that restores state, priority, tags, notes and archive of experiments."""
    before = {row.id: row for row in experiments}

    def restore(connection: sqlite3.Connection, experiment: int) -> queue.Outcome:
        was, (now,) = before[experiment], rows.experiments(connection, experiment)
        done = [
            labels.annotate(
                connection, experiment, notes=was.notes or "", tags=was.tags, untag=set(now.tags) - set(was.tags)
            ),
            queue.move(connection, experiment, was.priority),
        ]
        if now.state != was.state:
            done.append(queue.set_state(connection, experiment, cast(queue.State, was.state)))
        if now.archived != was.archived:
            done.append(labels.archive(connection, experiment, was.archived))
        changed = [outcome.said for outcome in done if outcome.changed]
        return queue.Outcome(bool(changed), ", ".join(changed) or "is as it was")

    return restore


def outlined(outcomes: Mapping[str, queue.Outcome]) -> list[str]:
    """A line for each outcome, changed experiments first."""
    lines = sorted(outcomes.items(), key=lambda item: not item[1].changed)
    return _first([f"{name}: {outcome.said}" for name, outcome in lines])


def describe(experiments: Sequence[Experiment]) -> list[str]:
    """A line for each experiment in a question whether to remove it: name, age, runs done."""
    lines = []
    for row in experiments:
        parts = [f"queued {words.duration(database.age(row.created_at))} ago", f"{row.done}/{row.runs} done"]
        parts += [f"{row.running} running"] if row.running else []
        lines.append(f"{row.name}: {', '.join(parts)}")
    return _first(lines)


def _first(lines: Sequence[str]) -> list[str]:
    more = [f"and {len(lines) - NAMED_AT_MOST} more"] if len(lines) > NAMED_AT_MOST else []
    return [*lines[:NAMED_AT_MOST], *more]
