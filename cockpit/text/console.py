"""Rich's console. Importing Rich takes time, so only modules that draw import it."""

import sys
from collections.abc import Iterable

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from cockpit.text import words


class Console(console.Console):
    """Standard output, or error, with colours. Text never acts as markup or as a command to the terminal."""

    def __init__(self, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        file = getattr(stream, "rich_proxied_file", stream)  # `terminal.Guard` lets no colours through
        super().__init__(file=file, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a drawing, with control characters removed from their text."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else piece._replace(text=words.stripped(piece.text))
