"""The application's interface to its screens and widgets. They import this module, and the application imports them."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

from textual.app import App
from textual.message_pump import MessagePump
from textual.reactive import var

from cockpit.tui.reader import Reader


class Host(App[None]):
    """The interface of the application to its screens."""

    MODES: ClassVar[dict[str, Any]]  # the class of each mode's screen
    path: Path  # the database
    reader: Reader
    read_only: bool
    keys: Mapping[str, str]  # keys of the configuration file, by the ids of bindings
    marked: set[str]  # experiments, by name
    pinned: set[str]  # curves
    starting: int = 0  # number of pools whose workers have not reported yet

    has_pools: bool = False  # whether there are workers on this machine to stop

    experiment: var[str | None] = var(None)
    log_file: var[Path | None] = var(None)  # the file that the screen of logs shows

    @abstractmethod
    async def writable(self) -> Path:
        """The database to write to, which becomes the one shown."""

    @abstractmethod
    def open_experiment(self, name: str) -> None:
        """Show the curves of an experiment."""

    @abstractmethod
    def open_run(self, run: int) -> None:
        """Show the details of the run with this id."""

    @abstractmethod
    def action_copy_shown(self) -> None:
        """Copy the command that shows this view."""

    @abstractmethod
    def say_done(self, title: str, what: str, command: str) -> None:
        """Report an action and the command that does the same."""

    @abstractmethod
    def failed(self, title: str, error: Exception) -> None:
        """Report why an action failed."""


def host_of(node: MessagePump) -> Host:
    """The application of a screen or widget."""
    return cast(Host, node.app)
