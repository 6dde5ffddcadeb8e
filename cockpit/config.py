"""The configuration file: the user's defaults for workers, data and the dashboard."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import structs
from platformdirs import user_config_path

from engine.errors import InputError, Range, quoted, unknown
from engine.machine import paths
from engine.machine.devices import PER_DEVICE

MIN_FREE = Range(0, 10**6)  # GiB
RANGES = {"min-free": MIN_FREE, "per-device": PER_DEVICE}


class Work(msgspec.Struct, frozen=True):
    """The table `[work]`."""

    notify: str | None = None  # a shell command, called when an experiment has ended
    min_free: float = 1.0  # GiB of disk, below which no run is claimed
    per_device: int = 1  # workers on each CUDA device


class Screen(msgspec.Struct, frozen=True):
    """The table `[screen]`."""

    theme: str | None = None  # of the dashboard; ctrl+p offers them


class Data(msgspec.Struct, frozen=True):
    """The table `[data]`."""

    folder: str | None = None  # searched for the published data sets


Table = TypeVar("Table", Work, Screen, Data)


def path() -> Path:
    """`COCKPIT_CONFIG`, else `cockpit/config.toml` in the system's folder for user configuration."""
    named = os.environ.get("COCKPIT_CONFIG")
    return paths.given(named, "COCKPIT_CONFIG") if named else Path(user_config_path("cockpit") / "config.toml")


def work() -> Work:
    """The settings of workers. Raises InputError for a wrong file."""
    return _read(Work)


def screen() -> Screen:
    """The settings of the dashboard. Raises InputError for a wrong file."""
    return _read(Screen)


def data() -> Data:
    """The settings of data sets. Raises InputError for a wrong file."""
    found, where = _read(Data), f"configuration file {path()}: folder of [data]"
    if found.folder and os.pathsep in found.folder:
        raise InputError(f"{where} is {quoted(found.folder)}, must be one folder, without {os.pathsep!r} in its name")
    try:
        paths.given(found.folder or "")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return found


def keys(bindings: Collection[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """The keys of bindings, by id; `renamed` has the new ids of old ones. Raises InputError for an unknown id."""
    found = {renamed.get(id, id): value for id, value in _flat(_table("keys")).items()}
    _check(path(), "binding of [keys]", found, bindings)
    for id, value in found.items():
        if not isinstance(value, str):
            raise InputError(f"configuration file {path()}: {id} of [keys] is {quoted(value)}, must be a key, as text")
    return {id: str(value) for id, value in found.items()}


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested tables as dotted names: TOML reads dotted keys without quotes as tables."""
    found: dict[str, object] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _read(kind: type[Table]) -> Table:
    """A table of the file, by default with all defaults. Raises InputError, with file and key, if it is wrong."""
    place, name = path(), kind.__name__.lower()
    table = _table(name)
    if not table:
        return kind()
    from cockpit.text.toml import mismatch

    known = {field.name.replace("_", "-"): field for field in structs.fields(kind)}
    _check(place, f"key of [{name}]", table, known)
    for key, value in table.items():
        where = f"configuration file {place}: {key} of [{name}]"
        if wanted := mismatch(value, type(known[key].default)):
            raise InputError(f"{where} is {quoted(value)}, must be {wanted}")
        if allowed := RANGES.get(key):
            allowed.check(where, value)
    return kind(**{key.replace("-", "_"): value for key, value in table.items()})


def _table(name: str) -> dict[str, Any]:
    """A table of the file; empty if it is missing."""
    place = path()
    if not os.path.lexists(place):
        return {}
    from cockpit.text.toml import read  # imported here, as it takes longer than the rest

    found = read(place, "configuration file")[1]
    _check(place, "table", found, ["work", "screen", "data", "keys"])
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"configuration file {place}: {name} must be a table, as in [{name}]")
    return table


def _check(place: Path, kind: str, found: dict[str, object], allowed: Collection[str]) -> None:
    for name in found:
        if name not in allowed:
            raise InputError(f"configuration file {place}: {unknown(kind, name, allowed)}")
