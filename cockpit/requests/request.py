"""A requested experiment: from the options of either front end to its definition."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from cockpit.requests.shared import command_line
from engine.errors import InputError, OptionName, quoted
from engine.plan import presets
from engine.plan.defining import define
from engine.plan.definitions import Definition
from engine.plan.options import DEFINING, OPTIONS, given
from engine.store import adding, labels, queue, titles

NAME = OptionName("name")
SUFFIX = ".toml"  # of experiment files


class Request(msgspec.Struct, frozen=True):
    """A requested experiment: its name, if one was given, and its definition."""

    given_name: str | None
    definition: Definition
    profile_given: bool
    pause_after: int | None = None
    data_names: Mapping[str, str] = msgspec.field(default_factory=dict)  # display names of data sets, by identity

    @property
    def name(self) -> str:
        """The name given, or one made of the contents."""
        return self.given_name or adding.default_name(self.definition)

    def resolved(self, connection: sqlite3.Connection) -> Definition:
        """The definition, with the profile resolved when the experiment was first queued."""
        stored = None if self.profile_given else queue.stored_profile(connection, self.name)
        return structs.replace(self.definition, profile=stored) if stored else self.definition


def add_all(connection: sqlite3.Connection, asked: Sequence[Request], command: str | None = None) -> list[adding.Added]:
    """Queue all of them or none, and record the command: this process's, unless given."""
    additions = [adding.Addition(one.name, one.resolved(connection), one.pause_after) for one in asked]
    found = adding.add_all(connection, additions, command or command_line())
    for identity, title in {pair for one in asked for pair in one.data_names.items()}:
        titles.name_data(connection, identity, title)
    return found


def request_of(requested: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Request:
    """The experiment of options (by their names in Python) and the preset that they may name.

    `defaults` are options that several experiments share: one may ignore some of them. Raises InputError.
    """
    requested = given(requested)
    options = {**given(defaults or {}), **requested}
    named, preset, shrunk, patience = (options.pop(key, None) for key in ("name", "preset", "scale", "pause_after"))
    if not options and preset is None:
        why = "nothing to train: name a preset, as in `cockpit run digits`, or a data set with "
        raise InputError(why, OptionName("source"))
    if named is not None:
        check_name(named)
    if patience is not None:
        patience = OPTIONS["pause_after"].read(patience)
    preset = presets.named(preset) if preset else None
    own = presets.options(preset) if preset else {}
    basis = dict(own)
    if shrunk is not None:
        sizes = presets.scale(shrunk)
        if twice := sizes.options.keys() & options:
            why = f" {shrunk}, and stands in its name: give only one of the two"
            raise InputError(OptionName(min(twice)), " is set by ", OptionName("scale"), why)
        basis |= sizes.options
    if "evaluate" in own and {**basis, **options}["levels"] != own["levels"]:
        del basis["evaluate"]  # which are some of the preset's levels
    definition = define(requested.keys() & DEFINING.keys(), **{**basis, **options})
    if shrunk is not None and named is None:
        named = sizes.of(preset or adding.default_name(definition))
    return Request(named or preset, definition, "profile" in basis | options, patience)


def check_name(name: str) -> None:
    """Raise InputError for a name that other commands could not take or not tell apart."""
    if not name.strip():
        raise InputError(NAME, " is empty: give a name or omit the option")
    if not labels.is_typeable(name):
        why = (
            f" {quoted(name)} cannot be used: up to {labels.LONGEST_NAME} printable characters, no - in front,"
            " no : (`cockpit diff` has NAME:SCOPE), no braces (experiment files have keys in them)"
        )
        raise InputError(NAME, why)
