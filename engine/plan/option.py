"""The type of an option of an experiment: name, kind, range, choices, default and help. No torch."""

from collections.abc import Callable
from typing import Any

import msgspec

from engine.errors import InputError, OptionName, Range, chosen
from engine.machine.plugins import Door, is_plugin

YES, NO = ("yes", "true"), ("no", "false")  # the texts of a boolean option
SAID = (*YES, *NO)


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """An option of an experiment. `help` is a noun phrase, or sentences without the last full stop."""

    name: str  # in Python; `written` and `spoken` replace each _
    panel: str  # of `--help`
    help: str
    kind: type[str] | type[int] | type[float] | type[bool] = str
    several: bool = False
    choices: tuple[str, ...] = ()  # the values allowed; if `open`, some of them
    door: Door | None = None  # for plug-ins that add values
    open: bool = False
    data_set: bool = False  # takes specs of data sets, which may contain a path
    range: Range | None = None
    reads: Callable[[str, Any], Any] | None = None  # converts a text to what `define` uses; returns that unchanged
    default: Any = None  # None: depends on other options, as `otherwise` says
    otherwise: str = ""
    defines: bool = True  # `engine.plan.defining.define` takes it
    field: str = ""  # of the definition, if its name differs from the option's
    identity: bool = True  # a run's digest may depend on it
    more: str = ""  # help for `queue extend`; empty if that does not take it

    @property
    def written(self) -> str:
        """Its name in experiment files and, after --, on the command line."""
        return self.name.replace("_", "-")

    @property
    def spoken(self) -> str:
        """Its name in a form."""
        return self.name.replace("_", " ")

    @property
    def default_text(self) -> str:
        """The default in words."""
        if self.kind is bool:
            return "yes" if self.default else "no"
        default = [self.default] if isinstance(self.default, str | int | float) else self.default or ()
        return self.otherwise or ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in default)

    def read(self, value: Any) -> Any:
        """The value that `define` uses, from one of the option's kind. Raises InputError if it is not allowed."""
        name = OptionName(self.name)
        if self.reads is not None:
            return self.reads(name, value)
        if self.range is not None:
            self.range.check(name, value)
        if self.choices and not self.open:
            if self.several:
                return tuple(dict.fromkeys(self._chosen(name, one) for one in value))
            return self._chosen(name, value)
        return tuple(value) if self.several else self.kind(value) if self.kind is not int else value

    def _chosen(self, name: OptionName, value: str) -> str:
        if self.door is None or value.casefold() in self.choices:
            return chosen(name, value, self.choices)
        offered = self.door.offered
        if value in offered or is_plugin(value):
            return self.door.identity(value, name)
        return chosen(name, value, (*self.choices, *sorted(offered)))

    def parsed(self, text: str) -> Any:
        """The value of a typed text; several are separated by commas. Raises InputError for text that is no number."""
        if self.several:
            return [part.strip() for part in text.split(",") if part.strip()]
        if self.kind is bool:
            return chosen(OptionName(self.name), text.strip(), SAID) in YES
        try:
            return self.kind(text.strip())
        except ValueError:
            wanted = "a whole number" if self.kind is int else "a number"
            raise InputError(OptionName(self.name), f" {text.strip()!r} is not {wanted}") from None
