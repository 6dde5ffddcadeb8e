"""Rich's console as this program uses it. Importing Rich takes time, so it is imported where something is drawn."""

import sys
from collections.abc import Iterable

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from cockpit.text import words


class Console(console.Console):
    """Standard output, or error, with colours. Text is text: nothing in it is markup, or a command to the terminal."""

    def __init__(self, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        file = getattr(stream, "rich_proxied_file", stream)  # `terminal.Guard` lets no colours through
        super().__init__(file=file, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is drawn, those with text without control characters."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else piece._replace(text=words.stripped(piece.text))
