"""What `--help` says: every command has an example, in one form, that can be typed."""

import shlex
from collections.abc import Iterator

import pytest
import typer

from cockpit.cli import app

FORM = "Example: cockpit "


def commands(
    group: typer.core.TyperGroup, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], typer.core.TyperCommand]]:
    """The commands that have no commands below them, with their names."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*path, name))
        else:
            assert isinstance(command, typer.core.TyperCommand)
            yield (*path, name), command


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, typer.core.TyperGroup)
ALL = dict(commands(ROOT))


def test_there_are_commands() -> None:
    assert {("run",), ("doctor",), ("queue", "add"), ("store", "check"), ("data", "get")} <= set(ALL)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_has_an_example_that_parses(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.epilog, "has no example"
    assert command.epilog.startswith(FORM)
    assert "Example" not in (command.help or ""), "has another beside its epilog"
    words = shlex.split(command.epilog.removeprefix(FORM))
    assert tuple(words[: len(path)]) == path
    with command.make_context(" ".join(path), words[len(path) :]) as context:
        assert context.command is command


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_and_its_options_are_explained(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} is not explained"
