"""Dialogs that ask before an action: for confirmation, or for a text."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalGroup, VerticalScroll
from textual.widgets import Button, Input, TextArea

from cockpit.tui.insides import Dialog
from cockpit.tui.plain import Plain, plain


class Confirm(Dialog[bool]):
    """Asks to confirm an action that loses something or cannot be undone. The button that cancels has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "Keep", id="dialog.no"),
        Binding("y", "answer(True)", "Do it", id="dialog.yes", show=False),
        Binding("left,right,j,k,up,down", "app.focus_next", "Other button", id="dialog.other", show=False),
    ]

    def __init__(self, title: str, lines: Sequence[str], loses: str, verb: str, command: str) -> None:
        super().__init__()
        self.heading, self.lines, self.loses, self.verb, self.command = title, lines, loses, verb, command

    def compose(self) -> ComposeResult:
        with VerticalGroup(classes="dialog") as dialog:
            dialog.border_title = plain(self.heading)
            with VerticalScroll(classes="lines", can_focus=False):
                yield Plain("\n".join(self.lines))
            yield Plain(self.loses, classes="loses")
            yield Plain(self.command, classes="command")
            with Horizontal(classes="buttons"):
                yield Button("Keep", id="no", compact=True)
                yield Button(plain(self.verb), id="yes", variant="error", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Close with this answer."""
        self.dismiss(answer)


class Ask(Dialog[str | None]):
    """Asks for a text, on one line or several. Returns None if the user cancels."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="ask.no"),
        Binding("ctrl+s", "save", "Save", id="ask.save", priority=True),
    ]

    def __init__(self, title: str, text: str, hint: str, lines: bool) -> None:
        super().__init__()
        self.heading, self.text, self.hint, self.several = title, text, hint, lines

    def compose(self) -> ComposeResult:
        with VerticalGroup(classes="dialog") as dialog:
            dialog.border_title = plain(self.heading)
            if self.several:
                yield TextArea(self.text, id="text", compact=True)
            else:
                yield Input(self.text, id="text", select_on_focus=False)
            yield Plain(self.hint, classes="loses")

    @on(Input.Submitted)
    def action_save(self) -> None:
        """Close with the text."""
        box = self.query_one("#text")
        self.dismiss(box.text if isinstance(box, TextArea) else box.value if isinstance(box, Input) else None)
