"""The address of a cluster's head, as users give it: an address, or a TOML file with it."""

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta
from typer import Option

from cockpit.text import words
from engine.errors import InputError
from engine.machine.paths import given

if TYPE_CHECKING:
    from engine.desk.wire import Address

Keys = Annotated[
    Path | None,
    Option(
        parser=given,
        metavar="DIR",
        help="Folder of keys that `cockpit cluster keys` made, for a tls:// address.",
        show_default=False,
    ),
]


class ClusterFile(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a cluster file; its paths are relative to it."""

    address: str
    keys: str | None = None
    paths: dict[str, str] = {}  # folders of data sets and checkpoints: the head's -> this machine's
    # Of the head: a folder that all machines see; a command that starts a machine which joins, for how many at most,
    # and how long one may be idle.
    checkpoints: str | None = None
    start: str | None = None
    most: Annotated[int, Meta(ge=1, le=1000)] = 1
    idle: str = "10min"


class Cluster(NamedTuple):
    """The address of a head, a map of paths (there: here), and the file that named it, if one did."""

    address: "Address"
    paths: Mapping[str, str]
    file: ClusterFile | None = None
    path: Path = Path()  # of that file

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self.path.parent

    @property
    def is_withdrawn(self) -> bool:
        """Whether the file is gone, which a head removes when it is stopped."""
        return self.file is not None and not self.path.exists()


def named(text: str, keys: Path | None) -> Cluster:
    """The cluster that the user named. Raises InputError."""
    from cockpit.text import toml
    from engine.desk.wire import Address

    if "://" in text:
        return Cluster(Address.parse(text, keys), {})
    path = given(text)
    if not path.is_file():
        raise InputError(
            f"cluster {text!r} is neither an address, like tls://HOST:8786, nor a file that holds one: name either"
        )
    try:
        found = msgspec.convert(toml.read(path, "cluster file")[1], ClusterFile)
    except msgspec.ValidationError as error:
        raise InputError(
            f"cluster file {path}: {error}; it may hold address, keys, checkpoints, start,"
            " most, idle and a table of paths"
        ) from None
    path = path.absolute()
    address = Address.parse(found.address, keys or (path.parent / found.keys if found.keys else None))
    return Cluster(address, found.paths, found, path)


def options(cluster: Cluster) -> list[str]:
    """The options of a head's process that its file gives. Raises InputError if they cannot be used."""
    found, given = cluster.file, list[str]()
    if found and found.checkpoints is not None:
        shared = cluster.folder / found.checkpoints
        if not shared.is_dir() or not os.access(shared, os.W_OK):
            raise InputError(
                f"checkpoints {str(shared)!r} is not a folder that can be written: name one that all machines see"
            )
        given += ["--checkpoints", str(shared)]
    if found and found.start is not None:
        from engine.desk import starting

        plan = starting.Plan(
            _command(found.start, cluster.folder), str(cluster.folder), found.most, _seconds(found.idle)
        )
        given += ["--start", starting.write(plan)]
    return given


def _command(text: str, folder: Path) -> list[str]:
    """The arguments of a command, which no shell reads."""
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise InputError(f"start {text!r} is not understood ({error}): write it as for a shell") from None
    if not found or not (shutil.which(found[0]) or os.access(folder / found[0], os.X_OK)):
        raise InputError(f"start {text!r} names no program of this machine: give one, such as srun or ssh, first")
    return found


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})\s*(s|min|h)", text.strip())
    if not found:
        raise InputError(f"idle {text!r} is not understood: give a time as in 90s, 10min or 2h")
    return float(found[1]) * dict(words.UNITS)[found[2]]
