"""The folders searched for published data sets, and errors about missing sets. No torch."""

import os
from collections.abc import Iterable
from pathlib import Path

from engine.datasets.catalog import PHOTOGRAPHS, SETS, split_part
from engine.errors import InputError, OptionName
from engine.machine import paths

VARIABLE = "COCKPIT_DATA"


def folders() -> list[Path]:
    """The folders searched, in order: those of `COCKPIT_DATA`, separated as in `PATH`, then the user's cache."""
    from platformdirs import user_cache_path

    named = [paths.given(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return list(dict.fromkeys([*named, user_cache_path("cockpit") / "data"]))


def find(name: str) -> Path | None:
    """The first folder that has all files of a published set; None if no folder has them."""
    return next((folder for folder in folders() if not _lacking(name, folder)), None)


def size(name: str, folder: Path) -> int:
    """The size of the files of a published set, in bytes."""
    return sum((folder / file).stat().st_size for file in SETS[name].files)


def missing(identities: Iterable[str]) -> list[InputError]:
    """An error for each published set among these, or whose part is among them, that no folder has."""
    names = dict.fromkeys(split_part(identity)[0] for identity in identities)
    return [absent(name) for name in names if name in (*SETS, *PHOTOGRAPHS) and find(name) is None]


def absent(name: str) -> InputError:
    """The error for a published set that no folder has: the folders searched, and the ways to get it."""
    if name in PHOTOGRAPHS:
        below = PHOTOGRAPHS[name].folder
        return InputError(
            f"data set {name} is not on this machine; searched: {', '.join(map(str, folders()))}. Get it from its"
            f" publisher, unpack it as {below}/train/CLASS/ and {below}/val/CLASS/ in one of these folders, or say"
            " where that is with ",
            OptionName("data_dir"),
            f" or {VARIABLE}; photographs of your own are stream:PATH",
        )
    files = SETS[name].files
    searched = []
    for folder in folders():
        lacking = _lacking(name, folder)
        some = f" (which lacks {', '.join(lacking)})" if len(lacking) < len(files) else ""
        searched.append(f"{folder}{some}")
    parents = {str(Path(file).parent) for file in files} - {"."}
    what = " and ".join(sorted(parents) or files)
    return InputError(
        f"data set {name} is not on this machine; searched: {', '.join(searched)}. Get it with `cockpit data get"
        f" {name}`, or copy {what} into one of these folders, or say where it is with ",
        OptionName("data_dir"),
        f" or {VARIABLE}, or name a file of your own as npz:PATH",
    )


def lost(name: str, identity: str, location: str) -> InputError:
    """The error for one of the user's data sets whose file or folder is missing, or was never known here."""
    kind = identity.partition(":")[0]
    where = f"is gone from {location}: put it back, or" if location else "has no known place on this machine:"
    return InputError(
        f"data set {name} {where} name where it is with `cockpit data locate {kind}:PATH`; its content is compared,"
        " so path and name may be others"
    )


def _lacking(name: str, folder: Path) -> list[str]:
    if name in PHOTOGRAPHS:
        return [] if (folder / PHOTOGRAPHS[name].folder).is_dir() else [PHOTOGRAPHS[name].folder]
    return [file for file in SETS[name].files if not (folder / file).is_file()]
