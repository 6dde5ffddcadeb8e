"""Memory: limiting what this process takes, and telling that some has run out, in each library's own words."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import InputError, OptionName

SHARE = 0.75  # of the memory that is free, for a process that looks at what a person gave
_CGROUP = Path("/sys/fs/cgroup")

WORDS = re.compile(
    r"out[ _]of[ _]memory"  # the allocators of CUDA, ROCm and Apple; the driver, also of a graph; NCCL
    r"|unable to find an engine"  # cuDNN's convolutions, none of which got its workspace: torch says no more
    r"|(can't|cannot|could not|failed to) allocate memory|not enough memory"  # torch's on the host; the system
    r"|ALLOC(ATION)?_FAILED"  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT
    r"|NOT_INITIALIZED when calling \W*cublasCreate",  # cuBLAS, when there is no room for its handle
    re.IGNORECASE,
)


def ran_out(error: BaseException) -> bool:
    """Whether a device, or the host, had no memory left: the error says so, or one in whose wake it was raised."""
    return any(isinstance(each, MemoryError) or _says(each) for each in wake(error))


def _says(error: BaseException) -> bool:
    # By class, too: what a person named so may be in the message of another error.
    return isinstance(error, RuntimeError | OSError) and WORDS.search(str(error)) is not None


def wake(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those in whose wake it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@contextmanager
def limited(what: str) -> Iterator[None]:
    """Let this process take no more than most of the memory that is free; `what` takes it, for the error.

    What is limited is data, as address space would be too much: builds of torch for CUDA reserve far more of it than
    they use. Raises InputError where the limit is reached. It stays: the process ends after this.
    """
    limit = int(free() * SHARE)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(ValueError, OSError):  # there is a lower one
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        raise InputError(
            f"{what} needs more memory than it may take here ({limit / 2**30:.1f} GiB, {SHARE:.0%} of what is free):"
            " choose a smaller ",
            OptionName("width"),
            ", or a machine with more memory",
        ) from error


def free() -> int:
    """The bytes of memory that this machine, or this container, has left."""
    import psutil

    found = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no container, or none with a limit
        most, used = ((_CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        found = min(found, max(0, int(most) - int(used)))
    return found
