"""A view of a text file of any size, read outside the event loop, one command at a time."""

import asyncio
import io
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from cockpit.text import words
from cockpit.tui.plain import Plain, plain
from cockpit.views import pager

LOOK_SECONDS = 0.5  # between two checks whether the file has grown
SHIFT = 20  # columns per arrow key
CONTEXT = 3  # lines above a line found
WHEEL = 3  # lines

NOTHING = pager.Page((), (), 0, -1)  # before the first page was read; differs from an empty file

Source = Callable[[], tuple[int, BinaryIO]]
Command = Callable[[BinaryIO], pager.Page]


def of_path(path: Path) -> Source:
    """The source of a file. It has the file's identity, as a log may be replaced by another file."""
    return lambda: (path.stat().st_ino, path.open("rb"))


def of_text(text: bytes) -> Source:
    """Text in memory."""
    return lambda: (0, io.BytesIO(text))


class LogView(Plain, can_focus=True):
    """Lines of a file. While `following`, it stays at the end of a growing file."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", id="log.up", show=False, tooltip="A line up"),
        Binding("down,j", "move(1)", "Down", id="log.down", show=False, tooltip="A line down"),
        Binding("pageup", "page(-1)", "Page up", id="log.page-up", show=False, tooltip="A page up"),
        Binding("pagedown,space", "page(1)", "Page down", id="log.page-down", show=False, tooltip="A page down"),
        Binding("home", "start", "Start", id="log.home", show=False, tooltip="To the first line"),
        Binding("end", "end", "End", id="log.end", show=False, tooltip="To the last line"),
        Binding("left,h", "shift(-1)", "Left", id="log.left", show=False, tooltip="Towards the lines' beginnings"),
        Binding("right,l", "shift(1)", "Right", id="log.right", show=False, tooltip="Towards the lines' ends"),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__("reading …", id=id)
        self.following, self.sought, self.match = True, "", -1
        self._source: Source | None = None
        self._empty = self._said = ""
        self._identity = self._column = 0
        self._page = NOTHING
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._idle, self._searching, self._stop = True, False, threading.Event()

    def on_mount(self) -> None:
        self.run_worker(self._serve())
        self.set_interval(LOOK_SECONDS, self._look)

    def on_unmount(self) -> None:
        self._stop.set()

    def open(self, source: Source, name: str, empty: str) -> None:
        """Show the end of another file, or the text `empty` while it is empty."""
        self.border_title, self._empty = plain(name), empty
        self._source, self.following, self.match, self._column, self._identity = source, True, -1, 0, 0
        self._page = NOTHING
        self._do(self._at_end)

    def change(self, source: Source) -> None:
        """Replace the source by a longer one of the same text."""
        self._source = source
        self._look()

    def _do(self, command: Command, say: str = "") -> None:
        """Queue a command after earlier ones. It ends a search."""
        self._stop.set()
        self._said = say
        self._commands.put_nowait(command)

    def _look(self) -> None:
        if self._idle and self.screen.is_current:
            self._commands.put_nowait(self._at_end if self.following else self._as_before)

    async def _serve(self) -> None:
        while True:
            command = await self._commands.get()
            source = self._source
            if source is None:
                continue
            self._idle = False
            try:
                identity, page = await asyncio.to_thread(self._carry_out, source, command)
            except OSError as error:
                self._page = NOTHING
                self.update(f"it cannot be read ({error.strerror}): it was removed, or lies on another machine")
                self.border_subtitle = ""
            else:
                if source is self._source:  # else another file was opened meanwhile
                    self._take(identity, page)
            self._idle = self._commands.empty()

    def _carry_out(self, source: Source, command: Command) -> tuple[int, pager.Page]:
        """The position and page after a command. Runs in a thread; nothing else changes the state meanwhile."""
        identity, file = source()
        with file:
            found = command(file)
        return identity, replace(found, lines=tuple(map(words.harmless, found.lines)))

    def _take(self, identity: int, page: pager.Page) -> None:
        if self._identity not in (0, identity):
            self._said = "another file has taken its place"
        elif page.size < self._page.size:
            self._said = "it was cut short"
        changed = page != self._page or self._identity != identity
        self._identity, self._page = identity, page
        if changed or self._said or self._searching:
            self._draw()

    def _draw(self) -> None:
        page = self._page
        lines = [self._line(start, line) for start, line in zip(page.starts, page.lines, strict=True)]
        self.update(Text("\n").join(lines) if lines else self._empty, layout=False)
        at = f"{page.end / page.size:.0%} of {words.size(page.size)}" if page.size else "empty"
        self.border_subtitle = plain(" · ".join(filter(None, [self._said, at, "following" if self.following else ""])))

    def _line(self, start: int, line: str) -> Text:
        text = Text(line)
        if self.sought:
            shown = line.lower() if self.sought.islower() else line
            place = shown.find(self.sought)
            while place >= 0:
                current = start <= self.match < start + max(1, len(line.encode()))
                text.stylize("bold underline reverse" if current else "reverse", place, place + len(self.sought))
                place = shown.find(self.sought, place + len(self.sought))
        return text[self._column :]

    @property
    def _height(self) -> int:
        return max(1, self.size.height)

    def _at_end(self, file: BinaryIO) -> pager.Page:
        return pager.page(file, file.seek(0, 2), self._height)

    def _as_before(self, file: BinaryIO) -> pager.Page:
        return pager.page(file, self._page.top, self._height)

    def on_resize(self) -> None:
        self._look()

    def on_mouse_scroll_up(self) -> None:
        self.action_move(-WHEEL)

    def on_mouse_scroll_down(self) -> None:
        self.action_move(WHEEL)

    def action_move(self, lines: int) -> None:
        """Move down or, if negative, up by lines."""

        def move(file: BinaryIO) -> pager.Page:
            top = self._page.top
            top = pager.forward(file, top, lines) if lines > 0 else pager.back(file, top, -lines)
            return pager.page(file, top, self._height)

        self.following = self.following and lines > 0
        self._do(move)

    def action_page(self, pages: int) -> None:
        """Move down or up by pages, which overlap by a line."""
        self.action_move(pages * max(1, self._height - 1))

    def action_start(self) -> None:
        """Go to the first line."""
        self.following = False
        self._do(lambda file: pager.page(file, 0, self._height))

    def action_end(self) -> None:
        """Go to the last line."""
        self._do(self._at_end)

    def action_shift(self, steps: int) -> None:
        """Scroll sideways."""
        self._column = max(0, self._column + steps * SHIFT)
        self._draw()

    def follow(self, wanted: bool) -> None:
        """Follow the end of the file, or stop following."""
        self.following = wanted
        self._do(self._at_end if wanted else self._as_before)
        self._draw()

    def search(self, text: str) -> None:
        """Highlight a text, and go to the next line with it."""
        self.sought, self.match = text, -1
        self.find(True)

    def find(self, forwards: bool) -> None:
        """Go to the next or previous line with the text searched for. The next key ends a long search."""
        if not self.sought:
            return
        self.following = False
        stop = threading.Event()
        self._do(lambda file: self._find(file, forwards, stop), "searching … (esc stops)")
        self._stop = stop
        self._searching = True
        self._draw()

    def _find(self, file: BinaryIO, forwards: bool, stop: threading.Event) -> pager.Page:
        page = self._page
        here = page.top <= self.match < page.end
        start = self.match + forwards if here else page.top
        found = pager.find(file, self.sought, start, forwards, lambda: not stop.is_set())
        self._searching = False
        if found is None:
            where = "below" if forwards else "above"
            self._said = "search stopped" if stop.is_set() else f"no {'more ' if here else ''}“{self.sought}” {where}"
            return self._as_before(file)
        self.match, self._said = found, ""
        line = pager.back(file, found + 1, 1)
        return pager.page(file, pager.back(file, line, CONTEXT), self._height)

    def stop(self) -> bool:
        """End a search or remove its highlights; False if neither was active."""
        if self._searching:
            self._stop.set()
        elif self.sought:
            self.sought, self._said = "", ""
            self._draw()
        else:
            return False
        return True
