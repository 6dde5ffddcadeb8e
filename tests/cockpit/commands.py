"""Every command of the program, by its words."""

from collections.abc import Iterator

import typer

from cockpit.cli import app


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
