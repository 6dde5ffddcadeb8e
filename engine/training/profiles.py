"""The two kinds of arithmetic (a run's `profile`), and the settings of the process for each.

`exact`: float32, deterministic algorithms, the same bits on the same machine however a run was interrupted.
`fast`: bfloat16 autocast and channels_last; weights, gradients, statistics and pruning stay float32. On an Apple GPU
float32 throughout, not tried on one yet.
"""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from engine import __version__
from engine.machine import devices
from engine.recipes import Profile


def configure(profile: Profile, device: torch.device) -> None:
    """Apply the settings that are global to the process.

    CPU workers use one thread each, because two such workers are faster than one with two threads.
    """
    exact = profile == "exact"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    # As `use_deterministic_algorithms` does, without its import of torch's compiler, which takes seconds.
    torch.set_deterministic_debug_mode("error" if exact else "default")
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.deterministic = exact
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = not exact
        torch.backends.cudnn.allow_tf32 = not exact


def autocast(profile: Profile, device: torch.device) -> AbstractContextManager[None]:
    """The context for the forward pass: bfloat16 autocast in `fast`."""
    return torch.autocast(device.type, torch.bfloat16) if _mixes(profile, device) else nullcontext()


def _mixes(profile: Profile, device: torch.device) -> bool:
    return profile == "fast" and device.type != "mps"


def sums(device: torch.device) -> torch.dtype:
    """The precision in which losses are added up: float64, which an Apple GPU does not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def memory_format(profile: Profile) -> torch.memory_format:
    """The memory format of images and kernels."""
    return torch.channels_last if profile == "fast" else torch.contiguous_format


def environment(profile: Profile, device: torch.device) -> dict[str, object]:
    """The environment that a run records, by columns of the table `runs`."""
    cuda = device.type == "cuda"
    return {
        "device_name": device_name(device),
        "dtype": "bfloat16" if _mixes(profile, device) else "float32",
        "memory_format": "channels_last" if profile == "fast" else "contiguous",
        "threads": torch.get_num_threads(),
        "torch_version": str(torch.__version__),  # plain text
        "cudnn_version": str(torch.backends.cudnn.version()) if cuda else None,  # type: ignore[no-untyped-call]
        "cockpit_version": __version__,
    }


def device_name(device: torch.device) -> str:
    """The model of a card or of the CPU, as runs and workers record it."""
    name = devices.cpu_name()
    return (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{name} GPU" if device.type == "mps" else name
    )


def where(profile: Profile, device: torch.device) -> str:
    """The device and versions on which the same bits depend, as text; empty for a profile without that promise."""
    if profile != "exact":
        return ""
    about = environment(profile, device)
    # On the CPU torch chooses kernels by its instructions, and MKL by its maker.
    other = f"cuDNN {about['cudnn_version']}" if about["cudnn_version"] else torch.backends.cpu.get_cpu_capability()
    return f"{about['device_name']}, torch {about['torch_version']}, {other}"
