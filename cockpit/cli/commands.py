"""The commands and the module of each. A module is imported when one of its commands is used."""

from collections import UserDict
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import typer

from cockpit.cli import coercion  # noqa: F401 - makes Typer light

# The modules that hold the commands, by the commands' names, in the order of the help.
COMMANDS = {
    "run": "cockpit.cli.work",
    "work": "cockpit.cli.work",
    "join": "cockpit.cli.cluster",
    "status": "cockpit.cli.status",
    "ls": "cockpit.cli.listing",
    "serve": "cockpit.cli.screen",
    "plot": "cockpit.cli.results",
    "figure": "cockpit.cli.results",
    "show": "cockpit.cli.statistics",
    "claims": "cockpit.cli.statistics",
    "diff": "cockpit.cli.diff",
    "connect": "cockpit.cli.connect",
    "export": "cockpit.cli.exporting",
    "doctor": "cockpit.cli.doctor",
}
GROUPS: Mapping[str, Mapping[str, str]] = {
    "queue": {
        "add": "cockpit.cli.enqueue",
        "extend": "cockpit.cli.enqueue",
        "estimate": "cockpit.cli.enqueue",
        "logs": "cockpit.cli.logs",
        "list": "cockpit.cli.listing",
        "ls": "cockpit.cli.listing",
        **dict.fromkeys(
            ("pause", "resume", "cancel", "retry", "move", "annotate", "curve", "archive", "unarchive", "remove"),
            "cockpit.cli.changing",
        ),
        "show": "cockpit.cli.showing",
        "wait": "cockpit.cli.changing",
    },
    "data": dict.fromkeys(("list", "get", "path", "locate", "name", "check"), "cockpit.cli.data"),
    "models": dict.fromkeys(("list", "show"), "cockpit.cli.models"),
    "store": dict.fromkeys(("check", "gc", "backup", "merge"), "cockpit.cli.store"),
    "presets": dict.fromkeys(("list", "show"), "cockpit.cli.presets"),
    "cluster": {"keys": "cockpit.cli.cluster"},
    "tickets": dict.fromkeys(("list", "export", "verify", "import"), "cockpit.cli.tickets"),
}
HELP = {
    "queue": "Manage experiments in the queue: add, extend, list, pause, cancel, retry, move, wait.",
    "data": "Manage data sets: list, download, check.",
    "models": "List networks, and show the layers of one.",
    "store": "Maintain the database and its files: check, free unneeded files, back up, merge.",
    "presets": "List the paper's experiments, by the names that `cockpit queue add` takes.",
    "cluster": "Make the keys of a cluster: see `cockpit work --cluster` and `cockpit join`.",
    "tickets": "Export tickets as files, verify ticket files, import them.",
}

# The commands without --db; a test compares them with their parameters.
WITHOUT_DATABASE: set[tuple[str, ...]] = {
    ("join",),
    ("cluster", "keys"),
    ("data", "get"),
    ("data", "path"),
    ("data", "check"),
    ("models", "list"),
    ("models", "show"),
    ("tickets", "verify"),
}


class Members(UserDict[str, Any]):
    """The commands of a group by their names. Each is imported on its first use."""

    def __getitem__(self, name: str) -> Any:
        found = self.data[name]
        if isinstance(found, str):
            found = self.data[name] = _command(found, name)
        return found


class Root(typer.core.TyperGroup):
    """The program: commands, and groups of them."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        groups = {name: Group(name=name, help=HELP[name], no_args_is_help=True) for name in GROUPS}
        self.commands = Members(COMMANDS | groups)


class Group(typer.core.TyperGroup):
    """Commands that share their first word."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self.commands = Members(GROUPS[about["name"]])


def taking_database(words: Sequence[str]) -> int:
    """The number of words that name a command with --db; 0 if they name none. Imports no command."""
    first, second = (*words[:2], "", "")[:2]
    if first in COMMANDS:
        return int((first,) not in WITHOUT_DATABASE)
    return 2 if second in GROUPS.get(first, ()) and (first, second) not in WITHOUT_DATABASE else 0


def _command(module: str, name: str) -> Any:
    """The command of that name in a module."""
    app = import_module(module).app
    alone = typer.Typer(add_completion=False)
    alone.registered_commands = [info for info in app.registered_commands if info.name == name]
    return typer.main.get_command(alone)
