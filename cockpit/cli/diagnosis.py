"""The checks of `cockpit doctor`: whether this machine can train, and whether its terminal can show the results.

A check yields findings and never raises: an error is a finding, too.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from cockpit import config
from cockpit.text import hints, words
from engine.datasets import catalog, places
from engine.errors import InputError
from engine.machine import devices, paths, plugins, processes
from engine.store import database, rows, workers

State = Literal["ok", "warning", "problem"]

TORCH_SECONDS = 300.0  # a first import from a slow disk takes minutes
OLDEST_PYTHON, OLDEST_SQLITE = (3, 11), (3, 37)
SAMPLE = ", a sample that never changes"
SCREEN = (80, 24)  # least columns and lines for the dashboard
FREE_BYTES = 10 * 2**30  # free disk space, below which the doctor warns
# File systems on which a write-ahead log is not safe (https://sqlite.org/wal.html).
NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "beegfs", "ceph", "fuse.", "gpfs", "lustre", "ncpfs", "pvfs")

# Runs in a separate process, so that the doctor imports no torch, and a crash during import is a finding.
ASK_TORCH = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda, "cards": []}
for number in range(torch.cuda.device_count()):
    try:
        value = torch.ones(8, 8, device=f"cuda:{number}")
        broken = None if float((value @ value).sum()) == 512.0 else "it multiplies wrongly"
    except Exception as error:
        broken = str(error).strip().splitlines()[0]
    found["cards"].append({"name": torch.cuda.get_device_name(number), "broken": broken})
import torchvision, numpy, safetensors.torch, sklearn, PIL
found["torchvision"] = torchvision.__version__
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Card:
    """A device of torch, with the reason if it cannot be used."""

    name: str
    broken: str | None = None


@dataclass(frozen=True)
class Torch:
    """The result of `ASK_TORCH`: the CUDA version of torch's build, its devices, and versions of packages."""

    cuda: str | None
    cards: tuple[Card, ...] = ()
    torch: str = ""
    torchvision: str = ""


@dataclass(frozen=True)
class Finding:
    """A finding about a `subject`, and what to `do` about it. A problem prevents training."""

    subject: str
    state: State
    said: str
    do: str = ""


def findings(path: Path) -> Iterator[Finding]:
    """The findings of all checks, in order, for the database at `path`."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("torch", _torch),
        ("plug-ins", _plugins),
        ("data", lambda: _data(path)),
        ("database", lambda: _database(path)),
        ("database", lambda: _files(path)),
        ("disk", lambda: _disk(path)),
        ("workers", lambda: _workers(path)),
        ("terminal", _terminal),
        ("configuration", _configuration),
    )
    for subject, check in checks:
        try:
            yield from check()
        except InputError as error:
            yield Finding(subject, "problem", hints.complete(error))
        except Exception as error:  # the doctor must always report
            yield Finding(subject, "warning", f"could not be checked ({type(error).__name__}: {error})")


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    sqlite = f"SQLite {sqlite3.sqlite_version}"
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("python", "problem", f"{version} is too old", "make the environment with Python 3.11 or newer")
    elif sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield Finding("python", "problem", f"its {sqlite} is too old", "take a Python with SQLite 3.37 or newer")
    else:
        yield Finding("python", "ok", f"{version} with {sqlite}, {sys.executable}")


def _plugins() -> Iterator[Finding]:
    """The plug-ins, and whether they can be imported."""
    offered = list(plugins.installed())
    if not offered:
        return
    tried = "import json, sys; from engine.machine import plugins; print(json.dumps(plugins.failures()))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", tried],
        env=processes.environment(),
        capture_output=True,
        text=True,
        timeout=TORCH_SECONDS,
        check=False,
    )
    failures = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    for group, point in offered:
        name = f"{group} {point.name}, of {plugins.version(point)}"
        if why := failures.get(f"{group} {point.name}"):
            yield Finding("plug-ins", "problem", f"{name}, cannot be imported ({why})", "fix or uninstall that package")
        else:
            yield Finding("plug-ins", "ok", name)


def _torch() -> Iterator[Finding]:
    """torch and the other packages of training, and whether torch can use every card."""
    # By default, workers take the cards in this order.
    order = {} if "CUDA_VISIBLE_DEVICES" in os.environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", ASK_TORCH],
            env={**os.environ, **order},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TORCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            "torch", "problem", f"import takes more than {TORCH_SECONDS:.0f} s", "is the disk, or a card, stuck?"
        )
        return
    if done.returncode:
        yield explain(done.returncode, done.stderr)
        yield from _devices(devices.usable(), None)
        return
    found = msgspec.json.decode(done.stdout.splitlines()[-1], type=Torch)
    build = f"built for CUDA {found.cuda}" if found.cuda else "built for CPUs"
    yield Finding("torch", "ok", f"{found.torch}, {build}, with torchvision {found.torchvision}")
    yield from _devices(devices.usable(), found)


def explain(code: int, stderr: str) -> Finding:
    """Why torch or another package of training cannot be imported, from Python's message."""
    last = (stderr.strip().splitlines() or [f"its process ended with {code}"])[-1]
    again = "pip install --upgrade --force-reinstall torch torchvision"
    if "torchvision::" in stderr:
        return Finding("torch", "problem", f"torch and torchvision are not of one release ({last})", again)
    if "ModuleNotFoundError" in last:
        return Finding("torch", "problem", f"a library is missing ({last})", "pip install lottery-cockpit")
    if code < 0:
        return Finding("torch", "problem", f"importing it kills the process (signal {-code})", again)
    return Finding("torch", "problem", f"it cannot be imported ({last})", again)


