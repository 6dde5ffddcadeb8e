"""What is asked before something is done: whether, and with which words."""

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
    """Whether to do something that takes something away, or that nothing takes back.

    The focus is on the button that leaves all as it is.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "Leave as is", id="dialog.no"),
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
                yield Button("Leave as is", id="no", compact=True)
                yield Button(plain(self.verb), id="yes", variant="error", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Close with this answer."""
        self.dismiss(answer)


class Ask(Dialog[str | None]):
    """A text, on one line or on several; None if it was given up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave as is", id="ask.no"),
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
