"""The configuration file: what a person wants of every `cockpit work`, unless the command line says otherwise."""

import os
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

from platformdirs import user_config_path

from engine.errors import InputError, unknown


@dataclass(frozen=True)
class Work:
    """The table `[work]`."""

    notify: str | None = None  # a shell command, called when an experiment has ended
    min_free: float = 1.0  # GiB of the disk, below which nothing is claimed
    per_device: int = 1  # workers on each CUDA device


def path() -> Path:
    """`COCKPIT_CONFIG`, else `cockpit/config.toml` where this system keeps its users' configuration."""
    return Path(os.environ.get("COCKPIT_CONFIG") or user_config_path("cockpit") / "config.toml")


def work() -> Work:
    """What the file says, or the defaults where there is none. Raises InputError, with file and key, if it is wrong."""
    place = path()
    try:
        found = tomllib.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"configuration file {place} cannot be read ({error}): mend or remove it") from None
    _check(place, "table", found, ["work"])
    table = found.get("work", {})
    if not isinstance(table, dict):
        raise InputError(f"configuration file {place}: work must be a table, as in [work]")
    kinds = {field.name.replace("_", "-"): type(field.default) for field in fields(Work)}
    _check(place, "key of [work]", table, kinds)
    for key, value in table.items():
        allowed = {float: (int, float), int: (int,)}.get(kinds[key], (str,))
        if isinstance(value, bool) or not isinstance(value, allowed):
            wanted = "text" if allowed == (str,) else "a whole number" if allowed == (int,) else "a number"
            raise InputError(f"configuration file {place}: {key} of [work] is {value!r}, must be {wanted}")
    return Work(**{key.replace("-", "_"): value for key, value in table.items()})


def _check(place: Path, kind: str, found: dict[str, object], allowed: Collection[str]) -> None:
    for name in found:
        if name not in allowed:
            raise InputError(f"configuration file {place}: {unknown(kind, name, allowed)}")