def _devices(there: list[devices.Device], torch: Torch | None) -> Iterator[Finding]:
    """The devices that workers would use, and whether torch (None: cannot be imported) can use them."""
    if there[0].visible is None:
        yield Finding("devices", "ok", f"no CUDA device: {words.count(len(there), 'CPU core')}, a worker on each")
        if torch and torch.cards:
            yield Finding("devices", "warning", "torch sees a card that the driver's library (NVML) does not list")
        elif unclear := devices.unclear():
            do = "does `nvidia-smi` work? A driver that was updated needs a restart of the machine"
            yield Finding("devices", "warning", unclear, do)
    elif torch and not torch.cuda:
        yield Finding(
            "devices",
            "problem",
            f"{words.count(len(there), 'CUDA device')}, but torch is built for CPUs",
            "install a torch with CUDA (https://pytorch.org), or hide the cards with CUDA_VISIBLE_DEVICES=''",
        )
    else:
        cards = torch.cards if torch else ()
        yield Finding(
            "devices", "ok", f"{words.count(len(there), 'CUDA device')}: {', '.join(card.name for card in cards)}"
        )
        sliced = any(device.is_slice for device in there)  # a process sees one slice at a time
        if torch and len(cards) < len(there) and not sliced:
            said = f"torch sees {len(cards)} of {words.count(len(there), 'CUDA device')}"
            yield Finding(
                "devices", "problem", said, "does the driver fit torch's CUDA? `nvidia-smi` says which it has"
            )
        for number, card in enumerate(cards):
            if card.broken:
                said = f"cuda:{number} ({card.name}) cannot be used: {card.broken}"
                yield Finding("devices", "problem", said, "is another program using it up, or is torch too new for it?")
    if all(device.native_bf16 for device in there):
        yield Finding("bfloat16", "ok", "native: the profile is fast unless --profile says exact")
    else:
        slow = "with --profile fast, which is emulated, a training took 10 times as long on a CPU with AVX2"
        yield Finding("bfloat16", "ok", f"not native here: the profile is exact (float32) by default; {slow}")


def _data(path: Path) -> Iterator[Finding]:
    """The folders of published data sets, the sets found, and missing sets that runs wait for."""
    fetchable = [name for name, facts in catalog.SETS.items() if facts.files]
    there = [name for name in (*fetchable, *catalog.PHOTOGRAPHS) if places.find(name)]
    absent = [name for name in fetchable if name not in there]
    yield Finding("data", "ok", f"folders searched: {', '.join(map(str, places.folders()))}")
    have = f"found: {', '.join(there)}" if there else "no published set found (digits is included)"
    yield Finding(
        "data", "ok", have, f"`cockpit data get {absent[0]}` fetches one of {', '.join(absent)}" if absent else ""
    )
    with suppress(InputError), closing(database.reader(path)) as connection:
        for absence in places.missing(rows.data_sets_wanted(connection)):
            yield Finding("data", "problem", f"runs in the queue need it: {absence}")


def _database(path: Path) -> Iterator[Finding]:
    folder = path.parent
    if not folder.is_dir():
        yield Finding("database", "problem", f"folder {folder} does not exist", "make it, or name another --db")
        return
    kind = file_system(folder)
    if kind and kind.startswith(NETWORK):
        yield Finding(
            "database",
            "warning",
            f"{folder.absolute()} lies on a network file system ({kind}), where SQLite may lock wrongly or lose data",
            "keep it on a disk of this machine: --db, or COCKPIT_DB",
        )
    if not path.exists():
        yield Finding("database", "ok", f"{path} is not there yet: the first `cockpit queue add` makes it")
    elif (schema := database.version(path)) < database.SCHEMA_VERSION:
        said = f"{path} is of schema {schema}, this version has {database.SCHEMA_VERSION}"
        yield Finding("database", "warning", said, "any command that writes migrates it, e.g. `cockpit work --drain`")
    else:
        with closing(database.reader(path)) as connection:
            runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
            sample = connection.execute("SELECT 1 FROM about WHERE key = 'sample'").fetchone()
        size = words.size(path.stat().st_size)
        said = f"{path}: {words.count(runs, 'run')}, {size}, schema {schema}{SAMPLE if sample else ''}"
        yield Finding("database", "ok", said, "`cockpit store check` verifies every record and file")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        what = path if os.access(folder, os.W_OK) else f"the folder {folder.absolute()}"
        yield Finding("database", "problem", f"{what} cannot be written: results can only be read", "name another --db")


