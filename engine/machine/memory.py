"""Memory: limiting this process, and recognising errors of exhausted memory from each library."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import InputError, OptionName

SHARE = 0.75  # of free memory, for a process that runs a user's model
_CGROUP = Path("/sys/fs/cgroup")

WORDS = re.compile(
    r"out[ _]of[ _]memory"  # the allocators of CUDA, ROCm and Apple; the driver, also for a graph; NCCL
    r"|unable to find an engine"  # cuDNN's convolutions without memory for a workspace; torch says no more
    r"|(can't|cannot|could not|failed to) allocate memory|not enough memory"  # torch on the host; the system
    r"|ALLOC(ATION)?_FAILED"  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT
    r"|NOT_INITIALIZED when calling \W*cublasCreate",  # cuBLAS without memory for its handle
    re.IGNORECASE,
)


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that a device or the host has no memory left."""
    return any(isinstance(each, MemoryError) or _says(each) for each in causes(error))


def _says(error: BaseException) -> bool:
    # Checks the class as well, because other errors may contain such words in a name that the user gave.
    return isinstance(error, RuntimeError | OSError) and WORDS.search(str(error)) is not None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the errors that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@contextmanager
def limited(what: str) -> Iterator[None]:
    """Limit this process to `SHARE` of the free memory. Raises InputError about `what` if that is not enough.

    The limit is on data, because builds of torch for CUDA reserve far more address space than they use. It stays in
    force afterwards: call this in a process that ends then.
    """
    limit = int(free() * SHARE)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(ValueError, OSError):  # a lower limit is in force
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
    """The free memory of this machine or container, in bytes."""
    import psutil

    available = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no container, or none with a limit
        most, used = ((_CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        available = min(available, max(0, int(most) - int(used)))
    return available
