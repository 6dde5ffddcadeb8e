"""Recognising errors of exhausted memory by the libraries' messages."""

import errno
import os

import pytest
import torch

from engine.errors import InputError
from engine.machine import memory

SAID = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    torch.distributed.DistBackendError("NCCL error ... Last error:\nCuda failure 2 'out of memory'"),
    RuntimeError("HIP error: out of memory"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.92 GB, max allowed: 18.13 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("unable to mmap 2408448 bytes from file: Cannot allocate memory (12)"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    MemoryError(),
]


@pytest.mark.parametrize("error", SAID, ids=str)
def test_every_library_is_understood(error: Exception) -> None:
    assert memory.ran_out(error)


@pytest.mark.parametrize("error", SAID, ids=str)
def test_an_error_in_the_wake_of_one_is_one(error: Exception) -> None:
    def raised(cause: bool) -> Exception:
        try:
            try:
                raise error
            except Exception as first:  # as torch raises on leaving an invalid capture
                raise RuntimeError("operation failed due to a previous error") from (first if cause else None)
        except RuntimeError as found:
            return found

    assert memory.ran_out(raised(cause=True))
    implied = raised(cause=True)
    implied.__cause__, implied.__suppress_context__ = None, False
    assert memory.ran_out(implied)
    assert not memory.ran_out(raised(cause=False))  # `from None`: the first error does not matter


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm(...)`"),
        InputError("/data/out of memory.npz does not exist"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "photo.jpg"),
        AssertionError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not memory.ran_out(error)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_without_room_is_understood() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**45, dtype=torch.uint8, device="cuda")
    assert memory.ran_out(found.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("benchmark", [False, True])
def test_a_convolution_without_room_is_understood(monkeypatch: pytest.MonkeyPatch, benchmark: bool) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", benchmark)
    kernels = torch.randn(256, 256, 3, 3, device="cuda")

    def convolve_more_and_more() -> None:
        for images in range(1, 10_000):  # some number fits, without its workspace
            torch.nn.functional.conv2d(torch.empty(images, 256, 56, 56, device="cuda"), kernels)

    torch.cuda.set_per_process_memory_fraction(0.05)
    try:
        with pytest.raises(RuntimeError) as found:
            convolve_more_and_more()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert memory.ran_out(found.value)
