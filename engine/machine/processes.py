"""Starting cockpit's Python processes, identifying them, and telling whether one has ended."""

import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from msgspec import structs

from engine.errors import InputError

ROOT = Path(__file__).parents[2]
_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
Answer = TypeVar("Answer")


class Place(msgspec.Struct, frozen=True):
    """Where a pid is unique: a host since its boot, and a pid namespace (of a container). None: not known."""

    host: str
    boot: str | None
    pid_namespace: str | None

    @property
    def is_told(self) -> bool:
        """Whether a pid of this place identifies a process."""
        return None not in (self.boot, self.pid_namespace)


class Identity(msgspec.Struct, frozen=True):
    """The identity of a process: the columns of workers and pools that `alive` reads."""

    pid: int
    process_started: float | None
    host: str
    boot: str | None
    pid_namespace: str | None


class Process(Protocol):
    """An `Identity`, or a row with its columns."""

    @property
    def pid(self) -> int | None: ...
    @property
    def process_started(self) -> float | None: ...
    @property
    def host(self) -> str | None: ...
    @property
    def boot(self) -> str | None: ...
    @property
    def pid_namespace(self) -> str | None: ...


def python(module: str) -> list[str]:
    """The command that runs a module of this project. -P: the current folder's files are not imported."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The environment for `python`, in which this project is found even in a checkout."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)}


def ask(kind: type[Answer], module: str, *arguments: object) -> Answer:
    """Run a module of this project in a separate process; returns its `answer` as a value of this type.

    It lets commands that import no torch use modules that do. The process's stderr is passed on. Raises the InputError
    that was raised there, and InputError if the process gave no answer.
    """
    import json

    done = subprocess.run(
        [*python(module), *map(str, arguments)], env=environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        raise InputError(f"{module} {_ending(done.returncode)}") from None
    if "error" in reply:
        raise InputError.from_json(reply["error"])
    return msgspec.convert(reply["answer"], kind)


def _ending(code: int) -> str:
    """How a process without an answer ended, as text. Libraries abort and Linux kills when memory has run out."""
    if code >= 0:
        return f"ended with code {code} and no answer"
    with suppress(ValueError):  # a real-time signal has no name
        likely = -code in (signal.SIGABRT, signal.SIGKILL)
        return f"was ended by {signal.Signals(-code).name}" + (": its memory ran out, most likely" if likely else "")
    return f"was ended by signal {-code}"


def answer(find: Callable[[], object]) -> None:
    """In a process started by `ask`: print the result of `find`, or its InputError or OSError, as JSON on stdout."""
    import json

    try:
        print(json.dumps({"answer": msgspec.to_builtins(find())}))
    except InputError as error:
        print(json.dumps({"error": error.to_json()}))
    except OSError as error:
        problem = InputError(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")
        print(json.dumps({"error": problem.to_json()}))
    except KeyboardInterrupt:
        sys.exit(130)


HALTED = 3  # exit code of a worker that cannot use its database, so that a replacement could not, either
RENEWED = 4  # of a worker whose process cannot train any more and must be replaced
UNRECORDED = 5  # the same, but its replacement should not record steps as CUDA graphs
HALT = "halted: "  # precedes the reason in the worker's log


def say(line: str) -> None:
    """Print a line to the worker's log, unless it repeats the last one. On a full disk the line is lost."""
    if line in _last:
        return
    _last[:] = [line]
    with suppress(OSError):
        print(line, flush=True)


_spent: list[int] = []
_last: list[str] = []  # the last line of `say`


def spend(why: str, code: int = RENEWED) -> None:
    """End this worker with this code after its run, because the state of a library in it may be broken."""
    say(f"this process trains nothing more after this run: {why}")
    _spent.append(code)


def spent() -> int | None:
    """The exit code given to `spend`; None while this process may train further runs."""
    return _spent[0] if _spent else None


def place() -> Place:
    """The place of this process. Systems without boot ids are identified by host name."""
    host, boot, pid_namespace = platform.node(), None, None
    if not _PROC.exists():
        return Place(host, host, "")
    with suppress(OSError):
        if os.readlink(_PROC / "self") == str(os.getpid()):  # else /proc shows another namespace
            pid_namespace = os.readlink(_PROC / "self/ns/pid")
            boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else host
    return Place(host, boot, pid_namespace)


def check_told() -> None:
    """Raise InputError in a container whose /proc identifies no process, not even one just started."""
    if not place().is_told:
        raise InputError(
            "this container's /proc shows other processes than its own, so background workers cannot be told: mount"
            " its own (`mount -t proc proc /proc`), or run `cockpit work` in the foreground, which Ctrl-C stops"
        )


def identity(pid: int | None = None) -> Identity:
    """The identity of a process of this place, by default this process."""
    pid, here = os.getpid() if pid is None else pid, place()
    return Identity(pid, _look(pid)[1] if here.is_told else None, **structs.asdict(here))


def alive(process: Process) -> bool | None:
    """Whether a process runs; None if it is of another place, for which only its lease counts."""
    here = place()
    if not here.is_told or any(getattr(process, name) != value for name, value in structs.asdict(here).items()):
        return None
    try:
        state, started = _look(process.pid or 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # hidden: it belongs to another user
        return True
    return state != "Z" and started == process.process_started


def mark() -> str:
    """A unique ending for the name of a temporary file, from which `marked_alive` finds this process."""
    return f"{_short(place())}-{os.getpid()}-{os.urandom(4).hex()}"


def is_mark(word: str) -> bool:
    """Whether a word is a `mark`, or a bare pid, which version 0.1.0 used."""
    return re.fullmatch(r"([0-9a-z]+-)?[0-9]+(-[0-9a-f]+)?", word) is not None


def marked_alive(mark: str) -> bool | None:
    """Whether the process with this `mark` runs; None if this place cannot tell."""
    here, _, rest = mark.partition("-")
    if not place().is_told or here != _short(place()):
        return None
    try:
        return _look(int(rest.partition("-")[0]))[0] != "Z"
    except ProcessLookupError:
        return False
    except PermissionError:
        return True


def _short(here: Place) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(structs.asdict(here), sort_keys=True).encode()).hexdigest()[:8]


def _look(pid: int) -> tuple[str, float]:
    """The state of a process (Z: ended), and its start in seconds since boot. See proc_pid_stat(5)."""
    try:
        stat = (_PROC / f"{pid}/stat").read_bytes()
    except FileNotFoundError:
        return _look_elsewhere(pid)
    fields = stat.rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _look_elsewhere(pid: int) -> tuple[str, float]:
    """The same if /proc does not show the process or does not exist."""
    import psutil

    if _PROC.exists():
        with suppress(OverflowError):  # too large for a pid
            if psutil.pid_exists(pid):
                raise PermissionError
        raise ProcessLookupError
    try:
        process = psutil.Process(pid)
        return "Z" if process.status() == psutil.STATUS_ZOMBIE else "R", float(process.create_time())
    except psutil.NoSuchProcess:
        raise ProcessLookupError from None
    except psutil.AccessDenied:
        raise PermissionError from None


def has_open(pid: int, path: Path) -> bool:
    """Whether the process of this pid, or one that it started, has a file open; True if that is not known."""
    import psutil

    try:
        process = psutil.Process(pid)
        files = {file.path for one in (process, *process.children(recursive=True)) for file in one.open_files()}
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # has just ended, or is another user's
        return True
    return str(path.resolve()) in files
