"""The dialog before workers start: on which cards, or how many workers."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalGroup
from textual.content import Content
from textual.widgets import Button, Input, SelectionList
from textual.widgets.selection_list import Selection

from cockpit.text import words
from cockpit.tui import actions
from cockpit.tui.insides import Dialog
from cockpit.tui.plain import Plain, plain
from engine.machine import devices
from engine.machine.devices import Device, Load
from engine.store import database, workers


@dataclass(frozen=True)
class Offered:
    """The cards of this machine, or its cores if it has none; with their loads, and the cards that have a worker."""

    places: Sequence[Device]
    loads: dict[str, Load]
    taken: frozenset[str]

    @property
    def has_cards(self) -> bool:
        """Whether the machine has cards to choose from."""
        return self.places[0].visible is not None

    def about(self, place: Device) -> str:
        """The load of a card, and whether it has a worker."""
        load = self.loads.get(place.name)
        said = (
            [f"{load.busy:.0%} busy, {words.size(load.memory_used)} of {words.size(load.memory_total)}"] if load else []
        )
        said += ["has a worker"] if place.name in self.taken else []
        return "  ".join([place.name, *said])


def offered(path: Path) -> Offered:
    """The devices to offer for the database at this path."""
    places = devices.usable()
    taken: frozenset[str] = frozenset()
    if path.exists():
        with closing(database.reader(path)) as connection:
            pools = {pool.id for pool in workers.live_pools(connection)}
            taken = frozenset(row.device for row in workers.present(connection) if row.pool in pools)
    loads = {load.device: load for load in devices.Meter(places).read()} if places[0].visible else {}
    return Offered(places, loads, taken)


def command(arguments: Sequence[str], path: Path) -> str:
    """The command that starts workers with these arguments."""
    return actions.command(shlex.join(["cockpit", "work", "--detach", *arguments]), (), path)


def spans(numbers: Sequence[int]) -> str:
    """Numbers as `--devices` takes them: 0-3,6."""
    return ",".join(_spans(numbers))


def _spans(numbers: Sequence[int]) -> Iterator[str]:
    for _, part in groupby(enumerate(numbers), key=lambda one: one[1] - one[0]):
        found = [number for _, number in part]
        yield f"{found[0]}-{found[-1]}" if len(found) > 1 else str(found[0])


class Start(Dialog[list[str] | None]):
    """Asks on which cards to start workers, or how many. Returns arguments of `cockpit work`; None to start none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="start.no"),
        Binding("enter", "start", "Start", id="start.yes", priority=True, tooltip="Start workers on what is chosen"),
        *(
            Binding(str(number), f"card({number})", f"Card {number}", id=f"start.{number}", show=False)
            for number in range(10)
        ),
        Binding("a", "all", "All or none", id="start.all", show=False, tooltip="Choose all cards, or none"),
    ]

    def __init__(self, offered: Offered, path: Path) -> None:
        super().__init__()
        self.offered, self.path = offered, path

    def compose(self) -> ComposeResult:
        with VerticalGroup(classes="dialog") as dialog:
            dialog.border_title = "Start workers on this machine?"
            if self.offered.has_cards:
                free = [place.name not in self.offered.taken for place in self.offered.places]
                yield SelectionList[int](
                    *(Selection(self._prompt(number, is_free), number, is_free) for number, is_free in enumerate(free)),
                    id="cards-to-use",
                    compact=True,
                )
            else:
                yield Plain(f"Workers, one a core (1 to {len(self.offered.places)}):")
                yield Input(str(len(self.offered.places)), type="integer", id="workers-to-start", compact=True)
            yield Plain(id="start-what", classes="loses")
            yield Plain(id="start-command", classes="command")
            with Horizontal(classes="buttons"):
                yield Button("Cancel (esc)", id="no", compact=True)
                yield Button("Start (enter)", id="yes", variant="success", compact=True)

    def on_mount(self) -> None:
        self._say()

    def _prompt(self, number: int, is_chosen: bool) -> Content:
        """A card with a sign for whether it is chosen, which the list itself shows by colour alone."""
        return plain(f"{'✓' if is_chosen else ' '} {self.offered.about(self.offered.places[number])}")

    @on(SelectionList.SelectedChanged)
    def _mark(self) -> None:
        cards = self.query_one(SelectionList)
        for number in range(len(self.offered.places)):
            cards.replace_option_prompt_at_index(number, self._prompt(number, number in cards.selected))
        self._say()

    @on(Input.Changed)
    def _say(self) -> None:
        chosen = self._arguments()
        self.query_one("#start-what", Plain).update(self._what())
        self.query_one("#start-command", Plain).update(command(chosen, self.path) if chosen else "")
        self.query_one("#yes", Button).disabled = not chosen

    def _cards(self) -> list[int]:
        return sorted(self.query_one(SelectionList).selected)

    def _arguments(self) -> list[str]:
        """The arguments of `cockpit work` for the choice; empty if it starts no worker."""
        if self.offered.has_cards:
            cards = self._cards()
            return ["--devices", spans(cards)] if cards and not self._doubled(cards) else []
        text = self.query_one(Input).value
        number = int(text) if text.isdecimal() else 0
        return ["--workers", str(number)] if 1 <= number <= len(self.offered.places) else []

    def _doubled(self, cards: Sequence[int]) -> list[str]:
        return [
            self.offered.places[card].name for card in cards if self.offered.places[card].name in self.offered.taken
        ]

    def _what(self) -> str:
        number = len(self.offered.places)
        if not self.offered.has_cards:
            already = (
                f" {words.count(len(self.offered.taken), 'device')} has workers already." if self.offered.taken else ""
            )
            return f"They train in the background, also after the dashboard is closed.{already}"
        cards = self._cards()
        if doubled := self._doubled(cards):
            return f"{', '.join(doubled)}: a worker is there already. Leave it out."
        chosen = f"cards {spans(cards)} of {number}" if cards else f"no card of {number}"
        return f"{chosen}. Space or a number: choose that card or not, a: all or none"

    def action_card(self, number: int) -> None:
        """Choose a card, or remove it from the choice."""
        if self.offered.has_cards and number < len(self.offered.places):
            self.query_one(SelectionList).toggle(number)

    def action_all(self) -> None:
        """Choose all cards, or none if all are chosen."""
        if self.offered.has_cards:
            cards = self.query_one(SelectionList)
            cards.deselect_all() if len(cards.selected) == len(self.offered.places) else cards.select_all()

    def action_start(self) -> None:
        """Close with the choice, or without if the cancel button has the focus."""
        if self.query_one("#no").has_focus:
            self.dismiss(None)
        elif arguments := self._arguments():
            self.dismiss(arguments)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(self._arguments() or None) if event.button.id == "yes" else self.dismiss(None)
