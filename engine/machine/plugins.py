"""Plug-ins: pruning criteria, kinds of random tickets, optimizers, schedules, models and data sets of other packages.

A package offers a plug-in as an entry point of a group `lottery_cockpit.*` (`docs/extending.md`). Listing plug-ins
imports none. In a run's identity its name is `NAME@DISTRIBUTION==VERSION`, so that another version makes another run.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from engine.errors import InputError, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PREFIX = "lottery_cockpit."


class Door(msgspec.Struct, frozen=True):
    """A group of entry points, and the built-in objects of its kind."""

    group: str
    what: str  # the kind, in messages
    built_in: Mapping[str, str]  # name -> module:attribute

    @property
    def offered(self) -> "dict[str, EntryPoint]":
        """The entry points of installed packages by name, without those that have a built-in name."""
        return {point.name: point for point in _installed(PREFIX + self.group) if point.name not in self.built_in}

    def names(self) -> tuple[str, ...]:
        """All names, the built-in ones first."""
        return (*self.built_in, *sorted(self.offered))

    def identity(self, name: str, option: object = "") -> str:
        """The identity of a name, for recipes. Raises InputError about `option` for a name that is not installed."""
        if name in self.built_in:
            return name
        if point := self.offered.get(name):
            return f"{name}@{version(point)}"
        if "@" in name and self._point(name):
            return name
        raise unknown(option or self.what, name, self.names())

    def load(self, identity: str) -> Any:
        """Import the object of an identity. Raises InputError if it is missing, of another version, or fails."""
        if identity in self.built_in:
            import pkgutil

            return pkgutil.resolve_name(self.built_in[identity])
        point = self._point(identity)
        try:
            return point.load()
        except Exception as error:  # importing a plug-in may raise anything
            raise InputError(
                f"{self.what} {point.name!r} of {version(point)} cannot be imported ({type(error).__name__}: {error}):"
                " fix or reinstall that package"
            ) from error

    def _point(self, identity: str) -> "EntryPoint":
        name, _, wanted = identity.partition("@")
        point = self.offered.get(name)
        if point is None:
            raise InputError(f"{self.what} {name!r} is not installed here: pip install '{wanted or name}'")
        if version(point) != wanted:
            raise InputError(
                f"{self.what} {name!r} of {wanted} is wanted, {version(point)} is installed: pip install '{wanted}'"
            )
        return point


def is_plugin(identity: str) -> bool:
    """Whether an identity belongs to a plug-in."""
    return "@" in identity


def installed() -> "Iterator[tuple[str, EntryPoint]]":
    """All entry points of cockpit's groups, each with the group's name."""
    from importlib.metadata import entry_points

    for group in sorted(entry_points().groups):
        if group.startswith(PREFIX):
            yield from ((group.removeprefix(PREFIX), point) for point in _installed(group))


def failures() -> dict[str, str]:
    """Import all plug-ins; returns the errors of those that fail, by group and name."""
    errors = {}
    for group, point in installed():
        try:
            point.load()
        except Exception as error:  # importing a plug-in may raise anything
            errors[f"{group} {point.name}"] = f"{type(error).__name__}: {error}"
    return errors


def forget() -> None:
    """Forget the installed entry points, so that they are read again."""
    _installed.cache_clear()


@cache
def _installed(group: str) -> "tuple[EntryPoint, ...]":
    from importlib.metadata import entry_points  # imported here, as it takes longer than most commands

    return tuple(entry_points(group=group))


def version(point: "EntryPoint") -> str:
    """The distribution and version of an entry point, as NAME==VERSION."""
    return f"{point.dist.name}=={point.dist.version}" if point.dist else "an unknown distribution"
