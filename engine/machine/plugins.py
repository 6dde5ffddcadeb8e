"""What packages of others add: pruning criteria, kinds of random tickets, optimizers, schedules, models, data sets.

A package offers one as an entry point of a group `lottery_cockpit.*` (`docs/extending.md`). Listing them imports none.
In a run's identity one is called `NAME@DISTRIBUTION==VERSION`, so that another version makes another run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.errors import InputError, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PREFIX = "lottery_cockpit."


@dataclass(frozen=True)
class Door:
    """One group of entry points, and what this program brings along of its kind."""

    group: str
    what: str  # in messages
    built_in: Mapping[str, str]  # name -> module:attribute

    @property
    def offered(self) -> "dict[str, EntryPoint]":
        """What installed packages offer, by name. A name of ours stays ours."""
        return {point.name: point for point in _installed(PREFIX + self.group) if point.name not in self.built_in}

    def names(self) -> tuple[str, ...]:
        """All names, ours first."""
        return (*self.built_in, *sorted(self.offered))

    def identity(self, name: str, option: object = "") -> str:
        """What a name stands for in a run. Raises InputError for a name that nobody offers, given as `option`."""
        if name in self.built_in:
            return name
        if point := self.offered.get(name):
            return f"{name}@{version(point)}"
        if "@" in name and self._point(name):
            return name
        raise unknown(option or self.what, name, self.names())

    def load(self, identity: str) -> Any:
        """The object behind an identity. Raises InputError where it is missing, of another version, or fails."""
        if identity in self.built_in:
            import pkgutil

            return pkgutil.resolve_name(self.built_in[identity])
        point = self._point(identity)
        try:
            return point.load()
        except Exception as error:  # importing somebody's module may raise anything
            raise InputError(
                f"{self.what} {point.name!r} of {version(point)} cannot be imported ({type(error).__name__}: {error}):"
                " mend or reinstall that package"
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
    """Whether an identity is that of a plug-in."""
    return "@" in identity


def installed() -> "Iterator[tuple[str, EntryPoint]]":
    """Every entry point in a group of ours, with the group's name."""
    from importlib.metadata import entry_points

    for group in sorted(entry_points().groups):
        if group.startswith(PREFIX):
            yield from ((group.removeprefix(PREFIX), point) for point in _installed(group))


def failures() -> dict[str, str]:
    """Why plug-ins cannot be imported, by group and name; this imports all of them."""
    found = {}
    for group, point in installed():
        try:
            point.load()
        except Exception as error:  # whatever somebody's module raises
            found[f"{group} {point.name}"] = f"{type(error).__name__}: {error}"
    return found


def forget() -> None:
    """Look anew at what is installed."""
    _installed.cache_clear()


@cache
def _installed(group: str) -> "tuple[EntryPoint, ...]":
    from importlib.metadata import entry_points  # which takes longer to import than most commands take

    return tuple(entry_points(group=group))


def version(point: "EntryPoint") -> str:
    """The distribution of an entry point, and its version."""
    return f"{point.dist.name}=={point.dist.version}" if point.dist else "an unknown distribution"