def _files(path: Path) -> Iterator[Finding]:
    """Whether workers can write tickets, checkpoints and logs next to the database."""
    files = database.files_folder(path)
    for folder in (files, *(files / name for name in ("tickets", "checkpoints", "logs", "imported"))):
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            what = "cannot be written" if folder.is_dir() else "is no folder"
            yield Finding("database", "problem", f"{folder} {what}: workers stop there", "get write permission")


def file_system(folder: Path) -> str | None:
    """The system's name of the file system of a folder; None if not known."""
    import psutil

    place = folder.resolve()
    mounts = [one for one in psutil.disk_partitions(all=True) if place.is_relative_to(one.mountpoint)]
    return max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else None


def _disk(path: Path) -> Iterator[Finding]:
    """The free space on the disks of the database, its tickets and the data sets."""
    least = config.work().min_free * 2**30
    wanted = {"the database and its tickets": path.absolute().parent, "data sets": places.folders()[0].absolute()}
    for what, folder in wanted.items():
        there = next(one for one in (folder, *folder.parents) if one.is_dir())
        free = shutil.disk_usage(there).free
        said = f"{words.size(free)} free for {what} ({there})"
        if free < least and folder == path.absolute().parent:
            do = "make room (`cockpit store gc` frees what nothing needs), or lower min-free of [work]"
            yield Finding("disk", "problem", f"{said}: below {words.size(least)} no run is started", do)
        elif free < FREE_BYTES:
            yield Finding("disk", "warning", said, "a long chain of a large network takes gigabytes of tickets")
        else:
            yield Finding("disk", "ok", said)


def _workers(path: Path) -> Iterator[Finding]:
    found = []
    with suppress(InputError), closing(database.reader(path)) as connection:
        found = workers.present(connection)
    if found:
        states = ", ".join(f"pid {row.pid} on {words.device(row)} {row.state}" for row in found)
        yield Finding("workers", "ok", states, "`cockpit work --status` says more")
    else:
        yield Finding("workers", "ok", "none at work", "`cockpit work --detach` starts them")


def _terminal() -> Iterator[Finding]:
    columns, lines = shutil.get_terminal_size()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield Finding(
            "terminal", "ok", "none: this is a pipe or a script", "on a terminal `cockpit` opens the dashboard"
        )
    elif columns < SCREEN[0] or lines < SCREEN[1]:
        said = f"{columns}x{lines} is too small for the dashboard"
        yield Finding("terminal", "warning", said, f"make it {SCREEN[0]}x{SCREEN[1]} or larger")
    else:
        yield Finding("terminal", "ok", f"{columns}x{lines}, {_colours()}")
    encoding = sys.stdout.encoding or "unknown"
    if "utf" not in encoding.lower():
        do = "set a UTF-8 locale, as in LANG=C.UTF-8 (on Windows: PYTHONUTF8=1)"
        yield Finding("terminal", "warning", f"its encoding is {encoding}: charts need Unicode", do)


def _colours() -> str:
    if "NO_COLOR" in os.environ:
        return "no colours (NO_COLOR is set)"
    term, depth = os.environ.get("TERM", "unknown"), os.environ.get("COLORTERM", "")
    count = (
        "16 million"
        if depth in ("truecolor", "24bit")
        else "256"
        if "256" in term
        else "16"
        if term != "dumb"
        else "no"
    )
    return f"{count} colours (TERM={term})"


def _configuration() -> Iterator[Finding]:
    path = config.path()
    if not path.exists():
        yield Finding("configuration", "ok", f"no file {path}: all settings have their defaults")
        return
    try:
        config.work()
        folder = config.data().folder
    except InputError as error:
        yield Finding("configuration", "problem", hints.complete(error), "fix or remove the file")
        return
    try:
        from cockpit.tui import keys
        from cockpit.tui.app import Cockpit

        Cockpit(Path(), theme=config.screen().theme, keys=keys.chosen())
    except InputError as error:
        yield Finding("configuration", "warning", f"the dashboard will not open: {error}", "fix or remove the file")
        return
    if folder and not paths.given(folder).is_dir():
        said = f"folder of [data] is {folder}, which does not exist"
        yield Finding("configuration", "warning", said, "make it, or change the file")
        return
    yield Finding("configuration", "ok", str(path))
