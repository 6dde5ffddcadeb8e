"""Where the head of a cluster listens, as a person names it: an address, or a TOML file that holds it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from typer import Option

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
    """What a file says of a cluster; paths are relative to it."""

    address: str
    keys: str | None = None
    paths: dict[str, str] = {}  # where the head has data sets and checkpoints, and where this machine does
    checkpoints: str | None = None  # of the head: a folder that all machines see


class Cluster(NamedTuple):
    """The address of a head, a map of paths (there: here), and the head's shared folder for checkpoints."""

    address: "Address"
    paths: Mapping[str, str]
    checkpoints: Path | None = None


def named(text: str, keys: Path | None) -> Cluster:
    """What a person named. Raises InputError."""
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
            f"cluster file {path}: {error}; it may hold address, keys, checkpoints and a table of paths"
        ) from None
    folder = path.absolute().parent
    address = Address.parse(found.address, keys or (folder / found.keys if found.keys else None))
    shared = folder / found.checkpoints if found.checkpoints is not None else None
    return Cluster(address, found.paths, shared)


def options(cluster: Cluster) -> list[str]:
    """The options of a head's process that its file gives. Raises InputError if they cannot be used."""
    shared = cluster.checkpoints
    if shared is None:
        return []
    if not shared.is_dir() or not os.access(shared, os.W_OK):
        raise InputError(
            f"checkpoints {str(shared)!r} is not a folder that can be written: name one that all machines see"
        )
    return ["--checkpoints", str(shared)]
