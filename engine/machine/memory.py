"""Telling that memory has run out: the allocator, the driver and each library of a device have words of their own."""

import re
from collections.abc import Iterator

WORDS = re.compile(
    r"out of memory"  # the allocators of CUDA, ROCm and Apple; the driver, when a graph is instantiated, too; NCCL
    r"|(can't|cannot|could not|failed to) allocate memory|not enough memory"  # torch's on the host; the system
    r"|ALLOC(ATION)?_FAILED"  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT
    r"|NOT_INITIALIZED when calling \W*cublasCreate",  # cuBLAS, when there is no room for its handle
    re.IGNORECASE,
)


def ran_out(error: BaseException) -> bool:
    """Whether a device, or the host, had no memory left: the error says so, or one in whose wake it was raised."""
    return any(isinstance(each, MemoryError) or _says(each) for each in _wake(error))


def _says(error: BaseException) -> bool:
    # By class, too: what a person named so may be in the message of another error.
    return isinstance(error, RuntimeError | OSError) and WORDS.search(str(error)) is not None


def _wake(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
